"""Test figures by epoch: what the best epoch by test flatters, and what nobody chose.

The paper's figure on SHD is that of the best epoch by test. A network that is chosen so has seen its test. The mean
over the late epochs, the last epoch, and the epoch that validation data chose have not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from research.claims.measures import Measure
from research.claims.tables import table
from research.claims.wording import spread
from research.runs.names import NAMES
from research.runs.plan import Condition
from research.runs.results import RunResult

LATE = 0.4  # share of the evaluations before the late ones: 40 of 100 epochs


def _figures(result: RunResult) -> list[float]:
    return [figure for _, figure in result.analysis["test_by_epoch"]]


def late_mean(result: RunResult) -> float:
    """Mean test figure of the epochs from 40 (of 100, from 0) on."""
    figures = _figures(result)
    return fmean(figures[min(round(LATE * len(figures)), len(figures) - 1) :])


BEST_BY_TEST = Measure("best epoch by test", lambda result: max(_figures(result)), "points")
LATE_MEAN = Measure("mean over the last 60% of the epochs", late_mean, "points")

_COLUMNS: tuple[tuple[str, Callable[[RunResult], float]], ...] = (
    ("kept network", lambda result: result.figure),
    ("the same, exact form", lambda result: float(result.exact["figure"])),
    ("last epoch", lambda result: _figures(result)[-1]),
    ("mean of epochs 40 to 99 of 100", late_mean),
    ("best epoch by test (optimistic)", BEST_BY_TEST.of),
)


def by_epoch_table(groups: Sequence[tuple[Condition, str, bool, list[RunResult]]]) -> str:
    """The table of the conditions that test at each evaluation; empty if none has runs."""
    rows = []
    for condition, model, _, group in groups:
        if all("test_by_epoch" in result.analysis for result in group):
            figures = [spread(group[0].metric, [of(result) for result in group]) for _, of in _COLUMNS]
            training = condition.training
            chosen = "last epoch" if training is not None and training.choose == "last" else "by validation"
            rows.append((condition.name, NAMES[model], str(len(group)), chosen, *figures))
    head = ("test accuracy", "model", "seeds", "kept", *(name for name, _ in _COLUMNS))
    return table(head, rows) + "\n" if rows else ""
