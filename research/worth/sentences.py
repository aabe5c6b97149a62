"""Read the sentences and their rules, which stand in ``sentences.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
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
        sentence._replace(comparisons=(one,)) for sentence in related for one in sentence.comparisons
    ]


def _sentence(value: dict[str, Any]) -> Sentence:
    runs = Side("", "", "", measure=value.pop("measure", "figure"), since=value.pop("since", ""))
    by_successes, definitions = value.pop("successes", False), value.pop("definitions", [""])
    comparisons = (
        one._replace(by_successes=by_successes and one.other is not None)
        for rule in value.pop("rules")
        for text, marks in expanded(rule)
        for one in _comparisons(text, marks, runs, definitions)
    )
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


def _comparisons(rule: str, marks: tuple[str, ...], like: Side, definitions: Sequence[str]) -> Iterator[Comparison]:
    left, sign, right = re.split(r" (>|in|~) ", rule, maxsplit=1)
    side = _side(left, like)
    measure = left.partition(":")[2]
    own = [measure.split(",")[0]] if measure and not any(mark in measure for mark in marks) else []
    label = ", ".join((*own, *marks))
    if sign == "in":
        low, high = map(float, right.split(" to "))
        yield Comparison(label, side, low=low, high=high)
    elif sign == "~":
        other, within = right.rsplit(" within ", 1)
        yield Comparison(label, side, _side(other, side), -float(within), float(within))
    elif re.fullmatch(r"[\d.]+", right):
        for definition in definitions:
            defined = side._replace(measure=f"{side.measure}, {definition}") if definition else side
            yield Comparison(label, defined, low=float(right))
    else:
        for each in [right] if right.startswith(":") else right.split(", "):
            other_side = _side(each, side)
            than = NAMES[other_side.model] if other_side.model != side.model else each.strip(":/")
            yield Comparison(", ".join(dict.fromkeys((than, *marks))), side, other_side)


def _side(text: str, like: Side) -> Side:
    """Read EXPERIMENT/CONDITION/MODEL/feedforward:MEASURE, or MODEL; what is left out is as in another side."""
    path, _, measure = text.partition(":")
    places = path.split("/") if "/" in path else ["", "", path]
    named = dict(zip(("experiment", "condition", "model", "kind"), places, strict=False)) | {"measure": measure}
    recurrent = named.pop("kind", "") != "feedforward" and like.recurrent
    return like._replace(recurrent=recurrent, **{name: value for name, value in named.items() if value})
