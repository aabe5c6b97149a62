"""Judges runs, and keeps the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hetsyn_model.training.datasets.data import DataError
from recipes.speech.costs import cost, trained_values
from recipes.speech.judge import CONDITIONS, POWERS, SERVED, figures, hear, rate, threshold
from recipes.speech.people import HELD_OUT_WORDS, RESULTS
from recipes.speech.plan import COMMANDS, PLAN
from recipes.speech.pool import EVERY_TAKE, Clip, of_noise, of_people, of_wavs
from recipes.speech.training import Recipe, as_served, load_model, recipe_of

BENCHMARK: Final = tuple(f"commands-{kind}-" for kind in COMMANDS)  # judged on clean words alone


def judge(name: str, runs: Path, data: Path, part: str) -> None:
    """Judge a run on the people who choose or who test, and keep the result."""
    recipe = PLAN[name]
    words = recipe.vocabulary
    model, outputs = as_served(load_model(runs / name), recipe)
    conditions = ["clean"] if name.startswith(BENCHMARK) else list(CONDITIONS)
    found: dict[str, Any] = {}
    least = _chosen(name) if part == "test" else None
    sounds = _clips(recipe, data, part)
    if part == "test":
        found["values"] = trained_values(recipe_of(runs / name))  # of the run, whatever the plan has by now
        if name.startswith(BENCHMARK):
            found["cost"] = cost(model, recipe, [one for one in sounds["people"] if one.word in words.named])
    for source, clips in sounds.items():
        each: dict[str, Any] = {}
        for condition in conditions if source != "noise" else ["clean"]:
            heard = hear(model, clips, outputs, condition)
            if least is None:  # the first: clean words of people
                least = {power: threshold(heard, words, power) for power in POWERS}
            is_clean = condition == "clean"
            each[condition] = {
                str(power): figures(heard, words, least[power], power, is_detailed=is_clean and power == SERVED)
                for power in POWERS
            }
            if is_clean:
                each[condition]["least"] = {str(power): value for power, value in least.items()}
        found[source] = each
    path = RESULTS / part / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(source)}: {json.dumps(each, sort_keys=True)}" for source, each in found.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    _print(name, {source: found[source] for source in sounds})


def _clips(recipe: Recipe, data: Path, part: str) -> dict[str, Sequence[Clip]]:
    """Read the recordings that judge: people, and takes of FSDD that nobody trained on."""
    studio = of_wavs(data / "studio", "studio")
    if part == "validate":
        people = of_people(data / "people", "validation")
        # words that nobody trains on may be said by those who train
        people += [one for one in of_people(data / "people", "train") if one.word in HELD_OUT_WORDS]
        studio = [one for one in studio if one.take % EVERY_TAKE == 0]
    else:
        people = of_people(data / "people", "test")
        studio = [one for one in studio if one.speaker == recipe.leave_out]
    found: dict[str, Sequence[Clip]] = {"people": people}
    if studio and recipe.model == "digits":
        found["studio"] = studio
    return found | {"noise": of_noise()}


def _chosen(name: str) -> dict[int, float]:
    """Read the threshold of each power that the people who choose have chosen.

    Raises:
        DataError: they have not chosen one yet.
    """
    path = RESULTS / "validate" / f"{name}.json"
    if not path.exists():
        raise DataError(f"{name}: has no threshold yet: run python -m recipes.speech validate {name}")
    saved = json.loads(path.read_text())["people"]["clean"]["least"]
    return {power: float(saved[str(power)]) for power in POWERS}


def _print(name: str, found: dict[str, Any]) -> None:
    for source, each in found.items():
        for condition, by_power in each.items():
            shown = by_power["3"]
            line = f"{name:18} {source:7} {condition:22}"
            if shown["closed"]["of"]:
                line += f" closed {rate(by_power['0']['closed']):.3f} / {rate(shown['closed']):.3f}"
                line += f" right {rate(shown['right and named']):.3f} refused {rate(shown['refused']):.3f}"
            if shown["others named"]["of"]:
                line += f" named {rate(shown['others named']):.3f}"
            if "least" in by_power and source == "people":
                line += f" at --least-probability {by_power['least'][str(SERVED)]:.2f}"
            print(line, flush=True)
