"""A batch of streams with their targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.events import Events

Spikes = NDArray[np.bool_]  # [b, t, i]


@dataclass(frozen=True)
class Batch:
    """Streams with their targets.

    Attributes:
        events: the spikes of [b, longest, channels].
        steps: int64 [b], length of each stream.
        target: classes int64 [b], or a trace float32 [b, t, outputs].
    """

    events: Events
    steps: Tensor
    target: Tensor

    @staticmethod
    def of(spikes: Spikes, target: Tensor) -> Batch:
        """Make a batch of streams of one length from dense spikes [b, t, i]."""
        events = Events.of(torch.from_numpy(np.ascontiguousarray(spikes)))
        return Batch(events, torch.full((spikes.shape[0],), spikes.shape[1], dtype=torch.int64), target)

    def dense(self) -> Spikes:
        return self.events.dense().cpu().numpy() > 0

    def streams(self, first: int, last: int) -> Batch:
        """Return the streams ``first`` to ``last`` (excluded)."""
        part = slice(first, last)
        return Batch(self.events.streams(first, last), self.steps[part], self.target[part])

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.events.to(device), self.steps.to(device), self.target.to(device))
