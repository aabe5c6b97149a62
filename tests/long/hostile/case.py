"""What a case is: an attack, what it measures, and the bound that a server has to keep."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.long.hostile.stage import Checkout, Stage

FIRST_COMMIT = "bc4ebb1"  # of the tree that the column "first" was measured on

TIMED = ("_ms", "_without")  # ends of the names of such figures

Figure = float | int | str
RELATIONS: Mapping[str, Callable[[Figure, Figure], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
}


class Skipped(Exception):
    """The case cannot run on this machine. The message says what is missing."""


class Verdict(StrEnum):
    held = "held"
    broken = "BROKEN"
    skipped = "skipped"


@dataclass(frozen=True)
class Bound:
    """A bound of a figure.

    Attributes:
        relation: of the figure to the limit: ``<=``, ``>=`` or ``=``.
        limit: a number, or the only text that is right.
    """

    relation: str
    limit: Figure

    def holds(self, figure: Figure) -> bool:
        """Whether a figure keeps it. A text never keeps the bound of a number, and the other way round."""
        return isinstance(figure, str) == isinstance(self.limit, str) and RELATIONS[self.relation](figure, self.limit)

    def __str__(self) -> str:
        return f"{self.relation} {self.limit:,}" if not isinstance(self.limit, str) else f"{self.relation} {self.limit}"


def at_most(limit: float) -> Bound:
    return Bound("<=", limit)


def at_least(limit: float) -> Bound:
    return Bound(">=", limit)


def exactly(limit: Figure) -> Bound:
    return Bound("=", limit)


@dataclass(frozen=True)
class Case:
    """An attack on a server.

    Attributes:
        name: in lower case, with hyphens; the area first.
        defect: what breaks without a defence, in one sentence.
        attack: attacks the servers that it starts on a stage; the figures by name, with the unit in the name.
        bounds: by figure, what a server that held keeps. Figures without a bound are for information.
        first: figures of the first measurement, on ``FIRST_COMMIT``, where there are any.
    """

    name: str
    defect: str
    attack: Callable[[Stage], Mapping[str, Figure]]
    bounds: Mapping[str, Bound]
    first: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def is_timed(self) -> bool:
        """Whether a bound depends on what else the machine does, so that the case has to run alone."""
        return any(name.endswith(TIMED) for name in self.bounds)


@dataclass(frozen=True)
class Measured:
    """What a case came to on one side.

    Attributes:
        verdict: whether the server held.
        reason: why it was skipped, or which bounds are broken; empty if it held.
    """

    verdict: Verdict
    figures: Mapping[str, Figure]
    seconds: float
    reason: str = ""


def measure(case: Case, checkout: Checkout, folder: Path, *, is_quick: bool) -> Measured:
    """Run a case against the servers of a checkout, and end them.

    An error in the attack counts as broken: most often the server has gone, or answers no more.
    """
    began_s = time.monotonic()
    try:
        with Stage(checkout, folder, is_quick=is_quick) as stage:
            figures = dict(case.attack(stage))
    except Skipped as skipped:
        return Measured(Verdict.skipped, {}, time.monotonic() - began_s, str(skipped))
    except Exception as error:  # whatever the attack meets
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        return Measured(Verdict.broken, {}, time.monotonic() - began_s, reason)
    return judge(case, figures, time.monotonic() - began_s)


def judge(case: Case, figures: Mapping[str, Figure], seconds: float) -> Measured:
    """The verdict on the figures of an attack."""
    broken = [
        f"{name} is {figures.get(name, 'missing')}, not {bound}"
        for name, bound in case.bounds.items()
        if name not in figures or not bound.holds(figures[name])
    ]
    rounded = {name: round(figure, 5) if isinstance(figure, float) else figure for name, figure in figures.items()}
    return Measured(Verdict.broken if broken else Verdict.held, rounded, seconds, "; ".join(broken))
