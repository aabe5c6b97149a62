"""``make report``: docs/experiments.md, its pictures and the table of all comparisons, from the kept results alone."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean

import pandas as pd

from research.worth import pictures
from research.worth.judge import (
    UNDEFINED,
    Comparison,
    Found,
    Groups,
    Judged,
    NoRuns,
    Side,
    compare,
    grouped,
    judge,
    turning,
)
from research.worth.measures import RESULTS, read_results
from research.worth.sentences import read_sentences

PAGE = Path(__file__).resolve().parents[2] / "docs/experiments.md"
TEXT = Path(__file__).with_name("page.txt")
TABLE = "comparisons.csv"


def build(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the page, and a folder of its name with the pictures and the table; what was there goes."""
    groups = grouped(read_results(results))
    judged, related = (judge(sentences, groups) for sentences in read_sentences())
    folder = page.with_suffix("")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    page.write_text(compose(judged, groups))
    table(judged, related).to_csv(folder / TABLE, index=False)
    for name, draw in pictures.PICTURES.items():
        draw(groups, folder / name)


class Shown:
    """A judged sentence as the page's text shows it: ``[label]`` is a comparison's difference."""

    def __init__(self, judged: Judged) -> None:
        self.judged, self.verdict = judged, judged.verdict

    def __getitem__(self, label: str) -> str:
        return _difference(self._found(label)).split(" (")[0]

    @property
    def decides(self) -> str:
        return _difference(self.judged.weakest)

    @property
    def accuracies(self) -> str:
        return " against ".join(f"{figure:.1%}" for figure in self.judged.found[0].figures)

    @property
    def lif(self) -> str:
        return f"{self._found('LIF').figures[1]:.1%}"

    @property
    def turn(self) -> int:
        return len(turning(self.judged.found))

    @property
    def seeds(self) -> str:
        return str(self.judged.weakest.seeds)

    @property
    def p(self) -> str:
        if self.verdict in ("ceiling", "floor", UNDEFINED):
            return ""
        return "<0.0001" if self.judged.p < 1e-4 else f"{self.judged.p:.2g}"

    def row(self) -> tuple[str, ...]:
        """List sentence, place, the paper, what decides, seeds, p, verdict."""
        sentence, weakest = self.judged.sentence, self.judged.weakest
        decides = f"{weakest.comparison.label}: {self.decides}" if weakest.comparison.label else self.decides
        if self.turn:
            decides = f"{self.turn} changes turn with the mean"
        elif self.verdict == "inconclusive" and not math.isnan(weakest.detectable):
            decides += f"; finds {_size(weakest.detectable, weakest.unit)}"
        return (sentence.text, sentence.place, sentence.paper, decides, str(weakest.seeds), self.p, self.verdict)

    def _found(self, label: str) -> Found:
        return next(found for found in self.judged.found if found.comparison.label == label)


def compose(judged: Sequence[Judged], groups: Groups) -> str:
    """Fill in the page's text."""
    shown = {one.sentence.id: Shown(one) for one in judged}
    of_paper = [one for one in shown.values() if one.judged.sentence.place]
    starts = [groups[("delayed-match", f"paper-settings-tau-{ms}", "hetsyn", True)].values() for ms in (100, 200, 400)]
    equal = by_task(groups)
    counts = pd.Series([one.verdict for one in of_paper]).value_counts()
    return TEXT.read_text().format(
        sentences=len(judged),
        runs=f"{sum(map(len, groups.values())):,}",
        counts=", ".join(f"{count} {verdict}" for verdict, count in counts.items()),
        paper_table=_markdown(
            ("sentence", "place", "the paper", "decides", "seeds", "p", "verdict"), [one.row() for one in of_paper]
        ),
        our_table=_markdown(
            ("question", "decides", "seeds", "p", "verdict"),
            [(one.row()[0], *one.row()[3:]) for one in shown.values() if not one.judged.sentence.place],
        ),
        untested="" if "shd" in {one.sentence.id for one in judged} else " SHD itself: its files are not here.",
        long=", ".join(f"{100 * fmean(run['analysis']['long']['share'] for run in runs):.0f}%" for runs in starts),
        equal=equal,
        equal_table=_markdown(("task", *equal["trace"]), [(task, *row.values()) for task, row in equal.items()]),
        **shown,
    )


def by_task(groups: Groups) -> dict[str, dict[str, str]]:
    """Write HetSyn's lead over each model of as many trained values, by task; a dash where there are no runs."""
    rows = {}
    others = {label: model for label, model in pictures.EQUAL_MODELS.items() if model != "hetsyn"}
    for task, experiment in pictures.EQUAL_TASKS.items():
        found: dict[str, Found] = {}
        own = Side(experiment, "hetsyn-whole", "hetsyn")
        for label, model in others.items():
            other = Side(experiment, f"{label}-whole", model)
            with suppress(NoRuns):
                found[label] = compare(Comparison(label, own, other, by_successes=task == "cue"), groups)
        if found:
            rows[task] = {"seeds": str(min(one.seeds for one in found.values()))} | {
                pictures.EQUAL_NAMES[label]: _difference(found[label]) if label in found else "-" for label in others
            }
    return rows


def table(judged: Sequence[Judged], related: Sequence[Judged]) -> pd.DataFrame:
    """List every comparison; differences are of logarithms of errors and factors, else of points or updates."""
    return pd.DataFrame(
        {
            "about": "related systems" if one in related else "the paper" if one.sentence.place else "ours",
            "sentence": one.sentence.text,
            "runs": _path(found.comparison.side),
            "than": str(found.comparison.low) if (other := found.comparison.other) is None else _path(other),
            "seeds": found.seeds,
            "figure": found.figures[0],
            "other figure": found.figures[-1] if len(found.figures) == 2 else math.nan,
            "unit": found.unit,
            "difference": found.difference,
            "low": found.low,
            "high": found.high,
            "found with 80% power": found.detectable,
            "p": found.p,
            "holds": found.special or found.holds,
            "p of the sentence, Holm": one.p,
            "verdict": one.verdict,
        }
        for one in (*judged, *related)
        for found in one.found
    ).round(6)


def _path(side: Side) -> str:
    since = f" since {side.since}" if side.since else ""
    kind = "" if side.recurrent else "/feedforward"
    return f"{side.experiment}/{side.condition}/{side.model}{kind}: {side.measure}{since}"


def _difference(found: Found) -> str:
    """Say a comparison in words: a factor, points, updates, a rate against a rate, or the figure against a goal."""
    ends = found.difference, found.low, found.high
    if found.unit == "rate":
        return f"{found.figures[0]:.0%} against {found.figures[1]:.0%}"
    if len(found.figures) == 1:
        return f"{found.figures[0]:.1%}" if found.unit in ("points", "share") else f"{found.figures[0]:.2g}"
    if found.unit in ("error", "factor"):
        middle, low, high = (_size(end, found.unit) for end in ends)
        return f"{middle} ({low.removeprefix('×')}…{high.removeprefix('×')})"
    middle, low, high = (f"{'+' if end > 0 else ''}{_size(end, found.unit)}" for end in ends)
    return f"{middle} ({low}…{high})"


def _size(value: float, unit: str) -> str:
    if unit in ("error", "factor"):
        return f"×{math.exp(value):.3g}"
    return f"{value:.{ {'updates': 0, 'mse': 4}.get(unit, 1) }f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(" | ".join(line).strip() for line in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    build()
