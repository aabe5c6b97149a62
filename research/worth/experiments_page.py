"""``make report``: docs/experiments.md, its pictures and the table of all comparisons, from the kept results alone."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pandas as pd

from research.runs.results import RESULTS
from research.worth.judge import UNDEFINED, Comparison, Found, Judged, Side, compare, judge, turning
from research.worth.measures import Groups, read_results
from research.worth.pictures import EQUAL_MODELS, EQUAL_NAMES, EQUAL_TASKS, from_each_start, write_pictures
from research.worth.sentences import read_sentences

PAGE = Path(__file__).resolve().parents[2] / "docs/experiments.md"
TEXT = Path(__file__).with_name("page.txt")
TABLE = "comparisons.csv"


def build(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the page, and a folder of its name with the pictures and the table; what was there goes."""
    groups = read_results(results)
    judged, related = (judge(sentences, groups) for sentences in read_sentences())
    folder = page.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    page.write_text(compose(judged, groups))
    table(judged, related).to_csv(folder / TABLE, index=False)
    write_pictures(groups, folder)


class Shown(dict[str, str]):
    """A judged sentence as the page's text shows it: ``[label]`` is a comparison's difference.

    Attributes:
        verdict: with a dagger if the paper's sentences alone would support it.
        accuracies: of the first comparison's sides.
        turn: number of comparisons that turn with the definition of the measure.
        superseded: whether no table of the page has it.
        row: of the table of the paper's sentences or that of ours, by column.
    """

    def __init__(self, judged: Judged, alone: bool) -> None:
        super().__init__((one.comparison.label, _difference(one).split(" (")[0]) for one in judged.found)
        sentence, weakest, first = judged.sentence, judged.weakest, judged.found[0]
        self.seeds, self.superseded = str(weakest.seeds), sentence.superseded
        is_open = judged.verdict == "inconclusive"
        self.verdict = f"{judged.verdict} †" if is_open and alone else judged.verdict
        self.decides = _difference(weakest)
        self.accuracies = f"{first.figure:.1%} against {first.other_figure:.1%}"
        self.turn = len(turning(judged.found))
        decides = ": ".join(filter(None, (weakest.comparison.label, self.decides)))
        if self.turn:
            decides = f"{self.turn} changes turn with the mean"
        elif is_open and math.isfinite(weakest.detectable):
            decides += f"; finds {_size(weakest.detectable, weakest.unit)}"
        p = "<0.0001" if judged.p < 1e-4 else f"{judged.p:.2g}"
        if judged.verdict in ("ceiling", "floor", UNDEFINED):
            p = ""
        of_paper = {"sentence": sentence.text, "place": sentence.place, "the paper": sentence.paper}
        asked = of_paper if sentence.place else {"question": sentence.text}
        self.row = asked | {"decides": decides, "seeds": self.seeds, "p": p, "verdict": self.verdict}


def compose(judged: Sequence[Judged], groups: Groups) -> str:
    """Fill in the page's text."""
    of_paper = [one for one in judged if one.sentence.place]
    among_themselves = judge([one.sentence for one in of_paper], groups)
    alone = {one.sentence.id for one in among_themselves if one.verdict == "supported"}
    shown = {one.sentence.id: Shown(one, one.sentence.id in alone) for one in judged}
    ours = [one for one in shown.values() if "question" in one.row]
    counts = Counter(one.verdict for one in of_paper).most_common()
    long = [100 * fmean(run["analysis"]["long"]["share"] for run in runs) for runs in from_each_start(groups)]
    equal = by_task(groups)
    return TEXT.read_text().format(
        sentences=len(judged),
        runs=f"{sum(map(len, groups.values())):,}",
        counts=", ".join(f"{count} {verdict}" for verdict, count in counts),
        paper_table=_markdown([shown[one.sentence.id].row for one in of_paper]),
        our_table=_markdown([one.row for one in ours if not one.superseded]),
        untested="" if "shd" in shown else " SHD itself: its files are not here.",
        long=", ".join(f"{share:.0f}%" for share in long),
        equal=equal,
        equal_table=_markdown([{"task": task} | row for task, row in equal.items()]),
        **shown,
    )


def by_task(groups: Groups) -> dict[str, dict[str, str]]:
    """Write HetSyn's lead over each model of as many trained values, by task; a dash where there are no runs."""
    rows = {}
    others = [label for label in EQUAL_MODELS if label != "hetsyn"]
    columns = ["seeds", *(EQUAL_NAMES[label] for label in others)]
    for task in EQUAL_TASKS:
        own = Side(f"equal-{task}", "hetsyn-whole", "hetsyn")
        sides = [own._replace(condition=f"{label}-whole", model=EQUAL_MODELS[label]) for label in others]
        found = [compare(Comparison("", own, side, by_successes=task == "cue"), groups) for side in sides]
        if any(found):
            seeds = min(one.seeds for one in found if one)
            leads = [_difference(one) if one else "-" for one in found]
            rows[task] = dict(zip(columns, [str(seeds), *leads], strict=True))
    return rows


def table(judged: Sequence[Judged], related: Sequence[Judged]) -> pd.DataFrame:
    """List every comparison; differences are of logarithms of errors and factors, else of points or updates."""
    rows = [
        {
            "about": "related systems" if one in related else "the paper" if one.sentence.place else "ours",
            "sentence": one.sentence.text,
            "runs": _path(found.comparison.side),
            "than": str(found.comparison.low) if (other := found.comparison.other) is None else _path(other),
            **found._asdict(),
            "p of the sentence, Holm": one.p,
            "verdict": one.verdict,
        }
        for one in (*judged, *related)
        for found in one.found
    ]
    names = {"other_figure": "other figure", "detectable": "found with 80% power"}
    return pd.DataFrame(rows).drop(columns="comparison").rename(columns=names).round(6)


def _path(side: Side) -> str:
    since = f" since {side.since}" if side.since else ""
    kind = "" if side.recurrent else "/feedforward"
    return f"{side.experiment}/{side.condition}/{side.model}{kind}: {side.measure}{since}"


def _difference(found: Found) -> str:
    """Say a comparison in words: a factor, points, updates, a rate against a rate, or the figure against a goal."""
    if found.unit == "rate":
        return f"{found.figure:.0%} against {found.other_figure:.0%}"
    if found.comparison.other is None:
        return f"{found.figure:.1%}" if found.unit in ("points", "share") else f"{found.figure:.2g}"
    middle, low, high = (
        _size(end, found.unit, "+" if end > 0 else "") for end in (found.difference, found.low, found.high)
    )
    return f"{middle} ({low.removeprefix('×')}…{high.removeprefix('×')})"


def _size(value: float, unit: str, sign: str = "") -> str:
    if unit in ("error", "factor"):
        return f"×{math.exp(value):.3g}"
    digits = {"updates": 0, "mse": 4}.get(unit, 1)
    return f"{value:{sign}.{digits}f}"


def _markdown(rows: Sequence[dict[str, str]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(" | ".join(line).strip() for line in lines)


if __name__ == "__main__":
    build()
