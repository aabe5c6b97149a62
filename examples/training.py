"""A toy task and a training loop for the cells of this folder: which of two groups of channels fires first?"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

CHANNELS, STEPS = 8, 24
LABELS = ["first half", "second half"]
BURST_STEPS, BURST, BACKGROUND = 5, 0.6, 0.03  # spikes a step and channel


class Cell(Protocol):
    """A step with its state before the first step, [1, ...] each."""

    def initial_state(self) -> Any: ...

    def step(self, state: Any, x: Tensor) -> tuple[Any, Tensor]: ...


def draw(streams: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Spikes [streams, STEPS, CHANNELS] with one burst in each half of the channels, and which half is the first."""
    label = torch.randint(2, (streams,), generator=generator)
    chance = torch.full((streams, STEPS, CHANNELS), BACKGROUND)
    for stream, first in enumerate(label.tolist()):
        for order, half in enumerate((first, 1 - first)):
            begin = 2 + order * (BURST_STEPS + 4)
            chance[stream, begin : begin + BURST_STEPS, half * CHANNELS // 2 : (half + 1) * CHANNELS // 2] = BURST
    return (torch.rand(chance.shape, generator=generator) < chance).float(), label


def rollout(cell: Cell, x: Tensor) -> Tensor:
    """Compute the outputs [streams, steps, outputs] of whole streams."""
    state = _repeated(cell.initial_state(), len(x))
    outputs = []
    for row in x.unbind(1):
        state, output = cell.step(state, row)
        outputs.append(output)
    return torch.stack(outputs, 1)


def _repeated(state: Any, streams: int) -> Any:
    if isinstance(state, Tensor):
        return state.repeat(streams, *[1] * (state.dim() - 1))
    if isinstance(state, dict):
        return {name: _repeated(part, streams) for name, part in state.items()}
    return tuple(_repeated(part, streams) for part in state)


def spike(excess: Tensor, slope: float = 4.0) -> Tensor:
    """Return 1 above the threshold and 0 below. The gradient is that of a logistic function."""
    soft = torch.sigmoid(slope * excess)
    return (excess >= 0).float() + (soft - soft.detach())


def train(cell: Cell, updates: int, learning_rate: float = 1e-2, last_steps: int = 8) -> float:
    """Train on the mean output of the last steps.

    Returns:
        The share of 256 new streams that get their class.
    """
    assert isinstance(cell, nn.Module)
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(cell.parameters(), learning_rate)
    for _ in range(updates):
        x, label = draw(32, generator)
        loss = nn.functional.cross_entropy(rollout(cell, x)[:, -last_steps:].mean(1), label)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(cell.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        x, label = draw(256, generator)
        found = rollout(cell, x)[:, -last_steps:].mean(1).argmax(-1)
    return float((found == label).float().mean())
