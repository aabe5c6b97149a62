"""Two sides of a comparison, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from research.claims import statistics, wording
from research.claims.groups import Results
from research.claims.measures import Measure, Unit
from research.claims.needed import Open
from research.claims.relations import Relation, relation
from research.claims.rules import CEILING, SAME_FACTOR, SAME_POINTS, Group, Side
from research.claims.statistics import ALPHA
from research.claims.wording import interval_text
from research.runs.results import RunResult

MARGIN: dict[Unit, float] = {"points": SAME_POINTS, "error": math.log(SAME_FACTOR), "factor": math.log(SAME_FACTOR)}


@dataclass(frozen=True)
class Pair:
    """Two sides on the same seeds."""

    a: Side
    b: Side
    runs_a: list[RunResult]
    runs_b: list[RunResult]
    since_a: list[RunResult] | None = None
    since_b: list[RunResult] | None = None

    @classmethod
    def of(cls, a: Side, b: Side, results: Results) -> Pair:
        """The pair on the seeds that all groups of both sides have.

        Raises:
            NotYetRun: there are too few.
        """
        runs = results.on_shared_seeds(dict.fromkeys((*a.groups, *b.groups)))
        since_a, since_b = (None if side.since is None else runs[side.since] for side in (a, b))
        return cls(a, b, runs[a.group], runs[b.group], since_a, since_b)

    @property
    def groups(self) -> tuple[Group, ...]:
        return tuple(dict.fromkeys((*self.a.groups, *self.b.groups)))

    @property
    def unit(self) -> Unit:
        return self.a.measure.unit_of(self.runs_a[0])

    @property
    def differences(self) -> list[float]:
        """Of the first side over the second, more is better."""
        scores_a, scores_b = (
            scores(self.a.measure, self.runs_a, self.since_a),
            scores(self.b.measure, self.runs_b, self.since_b),
        )
        return [a - b for a, b in zip(scores_a, scores_b, strict=True)]

    @property
    def resolution(self) -> float:
        return max(self.a.measure.resolution(self.runs_a[0]), self.b.measure.resolution(self.runs_b[0]))

    @property
    def at_ceiling(self) -> bool:
        means = (_mean(self.a.measure, self.runs_a), _mean(self.b.measure, self.runs_b))
        is_accuracy = self.a.measure.unit is None and self.unit == "points" and self.since_a is None
        return is_accuracy and min(means) >= CEILING

    @property
    def has_seeds_without_either(self) -> bool:
        """Whether there is a seed on which neither side has a number of its own."""
        reached_a, reached_b = self.a.measure.is_reached, self.b.measure.is_reached
        return any(not (reached_a(a) or reached_b(b)) for a, b in zip(self.runs_a, self.runs_b, strict=True))

    def relation(self, alpha: float, same_alpha: float) -> Relation:
        return relation(
            self.differences,
            alpha,
            margin=MARGIN.get(self.unit, 0.0),
            same_alpha=same_alpha,
            resolution=self.resolution,
            at_ceiling=self.at_ceiling,
        )

    def interval_text(self, level: float) -> str:
        text = interval_text(statistics.t_interval(self.differences, level, self.resolution), self.unit)
        if self.unit == "mse":  # as it is, a single run may weigh as much as all others
            text += f", by signed ranks p = {statistics.signed_rank_test(self.differences):.2g}"
        return text

    def found_text(self, alpha: float, margin: float = 0.0) -> str:
        """The smallest difference that these seeds show to be above a margin, with 80% power."""
        return found_text(self.differences, alpha, self.unit, self.resolution, margin)

    def to_decide(self, alpha: float) -> Open:
        """What shows a difference, or that there is none to speak of, whichever takes fewer seeds."""
        effect, spread = fmean(self.differences), statistics.deviation(self.differences, self.resolution)
        different = statistics.seeds_for_difference(effect, spread, alpha)
        same = statistics.seeds_for_equivalence(effect, spread, MARGIN.get(self.unit, 0.0), alpha)
        seeds = min((found for found in (different, same) if found is not None), default=None)
        return Open(seeds, self.groups, ends_claim=effect <= 0 or (same is not None and seeds == same))

    def seeds_for_margin(self, margin: float) -> int | None:
        """Seeds that show what was seen: the same within the margin, or a difference beyond it."""
        effect, spread = fmean(self.differences), statistics.deviation(self.differences, self.resolution)
        if abs(effect) < margin:
            return statistics.seeds_for_equivalence(effect, spread, margin)
        return statistics.seeds_for_difference(abs(effect) - margin, spread, 2 * ALPHA)


def found_text(values: Sequence[float], alpha: float, unit: Unit, resolution: float, margin: float = 0.0) -> str:
    """The smallest difference of a mean that so many values show to be above a margin, with 80% power.

    They are taken to spread as these do.
    """
    spread = statistics.deviation(values, resolution)
    return wording.found_text(margin + statistics.found_difference(len(values), spread, alpha), unit)


def scores(measure: Measure, runs: Sequence[RunResult], since: Sequence[RunResult] | None) -> list[float]:
    """The score of each run, or its change since the run of the same seed."""
    now = [measure.score(result) for result in runs]
    if since is None:
        return now
    return [score - measure.score(before) for score, before in zip(now, since, strict=True)]


def _mean(measure: Measure, runs: Sequence[RunResult]) -> float:
    return fmean(measure.of(result) for result in runs)
