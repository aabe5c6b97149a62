"""Examples are divided by class and by group, the same way every time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_model.spec import SpecError
from hetsyn_model.training.config import load_config
from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.examples import Series
from hetsyn_model.training.datasets.split import Parts, SplitSpec, split


def made(*counts: int, groups: int = 0) -> list[Series]:
    """Examples of each class, whose values tell them apart; with groups in turn."""
    items: list[Series] = []
    for label, count in enumerate(counts):
        for index in range(count):
            group = f"g{index % groups}" if groups else ""
            items.append(Series(np.full((2, 1), len(items), np.float32), label, group))
    return items


def names(count: int) -> list[str]:
    return [f"class-{index}" for index in range(count)]


def numbers(part: list[Series]) -> list[float]:
    return [float(item.values[0, 0]) for item in part]


def everywhere(parts: Parts[Series]) -> list[float]:
    return sorted(numbers(parts.train) + numbers(parts.validation) + numbers(parts.test))


@given(st.lists(st.integers(3, 40), min_size=2, max_size=5), st.integers(0, 3))
def test_files_of_each_class_are_on_every_side(counts: list[int], seed: int) -> None:
    items = made(*counts)
    parts = split(items, names(len(counts)), SplitSpec(by="file", seed=seed))
    assert everywhere(parts) == [float(index) for index in range(len(items))]
    for part in (parts.train, parts.validation, parts.test):
        assert set(Counter(item.label for item in part)) == set(range(len(counts)))
    again = split(items, names(len(counts)), SplitSpec(by="file", seed=seed))
    assert numbers(again.test) == numbers(parts.test)


@given(st.integers(3, 12), st.integers(2, 4), st.integers(12, 40), st.integers(0, 3))
def test_no_group_is_on_two_sides(groups: int, classes: int, count: int, seed: int) -> None:
    items = made(*[count] * classes, groups=groups)
    parts = split(items, names(classes), SplitSpec(by="group", seed=seed))
    assert everywhere(parts) == [float(index) for index in range(len(items))]
    sides = [{item.group for item in part} for part in (parts.train, parts.validation, parts.test)]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert {item.label for item in parts.train} == set(range(classes))


def test_shares_are_kept() -> None:
    parts = split(made(100, 200), names(2), SplitSpec(by="file", validation=0.2, test=0.1))
    assert Counter(item.label for item in parts.validation) == {0: 20, 1: 40}
    assert Counter(item.label for item in parts.test) == {0: 10, 1: 20}
    by_group = split(made(100, 100, groups=20), names(2), SplitSpec(by="group", validation=0.2, test=0.1))
    assert (len(by_group.validation), len(by_group.test)) == (40, 20)


def test_auto_takes_groups_where_each_class_has_three() -> None:
    assert split(made(30, 30, groups=5), names(2), SplitSpec()).by == "group"
    assert split(made(30, 30, groups=2), names(2), SplitSpec()).by == "file"
    assert split(made(30, 30), names(2), SplitSpec()).by == "file"
    # word_1.wav, word_2.wav: the "group" is the class
    items = [Series(item.values, item.label, f"word-{item.label}") for item in made(30, 30, 30)]
    assert split(items, names(3), SplitSpec()).by == "file"


def test_without_a_test_part() -> None:
    assert split(made(2, 2), names(2), SplitSpec(), with_test=False).test == []


@pytest.mark.parametrize(
    ("items", "spec", "message"),
    [
        (made(5, 2), SplitSpec(), "class 'class-1' has 2 examples, but needs 3: one each to train"),
        (made(5, 1), SplitSpec(test=0.0), "class 'class-1' has 1 example, but needs 2"),
        (made(9, 9), SplitSpec(by="group"), "examples have no group: name files GROUP_NUMBER.wav"),
        (made(9, 9, groups=2), SplitSpec(by="group"), "2 groups cannot be divided into 3 parts"),
        (made(9, 9), SplitSpec(by="take", test=0.0), "recordings named label_speaker_take.wav"),
        (made(9, 9), SplitSpec(by="take"), "has no test part: set split.test = 0"),
    ],
)
def test_too_little_is_one_sentence(items: list[Series], spec: SplitSpec, message: str) -> None:
    with pytest.raises(DataError) as error:
        split(items, names(2), spec)
    assert message in str(error.value)


def test_a_class_of_one_group_stays_in_training() -> None:
    items = [*made(30, groups=6), *[Series(np.zeros((2, 1), np.float32), 1, "g0") for _ in range(9)]]
    parts = split(items, names(2), SplitSpec(by="group"))
    assert "g0" in {item.group for item in parts.train}


def test_a_training_with_another_seed_has_the_same_test_examples() -> None:
    """So networks of several seeds can be compared."""
    parts = [load_config({"seed": seed}, "spikes").split for seed in (0, 7)]
    assert parts[0] == parts[1]
    with pytest.raises(SpecError, match=r"split\.seed: -1 is not from 0 to"):
        SplitSpec(seed=-1)
