"""Which chunks form a batch, without an event loop."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from service.batching.backlog import BatchPolicy


class Waiting(NamedTuple):
    group: Hashable
    steps: int
    client: str = ""
    number: int = 0


def waiting(*groups: str, steps: int = 10) -> list[Waiting]:
    return [Waiting(group, steps) for group in groups]


def test_nothing_waits() -> None:
    assert BatchPolicy().choose([], {}) == []


def test_the_group_that_waited_longest_goes_first_in_order_of_arrival() -> None:
    assert BatchPolicy().choose(waiting("a", "b", "a", "b", "b"), {}) == [0, 2]


def test_the_client_whose_turn_it_is_leads_and_its_group_goes_along() -> None:
    names = (("x", "a"), ("y", "b"), ("x", "a"), ("y", "a"), ("x", "b"))
    mixed = [Waiting(group, 10, client) for group, client in names]
    assert BatchPolicy().choose(mixed, {"a": 2, "b": 1}) == [1, 3]
    assert BatchPolicy().choose(mixed, {"a": 1, "b": 2}) == [0, 2, 4]
    same = [item._replace(group="x") for item in mixed[:3]]
    assert BatchPolicy().choose(same, {"a": 2, "b": 1}) == [1, 0, 2]  # it may be cut after the first
    assert BatchPolicy(max_batch=1).choose(mixed[1:], {"a": 1, "b": 2}) == [1]


def test_a_batch_has_a_largest_size() -> None:
    assert BatchPolicy(max_batch=2).choose(waiting("a", "a", "a"), {}) == [0, 1]


def test_a_long_chunk_does_not_make_the_others_wait_for_its_padding() -> None:
    mixed = [Waiting("a", 10), Waiting("a", 10), Waiting("a", 1000), Waiting("a", 10)]
    assert BatchPolicy(max_padded_steps=1000).choose(mixed, {}) == [0, 1]
    assert BatchPolicy(max_padded_steps=1000).choose(mixed[2:], {}) == [0]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), min_size=1, max_size=30),
    st.integers(1, 8),
    st.integers(1, 200),
)
def test_everything_runs_once_and_no_group_overtakes_the_oldest(
    items: list[tuple[str, int]], max_batch: int, max_padded: int
) -> None:
    policy = BatchPolicy(max_batch, max_padded)
    left = [Waiting(group, steps, number=number) for number, (group, steps) in enumerate(items)]
    served: list[int] = []
    while left:
        indices = policy.choose(left, {})
        batch = [left[index] for index in indices]
        assert batch[0] is left[0]
        assert len({item.group for item in batch}) == 1
        assert len(batch) <= max_batch
        assert len(batch) == 1 or max(item.steps for item in batch) * len(batch) <= max_padded
        served += [item.number for item in batch]
        left = [item for index, item in enumerate(left) if index not in indices]
    assert sorted(served) == list(range(len(items)))
    for group in "abc":
        order = [number for number in served if items[number][0] == group]
        assert order == sorted(order)
