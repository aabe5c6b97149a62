"""Learning-rate schedules: the factor on the rate at an update."""

from __future__ import annotations

import math


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


def held_cosine_factor(progress: float, warmup: float = 0.05, held: float = 0.95) -> float:
    """The paper's on SHD: linear warm-up, then a cosine to zero, whose value near its end is held for ever.

    Args:
        progress: number of updates over those of the cosine; above 1 where training goes on.
        warmup: share of the cosine's updates with a rising rate.
        held: share of the cosine's updates from which on the rate stays (0.7% with the paper's numbers).
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (min(progress, held) - warmup) / (1.0 - warmup)))


def step_factor(update: int, updates: int) -> float:
    """0.8 times the rate after every tenth of the updates, as the paper has it after every hundred of a thousand."""
    return float(0.8 ** (10 * update // updates))
