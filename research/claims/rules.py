"""Claims and the rules that judge them, as data.

``paper_claims.py`` and ``our_claims.py`` have the claims, and ``verdicts.py`` applies the rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from research.claims.measures import DELETION_LOSS, FIGURE, MOST_DELETED, Measure, curve_point
from research.runs.names import NAMES
from research.runs.plan import BASE, NEURONS, Cell
from research.runs.run import NeuronModel

OTHERS: tuple[NeuronModel, ...] = ("hetneu", "alif", "homneu")
MIN_SEEDS = 3
SUCCESS = 0.9  # accuracy of a successful run, as in the paper
CEILING = 0.99  # where two groups are at least as accurate, a task cannot tell them apart
SAME_POINTS = 1.0
MOST_SEEDS = {"motion": 10}  # a seed is somebody left out, and the data has nobody else
SAME_FACTOR = 1.1


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        experiment: name.
        condition: name.
        model: neuron model.
        recurrent: architecture.
    """

    experiment: str
    condition: str
    model: NeuronModel
    recurrent: bool = True

    @property
    def cell(self) -> Cell:
        return Cell(self.model, self.recurrent)


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        group: its runs.
        measure: what is compared.
        label: in the report; the neuron model's name if empty.
        since: if there is one, the change of the measure from these runs to those of ``group``, seed by seed.
    """

    group: Group
    measure: Measure = FIGURE
    label: str = ""
    since: Group | None = None

    @property
    def groups(self) -> tuple[Group, ...]:
        return (self.group,) if self.since is None else (self.group, self.since)


@dataclass(frozen=True)
class Better:
    """The first side of every comparison is better than the second: t intervals on differences seed by seed."""

    comparisons: tuple[tuple[Side, Side], ...]


@dataclass(frozen=True)
class MoreSuccesses:
    """The first group of every comparison succeeds more often than the second: Fisher's exact test."""

    comparisons: tuple[tuple[Group, Group], ...]


@dataclass(frozen=True)
class Beyond:
    """The mean of one side is better than a goal, a number of its measure: t interval.

    Attributes:
        side: judged.
        goal: accuracy in [0, 1], error, factor.
    """

    side: Side
    goal: float


@dataclass(frozen=True)
class Within:
    """The mean of one side is in a range: two one-sided t tests.

    Attributes:
        side: judged.
        low: accuracy or share in [0, 1].
        high: likewise.
    """

    side: Side
    low: float
    high: float


@dataclass(frozen=True)
class Same:
    """Two sides are the same within a margin: two one-sided t tests on differences seed by seed.

    Attributes:
        sides: compared.
        margin: points, or updates; of errors, the logarithm of a factor.
    """

    sides: tuple[Side, Side]
    margin: float


@dataclass(frozen=True)
class TrainedValues:
    """The networks of a condition train as many values as Table 3's formulas say: arithmetic."""

    groups: tuple[Group, ...]


@dataclass(frozen=True)
class WithoutData:
    """The data cannot be had freely.

    Attributes:
        why: in words.
    """

    why: str


Rule = Better | MoreSuccesses | Beyond | Within | Same | TrainedValues | WithoutData


@dataclass(frozen=True)
class Claim:
    """A row of the report.

    Attributes:
        text: the claim in words.
        source: figure or table of the paper that claims it; empty for a question of this project.
        rule: that judges it.
        differs: how our runs differ from the paper's, or the place in the paper that a question of ours is after.
        without: why it cannot be judged where its experiment has no results; empty where anybody can run it.
    """

    text: str
    source: str
    rule: Rule
    differs: str = ""
    without: str = ""


def groups_of(rule: Rule) -> list[Group]:
    """The groups that a rule needs, each once."""
    if isinstance(rule, Better):
        return list(dict.fromkeys(group for pair in rule.comparisons for side in pair for group in side.groups))
    if isinstance(rule, MoreSuccesses):
        return list(dict.fromkeys(group for pair in rule.comparisons for group in pair))
    if isinstance(rule, Same):
        return list(dict.fromkeys(side.group for side in rule.sides))
    if isinstance(rule, Beyond | Within):
        return [rule.side.group]
    return list(rule.groups) if isinstance(rule, TrainedValues) else []


