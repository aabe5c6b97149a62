"""Exports one step as TorchScript, for users of torch or LibTorch.

    outputs = script(input [batch, channels], *states)   readout, one spikes tensor a hidden layer, *next states

States go in and out in the order of the manifest's layout. A foreign step shows no hidden layers.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hetsyn_model.compiled import Compiled
from hetsyn_model.spec.errors import ModelError
from hetsyn_model.state import StateTensor, initial_state
from hetsyn_model.step import step


class ScriptError(ModelError):
    """A step that TorchScript cannot hold; the message says why."""

    code = "no-torchscript"


class NetworkScript(nn.Module):
    """A network's step."""

    def __init__(self, compiled: Compiled) -> None:
        super().__init__()
        self._compiled = compiled.detach()  # a trace has the weights as constants, which must not need gradients
        self._names = [tensor.name for tensor in compiled.layout]

    def forward(self, spikes: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        after, output = step(self._compiled, dict(zip(self._names, states, strict=True)), spikes)
        return (output.readout, *output.hidden_spikes, *(after[name] for name in self._names))


def torchscript(compiled: Compiled) -> bytes:
    """Trace and serialise the step of a network, for any batch."""
    return traced(NetworkScript(compiled), compiled.layout, compiled.spec.channels)


@torch.no_grad()
def traced(module: nn.Module, layout: Sequence[StateTensor], channels: int) -> bytes:
    """Trace and serialise a step."""
    states = initial_state(layout, 2)
    with warnings.catch_warnings():
        # TorchScript is deprecated without a removal date, and LibTorch users still load it; the warning depends on
        # torch's version
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        made = torch.jit.trace(module, (torch.zeros(2, channels), *states.values()), check_trace=False)
        buffer = io.BytesIO()
        torch.jit.save(made, buffer)
    return without_sources(buffer.getvalue())


def without_sources(content: bytes) -> bytes:
    """Remove the names of the traced Python files from TorchScript."""
    shorter = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(shorter, "w") as kept:
        for entry in archive.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(zipfile.ZipInfo(entry.filename), archive.read(entry))
    return shorter.getvalue()


def load_torchscript(content: bytes) -> torch.jit.ScriptModule:
    """Load a step from its bytes.

    Raises:
        ValueError: the TorchScript is no module.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        loaded = torch.jit.load(io.BytesIO(content))
    if not isinstance(loaded, torch.jit.ScriptModule):
        raise ValueError(f"TorchScript of a {type(loaded).__name__}, not of a module")
    return loaded
