"""The paper's own figures and tables of its own two tasks, from our runs: a part of the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean

from research.claims.measures import (
    LEARNING_CURVE,
    LONG_RESET,
    LONG_SHARE,
    NORMALISED_DISTANCE,
    OUTPUT_IN_GAPS,
    tau_change,
)
from research.claims.paper_claims import INITIAL_TAU_MS, NOISE_HZ, RATES
from research.claims.rules import kind_of
from research.claims.tables import table
from research.claims.wording import spread
from research.page import figures
from research.page.pictures import Pictures
from research.runs.names import NAMES
from research.runs.plan import NEURONS, PAPER
from research.runs.results import RunResult

HIDDEN = {size: PAPER if size == 100 else f"{PAPER}-hidden-{size}" for size in (5, 20, 50, 100)}
DELAYS_MS = {800: PAPER, 1600: f"{PAPER}-delay-1600", 2500: f"{PAPER}-delay-2500"}
ADDED_NOISE_HZ = {0: PAPER, 5: f"{PAPER}-noise-5", 10: f"{PAPER}-noise-10", 20: f"{PAPER}-noise-20"}


def paper_section(experiment: str, finished: Sequence[RunResult], pictures: Pictures) -> str:
    """The section of one experiment; empty for a task that is not the paper's.

    Args:
        experiment: its name.
        finished: its final runs.
        pictures: get those of this section.
    """
    if experiment == "pattern-generation":
        return _learning(experiment, finished, pictures, "2D") + _pattern_generation(finished, pictures)
    if experiment == "delayed-match":
        return _learning(experiment, finished, pictures, "3B") + _delayed_match(finished, pictures)
    return ""


def _of(finished: Sequence[RunResult], condition: str, recurrent: bool, model: str | None = None) -> list[RunResult]:
    return [
        result
        for result in finished
        if (result.run["condition"], result.run["recurrent"]) == (condition, recurrent)
        and (model is None or result.run["model"] == model)
    ]


def _learning(experiment: str, finished: Sequence[RunResult], pictures: Pictures, place: str) -> str:
    text = ""
    for recurrent in (True, False):
        runs = _of(finished, PAPER, recurrent)
        if runs:
            kind = kind_of(recurrent)
            text += pictures.add(
                f"{experiment}-paper-learning-{kind}",
                f"Figure {place}: learning, {kind}. The thick line is the mean, each thin one a seed",
                partial(figures.learning, runs),
            )
    return text


def _pattern_generation(finished: Sequence[RunResult], pictures: Pictures) -> str:
    text, name = "", "pattern-generation"
    for recurrent in (True, False):
        drawn = [r for r in _of(finished, PAPER, recurrent) if "traces" in r.analysis]
        if drawn:
            text += pictures.add(
                f"{name}-paper-traces-{kind_of(recurrent)}",
                f"Figure 2A: two trials of the first seed, {kind_of(recurrent)}. Black: the target. The gaps without "
                "the template are 0.5 to 0.75 s and 1.25 to 1.5 s",
                partial(figures.traces, drawn),
            )
    rows = []
    for recurrent in (True, False):
        for model in NEURONS:
            runs = _of(finished, PAPER, recurrent, model)
            if runs:
                distance, gaps = ([measure.of(r) for r in runs] for measure in (NORMALISED_DISTANCE, OUTPUT_IN_GAPS))
                rows.append(
                    (
                        NAMES[model],
                        kind_of(recurrent),
                        str(len(runs)),
                        spread("factor", distance),
                        spread("factor", gaps),
                    )
                )
    if rows:
        head = (
            "figures 2A to C",
            "",
            "seeds",
            "normalised distance",
            "mean absolute output in the gaps, over the target's",
        )
        text += table(head, rows) + "\n"
    for label, axis, conditions, of, place, recurrent in (
        ("noise-feedforward", "background noise, Hz", NOISE_HZ, None, "Figure 2E: error by noise", False),
        ("noise", "background noise, Hz", NOISE_HZ, None, "Figure 2F: error by noise", True),
        (
            "rates",
            "learning rate",
            RATES,
            LEARNING_CURVE,
            "Figure A1: mean error over training, by learning rate",
            False,
        ),
    ):
        numbers = {condition: float(number) for number, condition in conditions.items()}
        runs = [r for condition in numbers for r in _of(finished, condition, recurrent)]
        if len({r.run["condition"] for r in runs}) > 1:
            draw = partial(
                figures.conditions, runs, numbers, axis, of=None if of is None else of.of, logarithmic=label == "rates"
            )
            caption = f"{place}, {kind_of(recurrent)}. The line is the mean, each dot a seed"
            text += pictures.add(f"{name}-paper-{label}", caption, draw)
    drawn = [r for r in _of(finished, f"{PAPER}-targets-3", False) if "traces" in r.analysis]
    if drawn:
        caption = "Figure A2: three targets at once, two trials of the first seed, feedforward"
        text += pictures.add(f"{name}-paper-targets", caption, partial(figures.traces, drawn))
    return text


def _delayed_match(finished: Sequence[RunResult], pictures: Pictures) -> str:
    text, name = "", "delayed-match"
    for recurrent in (True, False):
        by_size = {size: _of(finished, condition, recurrent) for size, condition in HIDDEN.items()}
        if any(by_size.values()):
            kind = kind_of(recurrent)
            text += pictures.add(
                f"{name}-paper-success-{kind}",
                f"Figures 3D-G: runs that reach 90%, by hidden neurons, {kind}. Lines are 95% intervals; a line "
                "without a bar: no run did; neither: not yet run",
                partial(figures.successes, by_size),
            )
    for label, axis, conditions in (
        ("delay", "delay, ms", DELAYS_MS),
        ("noise", "added noise on every channel, Hz", ADDED_NOISE_HZ),
    ):
        numbers = {condition: float(number) for number, condition in conditions.items()}
        runs = [r for condition in numbers for r in _of(finished, condition, True, "hetsyn")]
        if len({r.run["condition"] for r in runs}) > 1:
            caption = f"Figure A3: by {axis}, HetSyn, recurrent. The line is the mean, each dot a seed"
            text += pictures.add(f"{name}-paper-{label}", caption, partial(figures.conditions, runs, numbers, axis))
    return text + _table_4(finished)


def _table_4(finished: Sequence[RunResult]) -> str:
    rows = []
    for initial_ms, condition in {40: PAPER, **INITIAL_TAU_MS}.items():
        runs = [r for r in _of(finished, condition, True, "hetsyn") if "long" in r.analysis]
        if runs:
            changes = [
                fmean(tau_change(r, group, mean) for r in runs) - 1
                for group in ("cue", "noise")
                for mean in ("log_mean", "median")
            ]
            rows.append(
                (
                    *(f"{initial_ms} ms", str(len(runs)), *(f"{100 * change:+.0f}%" for change in changes)),
                    spread("accuracy", [LONG_SHARE.of(r) for r in runs]),
                    spread("accuracy", [r.figure for r in runs]),
                    spread("accuracy", [LONG_RESET.of(r) for r in runs]),
                )
            )
    if not rows:
        return ""
    head = (
        *("Table 4: initial time constants", "seeds", "cue synapses, geometric mean", "median"),
        *("noise synapses, geometric mean", "median", "share above 700 ms", "accuracy", "after these were reset"),
    )
    return table(head, rows) + (
        "\nTime constants are between 5 ms and 10 s. The paper does not say which mean it takes. The verdicts are on "
        "geometric means. Medians would change some: most cue synapses get shorter, and a few get very long.\n\n"
    )