def describe(rule: Rule) -> str:
    """The rule in a few words, for the report; empty where nothing is judged."""
    if isinstance(rule, Better):
        first = rule.comparisons[0][0].measure
        what = "" if first == FIGURE or len({s.measure for pair in rule.comparisons for s in pair}) > 1 else first.name
        if rule.comparisons[0][0].since is not None:
            what = "change"
        how = {1: "better", 3: "better, three comparisons"}.get(len(rule.comparisons), "better, every comparison")
        return f"{how}; {what}" if what else how
    if isinstance(rule, MoreSuccesses):
        return "more successes, three comparisons"
    if isinstance(rule, Beyond):
        if rule.side.measure.unit is None:
            return f"mean above {rule.goal:.0%}"
        direction = "below" if rule.side.measure.unit == "error" else "above"
        return f"mean {direction} {rule.goal:g}; {rule.side.measure.name}"
    if isinstance(rule, Within):
        name = f"; {rule.side.measure.name}" if rule.side.measure.unit else ""
        return f"mean within {100 * rule.low:g} to {100 * rule.high:g}%{name}"
    if isinstance(rule, Same):
        if rule.sides[0].measure.unit == "error":
            return f"same within a factor of {math.exp(rule.margin):.3g}"
        unit = "updates" if rule.sides[0].measure.unit == "updates" else "point"
        return f"same within {rule.margin:g} {unit}"
    return "equal counts" if isinstance(rule, TrainedValues) else ""


def best(experiment: str, condition: str, recurrent: bool = True, measure: Measure = FIGURE) -> Better:
    """HetSyn is better than each of the three others."""
    own = Side(Group(experiment, condition, "hetsyn", recurrent), measure)
    return Better(tuple((own, Side(Group(experiment, condition, model, recurrent), measure)) for model in OTHERS))


def stable(experiment: str, condition: str) -> Better:
    """HetSyn loses the least to deleted spikes, and is the most accurate after: at chance nothing is left to lose."""
    own, *others = (Group(experiment, condition, model) for model in ("hetsyn", *OTHERS))
    after = [Side(group, MOST_DELETED, f"{NAMES[group.model]} {MOST_DELETED.name}") for group in (own, *others)]
    lost = [Side(group, DELETION_LOSS, f"{NAMES[group.model]} loss") for group in (own, *others)]
    return Better(tuple((sides[0], other) for sides in (lost, after) for other in sides[1:]))


def ordered(
    experiment: str, condition: str = BASE, models: Sequence[NeuronModel] = NEURONS, measure: Measure = FIGURE
) -> Better:
    """Each neuron model is better than the next."""
    sides = [Side(Group(experiment, condition, model), measure) for model in models]
    return Better(tuple(pairwise(sides)))


def best_throughout(experiment: str, condition: str, curve: str, points: Sequence[float]) -> Better:
    """HetSyn is better than each of the three others at each point of a test-time curve."""
    own, *others = (Group(experiment, condition, model) for model in ("hetsyn", *OTHERS))
    at = [curve_point(curve, point) for point in points]
    return Better(
        tuple(
            (Side(own, here), Side(other, here, f"{NAMES[other.model]}, {here.name}"))
            for here in at
            for other in others
        )
    )


def most_successes(condition: str, recurrent: bool) -> MoreSuccesses:
    """HetSyn succeeds in delayed match more often than each of the three others."""
    own = Group("delayed-match", condition, "hetsyn", recurrent)
    return MoreSuccesses(tuple((own, Group("delayed-match", condition, model, recurrent)) for model in OTHERS))


def kind_of(recurrent: bool) -> str:
    return "recurrent" if recurrent else "feedforward"


def hetsyn(experiment: str, condition: str, measure: Measure = FIGURE, label: str = "", recurrent: bool = True) -> Side:
    return Side(Group(experiment, condition, "hetsyn", recurrent), measure, label)
