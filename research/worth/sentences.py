"""Read the sentences and their rules, which stand in ``sentences.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from research.runs.names import NAMES
from research.worth.judge import Comparison, Sentence, Side

RULES = Path(__file__).with_name("sentences.toml")
MARKS = NAMES | {"pattern-generation": "trace", "vision-rows": "clothes", "shd": "voices"}


def read_sentences(path: Path = RULES) -> tuple[list[Sentence], list[Sentence]]:
    """Read the sentences of the page, and those about related systems, each with one comparison."""
    values = tomllib.loads(path.read_text())
    related = [_sentence({"id": ""} | value) for value in values["related"]]
    return [_sentence(value) for value in values["sentence"]], [
        replace(sentence, comparisons=(one,)) for sentence in related for one in sentence.comparisons
    ]


def _sentence(value: dict[str, Any]) -> Sentence:
    options: dict[str, Any] = {
        key: value.pop(key) for key in ("measure", "since", "successes", "definitions") if key in value
    }
    rules = [pair for rule in value.pop("rules") for pair in expanded(rule)]
    comparisons = [one for rule, marks in rules for one in _comparisons(rule, marks, options)]
    return Sentence(comparisons=tuple(comparisons), **value)


def expanded(text: str, marks: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each text that braces stand for, with what was chosen in them."""
    found = re.search(r"\{([^}]*)\}", text)
    if found is None:
        yield text, marks
        return
    for choice in found[1].split(","):
        mark = MARKS.get(choice, re.sub(r"^[/-]+(?=[a-z])", "", choice))
        yield from expanded(text[: found.start()] + choice + text[found.end() :], (*marks, mark) if mark else marks)


def _comparisons(rule: str, marks: tuple[str, ...], options: dict[str, Any]) -> Iterator[Comparison]:
    left, sign, right = re.split(r" (>|in|~) ", rule, maxsplit=1)
    side, measured = _side(left, options)
    own = (measured.split(",")[0],) if measured and not any(mark in measured for mark in marks) else ()
    by_successes = options.get("successes", False)
    if sign == "in":
        low, high = map(float, right.split(" to "))
        yield Comparison(", ".join((*own, *marks)), side, low=low, high=high)
    elif sign == "~":
        other, within = right.rsplit(" within ", 1)
        yield Comparison(", ".join((*own, *marks)), side, _other(other, side), -float(within), float(within))
    elif re.fullmatch(r"[\d.]+", right):
        for definition in options.get("definitions", [""]):
            defined = side._replace(measure=f"{side.measure}, {definition}") if definition else side
            yield Comparison(", ".join((*own, *marks)), defined, low=float(right), definition=definition)
    else:
        for each in [right] if right.startswith(":") else right.split(", "):
            other_side = _other(each, side)
            than = NAMES[other_side.model] if other_side.model != side.model else each.strip(":/")
            label = ", ".join(dict.fromkeys((than, *marks)))
            yield Comparison(label, side, other_side, by_successes=by_successes)


def _side(text: str, options: dict[str, Any]) -> tuple[Side, str]:
    path, _, measure = text.partition(":")
    experiment, condition, model, *kind = path.split("/")
    chosen = measure or options.get("measure", "figure")
    return Side(experiment, condition, model, kind != ["feedforward"], chosen, options.get("since", "")), measure


def _other(text: str, side: Side) -> Side:
    if text.startswith(":"):
        return side._replace(measure=text[1:])
    if "/" not in text:
        return side._replace(model=text)
    experiment, condition, *model = text.split("/")
    return side._replace(
        experiment=experiment or side.experiment, condition=condition, model=model[0] if model else side.model
    )
