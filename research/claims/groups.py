"""Finished runs by group, as the rules need them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from statistics import fmean

from research.claims.rules import MIN_SEEDS, Group
from research.runs.names import NAMES
from research.runs.results import RunResult


class NotYetRun(Exception):
    """A group that a claim needs has too few finished runs, or two of one seed."""


class Results:
    """Finished runs by group."""

    def __init__(self, results: Iterable[RunResult]) -> None:
        self._by_group: dict[tuple[str, str, str, bool], list[RunResult]] = {}
        for result in sorted(results, key=lambda result: result.key):
            self._by_group.setdefault(result.key[:4], []).append(result)

    def of(self, group: Group) -> list[RunResult]:
        """The runs of a group, by seed.

        Raises:
            NotYetRun: fewer than MIN_SEEDS, or two runs of one seed.
        """
        found = self._by_group.get((group.experiment, group.condition, group.model, group.recurrent), [])
        # by seed alone: in the order of the keys, other settings of one seed would pair it with another
        found = sorted(found, key=lambda result: int(result.run["seed"]))
        for one, other in pairwise(found):
            if (seed := one.run["seed"]) == other.run["seed"]:
                raise NotYetRun(
                    f"{group.condition}, {NAMES[group.model]}: two runs of seed {seed}; "
                    "delete the one of the earlier plan from the results"
                )
        if len(found) < MIN_SEEDS:
            raise NotYetRun(f"{group.condition}, {NAMES[group.model]}: {len(found)} of {MIN_SEEDS} seeds")
        return found

    def on_shared_seeds(self, groups: Iterable[Group]) -> dict[Group, list[RunResult]]:
        """The runs of groups on the seeds that all of them have.

        Raises:
            NotYetRun: fewer than MIN_SEEDS such seeds.
        """
        runs = {group: self.of(group) for group in groups}
        seeds = set.intersection(*({result.run["seed"] for result in found} for found in runs.values()))
        if len(seeds) < MIN_SEEDS:
            raise NotYetRun(f"{len(seeds)} of {MIN_SEEDS} seeds that all have: {_named(runs)}")
        return {group: [r for r in found if r.run["seed"] in seeds] for group, found in runs.items()}

    def count(self, group: Group) -> int:
        """Finished runs of a group, also if too few for a claim."""
        return len(self._by_group.get((group.experiment, group.condition, group.model, group.recurrent), []))

    def has(self, experiment: str) -> bool:
        return any(key[0] == experiment for key in self._by_group)

    def hours_to(self, group: Group, seeds: int) -> float:
        """Core hours until a group has so many runs, from those that are kept; 0 where there are none."""
        kept = self._by_group.get((group.experiment, group.condition, group.model, group.recurrent), [])
        return max(0, seeds - len(kept)) * fmean(result.seconds for result in kept) / 3600 if kept else 0.0


def _named(groups: Iterable[Group]) -> str:
    return ", ".join(f"{group.condition}, {NAMES[group.model]}" for group in groups)
