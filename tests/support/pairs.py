"""Pairs in place of products: few combinations of parameters in which each two values still meet."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import combinations as subsets

import pytest
from _pytest.mark import ParameterSet

Combination = tuple[Hashable, ...]


def covering(combinations: Iterable[Combination]) -> list[Combination]:
    """Choose combinations in which every pair of values meets that meets in any of them.

    It takes the combination with the most new pairs first, the earliest among equals: the same at every call.
    """
    pairs = {each: set(subsets(enumerate(each), 2)) for each in combinations}
    missing = set().union(*pairs.values())
    chosen = []
    while missing:
        best = max(pairs, key=lambda each: len(pairs[each] & missing))
        chosen.append(best)
        missing -= pairs.pop(best)
    return chosen


def in_pairs(combinations: Iterable[Combination]) -> list[ParameterSet]:
    """Make parameters of all combinations: those that cover the pairs run at every edit, the others are ``long``."""
    every = list(combinations)
    chosen = set(covering(every))
    return [pytest.param(*each, marks=() if each in chosen else pytest.mark.long) for each in every]
