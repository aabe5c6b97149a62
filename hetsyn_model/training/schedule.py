"""Schedules: the factor on the learning rate at an update, and the spread of the delays."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hetsyn_model.spec import SpecError


@dataclass(frozen=True)
class DelayTraining:
    """How delays are learned (DelRec, arXiv 2509.24852): a spike is spread over delays, ever less, then not at all.

    Attributes:
        rate: learning rate of the delays, in steps, where the schedule's factor is 1.
        spread_steps: spread of a spike at first.
        settled: last share of the updates, in which delays are whole steps, as served, and no longer learn.
    """

    rate: float = 0.05
    spread_steps: float = 10.0
    settled: float = 0.25

    def __post_init__(self) -> None:
        if not self.rate > 0 or self.spread_steps < 0 or not 0 < self.settled <= 1:
            raise SpecError("give a rate above 0, spread_steps of 0 or more, and settled above 0 and at most 1")

    def spread(self, progress: float) -> float | None:
        """The spread in steps at a share of all updates, in [0, 1]; None once the delays have settled.

        It falls to 0.6% of ``spread_steps``, by 5% with each hundredth of the updates before they settle.
        """
        learning = 1.0 - self.settled
        return None if progress >= learning else self.spread_steps * 0.95 ** (100.0 * progress / learning)


def cosine_factor(progress: float, warmup: float = 0.05, final: float = 0.05) -> float:
    """Linear warm-up, cosine, and a constant end at 2%.

    Args:
        progress: share of all updates, in [0, 1].
        warmup: share of the updates with a rising rate.
        final: share of the updates with the constant last rate.
    """
    if progress < warmup:
        return progress / warmup
    span = 1.0 - warmup - final
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - warmup) / span)))
