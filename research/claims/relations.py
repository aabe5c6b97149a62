"""What differences seed by seed say: pure functions of numbers, for the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from research.claims import statistics
from research.claims.statistics import ALPHA

ClaimVerdict = Literal["supported", "contradicted", "inconclusive", "ceiling", "not testable here", "not yet run"]
Relation = Literal["better", "worse", "same", "ceiling", "undecided"]


def relation(
    differences: Sequence[float],
    alpha: float,
    *,
    margin: float = 0.0,
    same_alpha: float = ALPHA,
    resolution: float = 0.0,
    at_ceiling: bool = False,
) -> Relation:
    """What differences seed by seed say; more is better.

    Args:
        differences: one a seed.
        alpha: of the difference, from Holm's procedure.
        margin: within which two sides are the same; 0 where there is none.
        same_alpha: of each of the two one-sided tests of that.
        resolution: see :func:`research.claims.statistics.t_interval`.
        at_ceiling: whether both sides are too near to the best possible figure to differ.
    """
    interval = statistics.t_interval(differences, 1 - alpha, resolution)
    if interval.above(0):
        return "better"
    if interval.below(0):
        return "worse"
    if at_ceiling:
        return "ceiling"
    if statistics.t_interval(differences, 1 - 2 * same_alpha, resolution).within(margin):
        return "same"
    return "undecided"


def all_better(relations: Sequence[Relation]) -> ClaimVerdict:
    """The verdict on "better in every comparison"."""
    if "worse" in relations or "same" in relations:
        return "contradicted"
    if all(relation == "better" for relation in relations):
        return "supported"
    return "ceiling" if "ceiling" in relations else "inconclusive"


def same_within(
    differences: Sequence[float], margin: float, resolution: float = 0.0, at_ceiling: bool = False
) -> ClaimVerdict:
    """The verdict on "the same within a margin": two one-sided tests, as an interval of level 1 - 2 ALPHA."""
    interval = statistics.t_interval(differences, 1 - 2 * ALPHA, resolution)
    if interval.above(margin) or interval.below(-margin):
        return "contradicted"
    if at_ceiling:
        return "ceiling"
    return "supported" if interval.within(margin) else "inconclusive"
