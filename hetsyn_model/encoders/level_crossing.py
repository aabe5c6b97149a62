"""Encodes rows of values as spikes: a channel fires when it crosses one of its levels.

    y_c(t)     = (x_c(t) - offset_c) * scale_c                    float64
    up_cl(t)   = y_c(t) >  theta_l and y_c(t-1) <= theta_l        one spike channel a channel, level and direction
    down_cl(t) = y_c(t) <= theta_l and y_c(t-1) >  theta_l

The levels lie evenly between -1 and 1, the channel's usual range after offset and scale. Before the first row a channel
is below all levels, so the first row's spikes tell its value. A row is a step. There are one subtraction and one
product in float64, then comparisons: every implementation gives the same spikes, however a series is cut.

Spike channels are ordered direction (up, down), channel, level, as in :mod:`hetsyn_model.encoders.encoder`. Index
letters: b stream, t step, c channel, l level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.spec import SpecError

BELOW_ALL = -1e30  # y before the first row
KIND = "values"


@dataclass(frozen=True)
class LevelCrossingSpec:
    """The encoder's settings.

    Attributes:
        step_s: time from one row to the next.
        offset: [inputs], in each channel's unit.
        scale: [inputs], per unit; 0 for a channel that never changes.
    """

    levels: int
    step_s: float
    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise SpecError(f"encoder.values.levels: {self.levels} is below 1")
        if not self.step_s > 0:
            raise SpecError(f"encoder.values.step_s: {self.step_s} is not above 0")
        if not self.offset or len(self.offset) != len(self.scale):
            raise SpecError(f"encoder: {len(self.offset)} offsets and {len(self.scale)} scales, not one a channel")
        if not all(map(math.isfinite, (*self.offset, *self.scale))):
            raise SpecError("encoder: an offset or a scale is not finite")

    @property
    def inputs(self) -> int:
        """Count the numbers in a row."""
        return len(self.offset)

    @property
    def channels(self) -> int:
        """Count the spike channels."""
        return 2 * self.inputs * self.levels

    def thresholds(self) -> NDArray[np.float64]:
        """Return the thresholds [levels], from the highest down."""
        return np.asarray(1.0 - (2.0 * np.arange(self.levels) + 1.0) / self.levels)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "levels": self.levels,
            "step_s": self.step_s,
            "offset": list(self.offset),
            "scale": list(self.scale),
        }

    @staticmethod
    def learn(
        series: Sequence[NDArray[np.float32]], *, levels: int, step_s: float, quantile: float
    ) -> LevelCrossingSpec:
        """Fit offsets and scales to training data, each [steps, channels]; few outliers do not matter.

        Args:
            quantile: share of a channel's values below -1, and above 1.
        """
        rows = np.concatenate(series).astype(np.float64)
        low, high = np.quantile(rows, [quantile, 1.0 - quantile], axis=0)
        rare = low == high  # a channel that seldom leaves one value: its outliers are the information
        low, high = np.where(rare, rows.min(0), low), np.where(rare, rows.max(0), high)
        span = high - low
        scale = np.divide(2.0, span, out=np.zeros_like(span), where=span > 0)
        return LevelCrossingSpec(levels, step_s, tuple(((low + high) / 2).tolist()), tuple(scale.tolist()))


AnyEncoderSpec: TypeAlias = EncoderSpec | LevelCrossingSpec


def encoder_from_dict(values: Mapping[str, Any]) -> AnyEncoderSpec:
    """Make the description of an encoder from the values of its ``to_dict``.

    Raises:
        SpecError: a value is out of range.
        KeyError: a field of an encoder of values is missing.
        TypeError: a field is unknown.
    """
    if values.get("kind") != KIND:
        return EncoderSpec(**values)
    return LevelCrossingSpec(
        int(values["levels"]), float(values["step_s"]), tuple(values["offset"]), tuple(values["scale"])
    )


class LevelCrossing(nn.Module):
    """The encoder, in torch; the exported graph computes the same (``export/graphs/level_crossing_graph.py``)."""

    offset: Tensor
    scale: Tensor
    thresholds: Tensor

    def __init__(self, spec: LevelCrossingSpec) -> None:
        super().__init__()
        self.spec = spec
        for name, values in (("offset", spec.offset), ("scale", spec.scale), ("thresholds", spec.thresholds())):
            self.register_buffer(name, torch.as_tensor(values, dtype=torch.float64))

    def initial_state(self, batch: int) -> Tensor:
        """Return y before the first row, float64 [batch, inputs]."""
        return self.offset.new_full((batch, self.spec.inputs), BELOW_ALL)

    def step(self, values: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Encode rows [b, steps, inputs] to spikes, uint8 [b, steps, channels]. Returns these, and y after them.

        ``state`` is y after the rows before, float64 [b, inputs].
        """
        batch, steps, _ = values.shape
        y = (values.to(torch.float64) - self.offset) * self.scale
        all_y = torch.cat([state.unsqueeze(1), y], 1)
        above = all_y.unsqueeze(-1) > self.thresholds
        now, before = above[:, 1:], above[:, :-1]
        spikes = torch.stack([now & ~before, ~now & before], 2)
        return spikes.reshape(batch, steps, self.spec.channels).to(torch.uint8), all_y[:, -1]
