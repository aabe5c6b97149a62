"""The tables and pictures of the kept results."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np

from benchmarks.plots import plain, pyplot, save
from recipes.speech.judge import SERVED, rate, wilson
from recipes.speech.networks import make
from recipes.speech.plan import PLAN, SEEDS
from recipes.speech.training import encoder_spec

RESULTS: Final = Path(__file__).with_name("results")
Result = Mapping[str, Any]


def results(part: str) -> dict[str, Result]:
    """The kept results of a part, by the name of the run."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((RESULTS / part).glob("*.json"))}


def by_group(found: Mapping[str, Result]) -> dict[str, list[Result]]:
    """The results of all seeds of a run, by its name without the seed."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for name, result in found.items():
        match = re.fullmatch(r"(?P<group>.+)-(?P<seed>\d+)", name)
        groups[match["group"] if match else name].append(result)
    return dict(groups)


def over_seeds(values: Sequence[float]) -> str:
    """A mean in percent, with Student's 95% interval over seeds where there are two or more."""
    mean = 100 * fmean(values)
    if len(values) < 2 or len(set(values)) == 1:
        return f"{mean:.1f}"
    from scipy import stats  # the other commands do without it

    half = 100 * float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / np.sqrt(len(values))
    return f"{mean:.1f} ({mean - half:.1f} to {mean + half:.1f})"


def counted(one: Mapping[str, Any]) -> str:
    """A share in percent, with Wilson's 95% interval."""
    low, high = wilson(one["right"], one["of"])
    return f"{100 * rate(one):.1f}% ({100 * low:.1f} to {100 * high:.1f}) of {one['of']}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def _of(result: Result, figure: str, power: int = SERVED, source: str = "people", condition: str = "clean") -> float:
    return rate(result[source][condition][str(power)][figure])


def comparison(groups: Mapping[str, Sequence[Result]], names: Mapping[str, str]) -> str:
    """Runs of an experiment beside one another: strangers' words, by both decisions."""
    rows = []
    for group, text in names.items():
        runs = groups.get(group, [])
        if runs:
            rows.append(
                [
                    text,
                    f"{_values(group):,}",
                    str(len(runs)),
                    over_seeds([_of(run, "closed", 0) for run in runs]),
                    over_seeds([_of(run, "closed") for run in runs]),
                ]
            )
    return table(["run", "trained values", "seeds", "mean of all steps", "later steps count more"], rows)


def _values(group: str) -> int:
    """Trained values of a run's network, without an auxiliary readout."""
    recipe = replace(PLAN[f"{group}-{SEEDS[0]}"], words=0.0)
    return sum(value.numel() for value in make(recipe.shape, encoder_spec(), recipe.outputs, 0).parameters())


EXPERIMENT_A: Final = {
    "a-0": "no people",
    "a-20": "20 people",
    "a-100": "100 people",
    "a-all": "431 people",
    "a-unknown": "431 people, other words as one class",
    "a-words": "431 people, other words as one class and named by an auxiliary readout",
}
EXPERIMENT_B: Final = {
    "a-all": "HetSyn",
    "b-tanh": "the same with tanh for the threshold",
    "b-gru": "GRU",
    "b-cnn": "CNN on the bands, not causal",
}
MODELS: Final = {
    "teacher": "the teacher, a CNN that is not causal",
    "digits-plain": "128 and 64 neurons, no teacher",
    "digits": "as shipped",
}


def conditions(runs: Sequence[Result], source: str) -> str:
    """A model in noise, over a line, and at other levels."""
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
    """A model by word, with Wilson's intervals."""
    clean = run[source]["clean"][str(SERVED)]
    rows = [[word, "right", counted(one)] for word, one in clean["by word"].items()]
    rows += [[word, "named", counted(one)] for word, one in clean.get("named by word", {}).items()]
    return table(["word", "", ""], rows)


def report(pictures: Path | None) -> str:
    """Write all tables as Markdown, and the pictures to a folder."""
    found = results("test")
    groups = by_group(found)
    parts = [
        "Percent of the test people's recordings; in parentheses Student's 95% interval over seeds.\n",
        "### Experiment A: people\n",
        comparison(groups, EXPERIMENT_A),
        "### Experiment B: spikes, cell, encoder and causality\n",
        comparison(groups, EXPERIMENT_B),
        "### The digits\n",
        comparison(groups, MODELS),
    ]
    for group in ("digits", "commands"):
        runs = groups.get(group, [])
        if runs:
            parts += [f"#### {group}: noise, lines, levels and quiet\n", conditions(runs, "people")]
            parts += [f"#### {group}: by word, seed {SEEDS[0]}\n", words(runs[0], "people")]
    if pictures is not None:
        draw_people(groups, pictures / "strangers.png")
    return "\n".join(parts)


def _speakers(runs: Sequence[Result]) -> dict[str, float]:
    """The share of each speaker's words that is right, over all seeds."""
    right: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for run in runs:
        for speaker, (count, of) in run["people"]["clean"][str(SERVED)]["by speaker"].items():
            right[speaker][0] += count
            right[speaker][1] += of
    return {speaker: count / of for speaker, (count, of) in right.items()}


def draw_people(groups: Mapping[str, Sequence[Result]], path: Path) -> None:
    """Accuracy against the number of training people: a dot a speaker, their mean, and its interval over seeds."""
    names = {"a-0": "0", "a-20": "20", "a-100": "100", "a-all": "431"}
    known = [(text, groups[group]) for group, text in names.items() if group in groups]
    figure, axes = pyplot().subplots(figsize=(7.5, 4.2), layout="constrained")
    jitter = np.random.default_rng(0)
    for place, (_, runs) in enumerate(known):
        each = list(_speakers(runs).values())
        axes.plot(
            place + jitter.uniform(-0.3, 0.3, len(each)),
            100 * np.array(each) + jitter.uniform(-1.2, 1.2, len(each)),
            "o",
            color="#8a8a8a",
            alpha=0.45,
            markersize=4,
            markeredgewidth=0,
        )
        shares = [100 * _of(run, "closed") for run in runs]
        axes.plot([place - 0.35, place + 0.35], [fmean(shares)] * 2, color="#c0392b", linewidth=2)
        axes.annotate(f"{fmean(shares):.1f}%", (place + 0.36, fmean(shares)), va="center", color="#c0392b")
    axes.set_xticks(range(len(known)), [text for text, _ in known])
    axes.set_xlim(-0.5, len(known) - 0.2)
    axes.set_xlabel("people in the training")
    axes.set_ylabel("digits of strangers, right (%)")
    plain(axes, grid="y")
    save(figure, path)
