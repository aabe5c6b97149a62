"""Divides examples into training, validation and test: as the data say, by file, by group, or by take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal

import numpy as np

from hetsyn_model.spec import SpecError
from hetsyn_model.training.datasets.data import DataError, Recording
from hetsyn_model.training.datasets.examples import Part, T

By = Literal["auto", "own", "file", "group", "take"]
FEWEST_GROUPS = 3  # `auto` splits by group if each class has as many


@dataclass(frozen=True)
class SplitSpec:
    """The division of examples. Test examples are used once, after training.

    Attributes:
        by: ``file``: each class at random. ``group``: whole groups, so that no speaker is on two sides. ``take``: every
            n-th take of each speaker and class validates (``every``). ``own``: as the data say; if they name no
            validation examples, a share of their training examples. ``auto``: as the data say, else by group if each
            class has three groups or more, else by file.
        validation: share of the examples that choose the epoch.
        test: share of the examples that judge the network; 0 for none.
        every: with ``take``: takes that are multiples of it validate.
        group_pattern: regular expression for the names of wav files in folders of classes; its ``group`` is the group.
            Names that do not match have no group.
        group_column: column of a CSV file; a file without it has no groups.
        seed: for the division; apart from the training's seed, so that all seeds have the same test examples.
    """

    by: By = "auto"
    validation: float = 0.15
    test: float = 0.15
    every: int = 10
    group_pattern: str = r"(?P<group>.+?)(_nohash)?_\d+\.wav"
    group_column: str = "group"
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.validation < 1 and 0 <= self.test < 1 and self.validation + self.test < 1):
            raise SpecError(
                f"split: validation {self.validation} and test {self.test} leave no training examples: give shares "
                "above 0 (test: or 0) that together are below 1"
            )
        if self.every < 2:
            raise SpecError(f"split.every: {self.every} is below 2")
        if not 0 <= self.seed < 2**32:
            raise SpecError(f"split.seed: {self.seed} is not from 0 to {2**32 - 1}")


@dataclass(frozen=True)
class Parts(Generic[T]):
    """Divided examples: ``validation`` chooses the epoch, ``test`` judges the network and may be empty."""

    train: list[T]
    validation: list[T]
    test: list[T]
    by: By


def split(
    items: Sequence[T],
    labels: Sequence[str],
    spec: SplitSpec,
    *,
    with_test: bool = True,
    own: Sequence[Part] | None = None,
) -> Parts[T]:
    """Divide examples; the same for the same examples and spec.

    Args:
        with_test: make a test part. False if the test examples come from elsewhere.
        own: the data's use of each example; None without.
    """
    by = spec.by
    if by == "own" and own is None:
        raise DataError("split.by = 'own', but the data do not say which examples validate and test: use 'auto'")
    if own is not None and by in ("auto", "own"):
        return _by_own(items, labels, spec, own, with_test)
    if by == "auto":
        by = "group" if _fewest_groups(items, len(labels)) >= FEWEST_GROUPS else "file"
    shares = {"test": spec.test if with_test else 0.0, "validation": spec.validation}
    if by == "take":
        if shares["test"]:
            raise DataError("split.by = 'take' has no test part: set split.test = 0, or give test data of their own")
        side = _by_take(items, spec.every)
    elif by == "group":
        side = _by_group(items, len(labels), shares, spec.seed)
    else:
        side = _by_file(items, labels, shares, spec.seed)
    parts = {name: [item for item, own in zip(items, side, strict=True) if own == name] for name in ("train", *shares)}
    for label, name in enumerate(labels):
        if not any(item.label == label for item in parts["train"]):
            raise DataError(f"class {name!r} has no training examples: add some, or split another way")
    if not parts["validation"]:
        raise DataError("no validation examples: add examples, or split another way")
    return Parts(parts["train"], parts["validation"], parts["test"], by)


def _by_own(
    items: Sequence[T], labels: Sequence[str], spec: SplitSpec, own: Sequence[Part], with_test: bool
) -> Parts[T]:
    """Divide as the data say. Their test examples are never trained on, even if other data test."""
    train, validation, test = (
        [item for item, part in zip(items, own, strict=True) if part == wanted]
        for wanted in ("train", "validation", "test")
    )
    trained = {item.label for item in train}
    for label, name in enumerate(labels):
        if label not in trained:
            raise DataError(f"class {name!r} has no training examples: add some, or set split.by = 'file'")
    if not validation:
        drawn = split(train, labels, replace(spec, by="auto"), with_test=False)
        train, validation = drawn.train, drawn.validation
    return Parts(train, validation, test if with_test else [], "own")


def _fewest_groups(items: Sequence[T], classes: int) -> int:
    """Count the groups of the class with the fewest; 0 if an example has no group."""
    if not all(item.group for item in items):
        return 0
    pairs = {(item.label, item.group) for item in items}
    counts = Counter(label for label, _ in pairs)
    return min(counts.get(label, 0) for label in range(classes))


def _by_take(items: Sequence[T], every: int) -> list[str]:
    side = []
    for item in items:
        if not isinstance(item, Recording) or item.take < 0:
            raise DataError("split.by = 'take' needs recordings named label_speaker_take.wav: use 'file' or 'group'")
        side.append("validation" if item.take % every == 0 else "train")
    return side


def _by_file(items: Sequence[T], labels: Sequence[str], shares: dict[str, float], seed: int) -> list[str]:
    side = ["train"] * len(items)
    rng = np.random.default_rng([seed, 0x5B11])
    for label, name in enumerate(labels):
        own = [index for index, item in enumerate(items) if item.label == label]
        needed = 1 + sum(share > 0 for share in shares.values())
        if len(own) < needed:
            raise DataError(
                f"class {name!r} has {len(own)} example{'s' if len(own) != 1 else ''}, but needs {needed}: one each to "
                "train, to validate and, unless split.test = 0, to test"
            )
        order = iter(rng.permutation(own).tolist())
        for part, share in shares.items():
            for _ in range(min(max(1, round(share * len(own))), len(own) - needed + 1) if share else 0):
                side[next(order)] = part
    return side


def _by_group(items: Sequence[T], classes: int, shares: dict[str, float], seed: int) -> list[str]:
    """Assign whole groups to parts, so that each part has about its share of every class."""
    if not all(item.group for item in items):
        raise DataError(
            "split.by = 'group', but examples have no group: name files GROUP_NUMBER.wav, or give a column or an array "
            "of groups"
        )
    names = sorted({item.group for item in items})
    needed = 1 + sum(share > 0 for share in shares.values())
    if len(names) < needed:
        raise DataError(
            f"{len(names)} group{'s' if len(names) != 1 else ''} cannot be divided into {needed} parts: add groups, "
            "set split.test = 0, or split by file"
        )
    counts = {name: np.zeros(classes) for name in names}
    for item in items:
        counts[item.group][item.label] += 1
    total = sum(counts.values(), np.zeros(classes))
    order = np.random.default_rng([seed, 0x5B12]).permutation(np.array(names)).tolist()
    left, chosen = total.copy(), dict[str, str]()
    parts = [part for part, share in shares.items() if share]
    for number, part in enumerate(parts):
        target, got, taken = shares[part] * total, np.zeros(classes), 0
        spare = len(parts) - number  # the later parts and the training need these groups
        while len(order) > spare:
            # a class needs a group for the training
            possible = [name for name in order if ((left - counts[name] > 0) | (counts[name] == 0)).all()]
            if not possible:
                break
            best = min(possible, key=lambda name: float(np.abs(got + counts[name] - target).sum()))
            if taken and np.abs(got + counts[best] - target).sum() >= np.abs(got - target).sum():
                break
            order.remove(best)
            chosen[best], taken = part, taken + 1
            got, left = got + counts[best], left - counts[best]
        if not taken:
            raise DataError(
                f"no group can be kept for {part} without taking a class's last examples from training: add groups, "
                "or split by file"
            )
    return [chosen.get(item.group, "train") for item in items]
