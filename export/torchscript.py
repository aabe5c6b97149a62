"""One step of a network as TorchScript, for users who stay in torch or LibTorch.

    outputs = script(spikes [batch, channels], *states)   readout, one spikes tensor a hidden layer, *next states

States come in the order of the manifest's layout and go out in the same.
"""

from __future__ import annotations

import io
import warnings
import zipfile

import torch
from torch import Tensor, nn

from hetsyn_model.compiled import Compiled
from hetsyn_model.state import initial_state
from hetsyn_model.step import step


class _Step(nn.Module):
    def __init__(self, compiled: Compiled) -> None:
        super().__init__()
        self._compiled = compiled.detach()  # a trace holds the weights as constants, which must not want gradients
        self._names = [tensor.name for tensor in compiled.layout]

    def forward(self, spikes: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        after, output = step(self._compiled, dict(zip(self._names, states, strict=True)), spikes)
        return (output.readout, *output.hidden_spikes, *(after[name] for name in self._names))


@torch.no_grad()
def torchscript(compiled: Compiled) -> bytes:
    """The step in one form, traced and serialised; any batch."""
    states = initial_state(compiled.layout, 2, compiled.dtype)
    spikes = torch.zeros(2, compiled.spec.channels, dtype=compiled.dtype)
    with warnings.catch_warnings():
        # TorchScript is deprecated without a removal date (which warning says so depends on torch's version), and still
        # what LibTorch users load
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        traced = torch.jit.trace(_Step(compiled), (spikes, *states.values()), check_trace=False)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
    return without_sources(buffer.getvalue())


def without_sources(content: bytes) -> bytes:
    """TorchScript without the names of the Python files that it was traced from, on the exporter's machine."""
    shorter = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(shorter, "w") as kept:
        for entry in archive.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(zipfile.ZipInfo(entry.filename), archive.read(entry))
    return shorter.getvalue()


def load_torchscript(content: bytes) -> torch.jit.ScriptModule:
    """A step from its bytes.

    Raises:
        ValueError: TorchScript of something else than a module.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        loaded = torch.jit.load(io.BytesIO(content))
    if not isinstance(loaded, torch.jit.ScriptModule):
        raise ValueError(f"TorchScript of a {type(loaded).__name__}, not of a module")
    return loaded
