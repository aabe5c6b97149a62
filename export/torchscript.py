"""One step of a network as TorchScript, for users who stay in torch or LibTorch.

    outputs = script(spikes [batch, channels], *states)   readout, one spikes tensor a hidden layer, *next states

States come in the order of the manifest's layout and go out in the same.
"""

from __future__ import annotations

import copy
import io
import warnings

import torch
from torch import Tensor, nn

from hetsyn_model.network import Network, step
from hetsyn_model.state import Form, initial_state


class _Step(nn.Module):
    def __init__(self, network: Network, form: Form) -> None:
        super().__init__()
        self._spec, self._names = network.spec, [tensor.name for tensor in network.state_layout(form)]
        # a trace holds the weights as constants, which must not want gradients
        self._weights = copy.deepcopy(network).requires_grad_(False).weights(form)

    def forward(self, spikes: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        after, output = step(self._spec, self._weights, dict(zip(self._names, states, strict=True)), spikes)
        return (output.readout, *output.hidden_spikes, *(after[name] for name in self._names))


@torch.no_grad()
def torchscript(network: Network, form: Form) -> bytes:
    """The step in one form, traced and serialised; any batch."""
    states = initial_state(network.state_layout(form), 2, network.dtype)
    spikes = torch.zeros(2, network.spec.channels, dtype=network.dtype)
    with warnings.catch_warnings():
        # TorchScript is deprecated without a removal date (which warning says so depends on torch's version), and still
        # what LibTorch users load
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        traced = torch.jit.trace(_Step(network, form), (spikes, *states.values()), check_trace=False)  # type: ignore[no-untyped-call]
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
    return buffer.getvalue()


def load_torchscript(content: bytes) -> torch.jit.ScriptModule:
    """A step from its bytes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        loaded = torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]
    assert isinstance(loaded, torch.jit.ScriptModule)
    return loaded
