"""What an open verdict still needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from research.claims.groups import Results
from research.claims.relations import ClaimVerdict
from research.claims.rules import MOST_SEEDS, Group


class Open(NamedTuple):
    """A comparison that is not decided.

    Attributes:
        seeds: for 80% power at the effect seen; None where the search for them ended.
        groups: that need them.
        ends_claim: whether the claim is decided too if this comparison turns out as seen: "better in every comparison"
            falls with one.
    """

    seeds: int | None
    groups: tuple[Group, ...]
    ends_claim: bool = False


def needed(verdict: ClaimVerdict, found: Sequence[Open], most: int, results: Results) -> tuple[str, float]:
    """Seeds that an open verdict needs, and the core hours of those that have not run.

    Args:
        verdict: of the claim.
        found: its open comparisons.
        most: seeds where the search for them ends.
        results: that are kept.
    """
    if verdict != "inconclusive":
        return "", 0.0
    ends = [one for one in found if one.ends_claim and one.seeds is not None]
    taken = [min(ends, key=lambda one: one.seeds or 0)] if ends else found
    counts = [one.seeds for one in taken if one.seeds is not None]
    if len(counts) < len(taken):
        return f"above {most:,}", 0.0
    seeds = max(counts)
    groups = list(dict.fromkeys(group for one in taken for group in one.groups))
    possible = min(MOST_SEEDS.get(group.experiment, seeds) for group in groups)
    if possible < seeds:
        return f"{seeds}, and there are {possible}", 0.0
    return str(seeds), sum(results.hours_to(group, seeds) for group in groups)
