"""Combinations in which each two values meet."""

from __future__ import annotations

from itertools import combinations, product

from tests.support.pairs import covering, in_pairs


def test_every_pair_that_can_meet_does_in_few_combinations() -> None:
    possible = [each for each in product("abcdef", range(4), ("x", "y")) if each[:2] != ("a", 3)]
    chosen = covering(possible)

    def pairs(of: list[tuple[object, ...]]) -> set[object]:
        return {pair for each in of for pair in combinations(enumerate(each), 2)}

    assert pairs(list(chosen)) == pairs(list(possible))
    assert len(chosen) <= 25  # 23 pairs of letter and number, each in a combination of its own
    assert chosen == covering(possible)
    levels = {param.values: [mark.name for mark in param.marks] for param in in_pairs(possible)}
    assert levels == {each: [] if each in chosen else ["long"] for each in possible}
