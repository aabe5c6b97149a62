"""The page of all kept results."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np
from scipy import stats

from recipes.speech.judge import CONDITIONS, SERVED, rate
from recipes.speech.people import HELD_OUT_WORDS, RESULTS
from recipes.speech.plan import COMMANDS, SEEDS
from recipes.speech.vocabulary import RARE_DIGITS

PAGE: Final = RESULTS / "README.md"
Result = Mapping[str, Any]

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
BENCHMARK: Final = {
    "commands-hetsyn": "HetSyn",
    "commands-hetneu": "HetNeu",
    "commands-alif": "ALIF",
    "commands-lif": "LIF",
    "commands-dh-snn": "DH-SNN, four branches",
    "commands-free-bank": "two shared decays, two weights a synapse",
    "commands-gru": "GRU",
    "commands-cnn": "CNN, not causal",
}
FIGURES: Final = ("closed", "right and named", "refused", "others named")
ADAPTED: Final = ("right", "named and right", "others named")
HEADS: Final = ("best of ten", "named and right", "refused", "others named")


def kept(name: str) -> dict[str, Any]:
    """Read a file of kept results."""
    return dict(json.loads((RESULTS / f"{name}.json").read_text()))


def by_group(found: Mapping[str, Result]) -> dict[str, list[Result]]:
    """Group the results of all seeds of a run, by its name without the seed."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for name, result in found.items():
        match = re.fullmatch(r"(?P<group>.+)-(?P<seed>\d+)", name)
        groups[match["group"] if match else name].append(result)
    return dict(groups)


def over_seeds(values: Sequence[float]) -> str:
    """Write a mean in percent, with Student's 95% interval where there are three or more values."""
    mean = 100 * fmean(values)
    if len(values) < 3 or len(set(values)) == 1:
        return f"{mean:.1f}"
    half = 100 * float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / np.sqrt(len(values))
    return f"{mean:.1f} ({mean - half:.1f} to {mean + half:.1f})"


def counted(one: Mapping[str, Any]) -> str:
    """Write a share in percent, with Wilson's 95% interval."""
    if not one["of"]:
        return "-"
    low, high = stats.binomtest(one["right"], one["of"]).proportion_ci(method="wilson")
    return f"{100 * rate(one):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def total(each: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {name: sum(one[name] for one in each) for name in ("right", "of")}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def _of(result: Result, figure: str, power: int = SERVED) -> float:
    return rate(result["people"]["clean"][str(power)][figure])


def comparison(groups: Mapping[str, Sequence[Result]], names: Mapping[str, str]) -> str:
    """Runs of an experiment beside one another: strangers' words, by both decisions."""
    rows = []
    for group, text in names.items():
        runs = groups[group]
        both = [over_seeds([_of(run, "closed", power) for run in runs]) for power in (0, SERVED)]
        rows.append([text, f"{runs[0]['values']:,}", str(len(runs)), *both])
    return table(["network", "trained values", "seeds", "mean of all steps", "later steps count more"], rows)


def conditions(runs: Sequence[Result]) -> str:
    """A model in noise, over a line, at other levels and after quiet: the first seed, then the mean over seeds."""
    rows = []
    for condition in CONDITIONS:
        # a run of an experiment is judged on clean words alone
        of_runs = [run["people"][condition][str(SERVED)] for run in runs if condition in run["people"]]
        row = [condition, counted(of_runs[0]["closed"]), str(len(of_runs))]
        rows.append(row + [over_seeds([rate(one[figure]) for one in of_runs]) for figure in FIGURES])
    return table(["", f"best of ten, seed {SEEDS[0]}", "seeds", *(f"{head}, mean" for head in HEADS)], rows)


def words(name: str) -> str:
    """A run by word, with Wilson's intervals, and the other words that training has and that it lacks.

    The people who test say hardly any word that nobody trains on, so the people who choose judge those.
    """
    clean, chose = (kept(f"{part}/{name}")["people"]["clean"][str(SERVED)] for part in ("test", "validate"))
    rows = [[word, "right", counted(one), str(one["of"])] for word, one in clean["by word"].items()]
    others, heard = clean["named by word"], chose["named by word"]
    named = {
        "all that training has": total([one for word, one in others.items() if word not in HELD_OUT_WORDS]),
        "five that nobody trains on, of others": total([heard[word] for word in HELD_OUT_WORDS if word in heard]),
    } | others
    rows += [[word, "named", counted(one), str(one["of"])] for word, one in named.items()]
    return table(["word", "", "%", "of"], rows)


