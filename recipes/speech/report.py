"""The tables of the kept results."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np

from recipes.speech.judge import POWERS, SERVED, rate, wilson
from recipes.speech.plan import SEEDS

RESULTS: Final = Path(__file__).with_name("results")
Result = Mapping[str, Any]


def results(part: str) -> dict[str, Result]:
    """Read the kept results of a part, by the name of the run."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((RESULTS / part).glob("*.json"))}


def by_group(found: Mapping[str, Result]) -> dict[str, list[Result]]:
    """Group the results of all seeds of a run by its name without the seed."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for name, result in found.items():
        match = re.fullmatch(r"(?P<group>.+)-(?P<seed>\d+)", name)
        groups[match["group"] if match else name].append(result)
    return dict(groups)


def over_seeds(values: Sequence[float]) -> str:
    """Write a mean in percent, with Student's 95% interval over seeds where there are two or more."""
    mean = 100 * fmean(values)
    if len(values) < 2 or len(set(values)) == 1:
        return f"{mean:.1f}"
    from scipy import stats  # the other commands do without it

    half = 100 * float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / np.sqrt(len(values))
    return f"{mean:.1f} ({mean - half:.1f} to {mean + half:.1f})"


def counted(one: Mapping[str, Any]) -> str:
    """Write a share in percent, with Wilson's 95% interval."""
    low, high = wilson(one["right"], one["of"])
    return f"{100 * rate(one):.1f}% ({100 * low:.1f} to {100 * high:.1f}) of {one['of']}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


EXPERIMENT_A: Final = {"a-0": "no people", "a-20": "20 people", "a-100": "100 people", "a-all": "431 people"}


def experiment_a(groups: Mapping[str, Sequence[Result]]) -> str:
    """Compare the numbers of people in the training: strangers' words, by both decisions."""
    rows = []
    for group, text in EXPERIMENT_A.items():
        if runs := groups.get(group):
            shares = [[rate(run["people"]["clean"][str(power)]["closed"]) for run in runs] for power in POWERS]
            rows.append([text, str(len(runs)), *map(over_seeds, shares)])
    return table(["in the training", "seeds", "mean of all steps", "later steps count more"], rows)


def conditions(runs: Sequence[Result], source: str) -> str:
    """Show a model in noise, over a line, and at other levels."""
    rows = []
    for condition in runs[0][source]:
        cells = [condition]
        for figure in ("closed", "right and named", "refused", "others named"):
            each = [run[source][condition][str(SERVED)].get(figure) for run in runs]
            known = [rate(one) for one in each if one and one["of"]]
            cells.append(over_seeds(known) if known else "")
        rows.append(cells)
    return table(["", "best word", "right and named", "refused", "others named"], rows)


def words(run: Result, source: str) -> str:
    """Show a model by word, with Wilson's intervals."""
    clean = run[source]["clean"][str(SERVED)]
    rows = [[word, "right", counted(one)] for word, one in clean["by word"].items()]
    rows += [[word, "named", counted(one)] for word, one in clean.get("named by word", {}).items()]
    return table(["word", "", ""], rows)


def report() -> str:
    """Write all tables as Markdown."""
    groups = by_group(results("test"))
    parts = [
        "Percent of the people's recordings; in parentheses Student's 95% interval over seeds.\n",
        "### Experiment A: people; judged by those who choose\n",
        experiment_a(by_group(results("validate"))),
    ]
    for group in ("digits", "commands"):
        runs = groups.get(group, [])
        if runs:
            parts += [f"### {group}, test people: noise, lines, levels and quiet\n", conditions(runs, "people")]
            parts += [f"### {group}, test people: by word, seed {SEEDS[0]}\n", words(runs[0], "people")]
    return "\n".join(parts)
