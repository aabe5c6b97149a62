"""Schedules of the learning rate and of the delays' spread."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hetsyn_model.spec import SpecError


@dataclass(frozen=True)
class DelayTraining:
    """The schedule of learned delays (DelRec, arXiv 2509.24852): a spike is spread over delays, less and less.

    Attributes:
        rate: learning rate of the delays, in steps, at a schedule of 1.
        spread_steps: initial spread of a spike.
        settled: last share of the updates: delays are whole steps, as served, and no longer learn.
    """

    rate: float = 0.05
    spread_steps: float = 10.0
    settled: float = 0.25

    def __post_init__(self) -> None:
        if not self.rate > 0 or self.spread_steps < 0 or not 0 < self.settled <= 1:
            raise SpecError("give a rate above 0, spread_steps of 0 or more, and settled above 0 and at most 1")

    def spread(self, progress: float) -> float | None:
        """Compute the spread in steps after a share ``progress`` of the updates; None once the delays have settled.

        It falls to 0.6% of ``spread_steps``, by 5% in each hundredth of the updates before.
        """
        learning = 1.0 - self.settled
        return None if progress >= learning else self.spread_steps * 0.95 ** (100.0 * progress / learning)


def cosine_factor(progress: float, warmup: float = 0.05, final: float = 0.05) -> float:
    """Compute the factor on the learning rate: linear warm-up, cosine, and a constant end at 2%.

    ``progress``, ``warmup`` and ``final`` (the constant end) are shares of all updates.
    """
    if progress < warmup:
        return progress / warmup
    span = 1.0 - warmup - final
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - warmup) / span)))
