"""Which chunks form a batch, without an event loop."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from service.batching.backlog import BatchPolicy, Run, Wait


class Waiting(NamedTuple):
    group: Hashable
    steps: int
    since_s: float
    client: str = ""


def waiting(*groups: str, steps: int = 10) -> list[Waiting]:
    return [Waiting(group, steps, float(index)) for index, group in enumerate(groups)]


def test_nothing_waits() -> None:
    assert BatchPolicy().choose([], 0.0) is None


def test_the_group_that_waited_longest_goes_first_in_order_of_arrival() -> None:
    assert BatchPolicy().choose(waiting("a", "b", "a", "b", "b"), 9.0) == Run((0, 2))


def test_the_client_whose_turn_it_is_leads_and_its_group_goes_along() -> None:
    names = (("x", "a"), ("y", "b"), ("x", "a"), ("y", "a"), ("x", "b"))
    mixed = [Waiting(group, 10, float(index), client) for index, (group, client) in enumerate(names)]
    assert BatchPolicy().choose(mixed, 9.0, {"a": 2, "b": 1}) == Run((1, 3))
    assert BatchPolicy().choose(mixed, 9.0, {"a": 1, "b": 2}) == Run((0, 2, 4))
    same = [item._replace(group="x") for item in mixed[:3]]
    assert BatchPolicy().choose(same, 9.0, {"a": 2, "b": 1}) == Run((1, 0, 2))  # it may be cut after the first
    assert BatchPolicy(max_batch=1).choose(mixed[1:], 9.0, {"a": 1, "b": 2}) == Run((1,))


def test_a_batch_has_a_largest_size() -> None:
    assert BatchPolicy(max_batch=2).choose(waiting("a", "a", "a"), 9.0) == Run((0, 1))


def test_a_long_chunk_does_not_make_the_others_wait_for_its_padding() -> None:
    mixed = [Waiting("a", 10, 0.0), Waiting("a", 10, 0.0), Waiting("a", 1000, 0.0), Waiting("a", 10, 0.0)]
    assert BatchPolicy(max_padded_steps=1000).choose(mixed, 0.0) == Run((0, 1))
    assert BatchPolicy(max_padded_steps=1000).choose(mixed[2:], 0.0) == Run((0,))


def test_an_idle_engine_waits_for_more_only_as_long_as_it_may() -> None:
    policy = BatchPolicy(max_batch=3, max_wait_s=0.5)
    assert policy.choose(waiting("a"), 0.4) == Wait(0.5)
    assert policy.choose(waiting("a"), 0.5) == Run((0,))
    full = [Waiting("a", 1, 0.4)] * 3
    assert policy.choose(full, 0.4) == Run((0, 1, 2))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), min_size=1, max_size=30),
    st.integers(1, 8),
    st.integers(1, 200),
)
def test_everything_runs_once_and_no_group_overtakes_the_oldest(
    items: list[tuple[str, int]], max_batch: int, max_padded: int
) -> None:
    policy = BatchPolicy(max_batch, max_padded)
    left = [Waiting(group, steps, float(index)) for index, (group, steps) in enumerate(items)]
    served: list[float] = []
    while left:
        choice = policy.choose(left, 1e9)
        assert isinstance(choice, Run)
        batch = [left[index] for index in choice.indices]
        assert batch[0] is left[0]
        assert len({item.group for item in batch}) == 1
        assert len(batch) <= max_batch
        assert len(batch) == 1 or max(item.steps for item in batch) * len(batch) <= max_padded
        served += [item.since_s for item in batch]
        left = [item for index, item in enumerate(left) if index not in choice.indices]
    assert sorted(served) == [float(index) for index in range(len(items))]
    for group in "abc":
        order = [since for since in served if items[int(since)][0] == group]
        assert order == sorted(order)
