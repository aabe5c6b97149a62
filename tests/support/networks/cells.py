"""Recurrent cells as people write them, small, for ``export_step``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export import export_step
from service.contract.artifact import Artifact
from service.models.model import Model
from service.runtime.onnx import load_graph

CHANNELS, HIDDEN, OUTPUTS = 3, 5, 2
LABELS = ["left", "right"]


class Lstm(nn.Module):
    """State: a dict of two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.readout = nn.LSTMCell(CHANNELS, HIDDEN), nn.Linear(HIDDEN, OUTPUTS)

    def step(self, state: dict[str, Tensor], x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        h, c = self.cell(x, (state["h"], state["c"]))
        return {"h": h, "c": c}, self.readout(h)

    @staticmethod
    def initial() -> dict[str, Tensor]:
        return {"h": torch.zeros(1, HIDDEN), "c": torch.zeros(1, HIDDEN)}


class Gru(nn.Module):
    """State: one tensor, which begins with values of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.readout = nn.GRUCell(CHANNELS, HIDDEN), nn.Linear(HIDDEN, OUTPUTS)

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(x, state)
        return h, self.readout(h)

    @staticmethod
    def initial() -> Tensor:
        return torch.linspace(-0.5, 0.5, HIDDEN)[None]


class DiagonalStateSpace(nn.Module):
    """A diagonal linear recurrence; real and imaginary parts are two tensors of a tuple."""

    def __init__(self) -> None:
        super().__init__()
        angle, radius = torch.rand(HIDDEN) * 3, 0.8 + 0.19 * torch.rand(HIDDEN)
        self.real, self.imaginary = nn.Parameter(radius * angle.cos()), nn.Parameter(radius * angle.sin())
        self.enter, self.readout = nn.Linear(CHANNELS, HIDDEN), nn.Linear(2 * HIDDEN, OUTPUTS)

    def step(self, state: tuple[Tensor, Tensor], x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        a, b = state
        after = (self.real * a - self.imaginary * b + self.enter(x), self.imaginary * a + self.real * b)
        return after, self.readout(torch.cat(after, -1).tanh())

    @staticmethod
    def initial() -> tuple[Tensor, Tensor]:
        return torch.zeros(1, HIDDEN), torch.zeros(1, HIDDEN)


class Images(nn.Module):
    """Takes an image a step; keeps a nested state with a bool and a float16 tensor, and a scalar a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.filter, self.readout = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(2, OUTPUTS)

    def step(self, state: Any, x: Tensor) -> tuple[Any, Tensor]:
        seen = state["seen"] | (x.amax((1, 2, 3)) > 1).unsqueeze(-1)
        kept = 0.9 * state["maps"][0] + self.filter(x)
        faint = (state["maps"][1].float() * 0.5 + x.mean((1, 2, 3)).unsqueeze(-1)).half()
        count = state["count"] + 1
        output = self.readout(kept.mean((2, 3))) + seen + faint.float() + count.unsqueeze(-1) * 0.01
        return {"seen": seen, "maps": [kept, faint], "count": count}, output

    @staticmethod
    def initial() -> Any:
        maps = [torch.zeros(1, 2, 4, 6), torch.zeros(1, 1, dtype=torch.float16)]
        return {"seen": torch.zeros(1, 1, dtype=torch.bool), "maps": maps, "count": torch.zeros(1)}


CELLS: dict[str, type[Any]] = {"lstm": Lstm, "gru": Gru, "ssm": DiagonalStateSpace, "images": Images}


def example_input(name: str) -> Tensor:
    """Of one stream, for a cell of ``CELLS``."""
    return torch.zeros(1, 1, 4, 6) if name == "images" else torch.zeros(1, CHANNELS)


def exported(cell: Any, out: Path, name: str = "gru", **options: Any) -> Model:
    """The artifact of a cell, opened, under ``out/NAME/1``."""
    folder = out / name / "1"
    request = {"example_input": example_input(name), "initial_state": cell.initial(), "labels": LABELS} | options
    export_step(cell, out=folder, **request)
    return Model(Artifact.open(folder), load_graph)