def left_out(found: Mapping[str, Result]) -> str:
    """Speakers of FSDD whom no training heard, one row each, and the digits that few others say."""
    runs = {name.removeprefix("without-"): run["studio"] for name, run in found.items() if name.startswith("without-")}
    shown = ["clean", "noise, 20 dB", "noise, 10 dB", "noise, 5 dB"]
    rows = [
        [speaker, *(counted(run[condition][str(SERVED)]["closed"]) for condition in shown)]
        for speaker, run in runs.items()
    ]
    each = {condition: [rate(run[condition][str(SERVED)]["closed"]) for run in runs.values()] for condition in shown}
    rows.append(["mean", *(over_seeds(values) for values in each.values())])
    by_word = [run["clean"][str(SERVED)]["by word"] for run in runs.values()]
    rare = [[word, counted(total([words[word] for words in by_word]))] for word in RARE_DIGITS]
    return table(["left out", *shown], rows) + "\n" + table(["digit", "right"], rare)


def adapted(found: Mapping[str, Any]) -> str:
    """Five takes a digit: each speaker with the settings that are best for the others, and the mean gain."""
    rows, gains = [], []
    names = [name for name in next(iter(found.values())) if name != "before"]
    for speaker, each in found.items():
        rest = [one for other, one in found.items() if other != speaker]
        how = max(names, key=lambda name: fmean(one[name]["right"] for one in rest))
        before, after = each["before"], each[how]
        gains.append(after["right"] - before["right"])
        figures = [one[figure] for figure in ADAPTED for one in (before, after)]
        rows.append([speaker, *(f"{100 * figure:.1f}" for figure in figures), how])
    means = [fmean(float(row[column]) for row in rows) for column in range(1, 1 + 2 * len(ADAPTED))]
    rows.append(["mean", *(f"{mean:.1f}" for mean in means), ""])
    head = ["left out", *(f"{figure}, {when}" for figure in ADAPTED for when in ("before", "after")), "settings"]
    return f"{table(head, rows)}\nGain in points, mean over speakers: {over_seeds(gains)}\n"


def benchmark(groups: Mapping[str, Sequence[Result]]) -> str:
    """Networks of equal numbers of trained values on the commands of strangers."""
    rows = []
    for group, text in BENCHMARK.items():
        runs = groups[group]
        hidden = "-".join(map(str, COMMANDS[group.removeprefix("commands-")]))
        costs = [run["cost"] for run in runs]
        sizes = [f"{runs[0]['values']:,}", f"{costs[0]['state_bytes']:,}"]
        work = [fmean(one[name] for one in costs) for name in ("operations", "nanojoules")]
        right = [over_seeds([_of(run, figure) for run in runs]) for figure in FIGURES]
        rows.append([text, hidden, str(len(runs)), *right, *sizes, f"{work[0]:,.0f}", f"{work[1]:.1f}"])
    head = ["network", "layers", "seeds", *HEADS, "trained values", "state bytes", "operations a step", "nJ a step"]
    return table(head, rows)


def streamed() -> str:
    """Strings of digits, and false alarms, of the newest model."""
    strings, alarms = (kept(f"streams/{kind}-speech-digits-2") for kind in ("digit-strings", "false-alarms"))
    rows = [
        [f"{noise} noise, {strings['snr_db']:.0f} dB" if noise != "none" else "no noise", str(one["words"])]
        + [f"{100 * one['word_errors']:.1f}%"]
        + [str(one[name]) for name in ("substitutions", "deletions", "insertions", "false_starts")]
        for noise, one in strings.items()
        if noise != "snr_db"
    ]
    head = ["", "words", "errors", "substitutions", "deletions", "insertions", "false starts"]
    heard = [
        [
            *(name, f"{60 * one['hours']:.1f}", str(one["utterances"]), str(one["alarms"])),
            f"{one['an_hour']:.0f} ({one['low']:.0f} to {one['high']:.0f})",
        ]
        for name, one in alarms.items()
    ]
    return table(head, rows) + "\n" + table(["", "minutes", "utterances", "named", "an hour"], heard)


def report() -> str:
    """Return the page of all kept results."""
    found = {path.stem: kept(f"test/{path.stem}") for path in sorted((RESULTS / "test").glob("*.json"))}
    groups = by_group(found)
    parts = [
        "# Kept results of the speech recipe\n",
        "`python -m recipes.speech report` writes this page. Percent of the recordings of people who test. Parentheses "
        "have 95% intervals: Wilson's of one run, Student's over three runs or more.\n",
        "## People: the recipe of version 1 with more of them\n",
        comparison(groups, EXPERIMENT_A),
        "## Spikes, cell, encoder and causality, at equal data and trained values\n",
        comparison(groups, EXPERIMENT_B),
        "## The digits\n",
        comparison(groups, {"digits": "as shipped"}),
    ]
    for group in ("digits", "commands"):
        parts += [f"### {group}: noise, lines, levels and quiet before\n", conditions(groups[group])]
        parts += [f"### {group}: by word, seed {SEEDS[0]}\n", words(f"{group}-{SEEDS[0]}")]
    parts += ["### Strings of 20 digits, and sound without a digit, as served\n", streamed()]
    parts += ["## Digits of speakers left out\n", left_out(found)]
    parts += ["## Five takes a digit of a speaker left out\n", adapted(kept("adapt"))]
    parts += ["## Ten commands of strangers, at equal trained values\n", benchmark(groups)]
    return "\n".join(parts)
