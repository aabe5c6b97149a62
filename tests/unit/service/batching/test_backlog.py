"""How much work waits, by client, and whose turn is next."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching.backlog import Backlog
from service.errors import RETRY_S, Overloaded


@dataclass
class Chunk:
    client: str
    work: int


def enter(backlog: Backlog, client: str, work: int) -> Chunk:
    chunk = Chunk(client, work)
    backlog.enter(chunk)
    return chunk


def test_a_client_has_its_share_and_others_have_theirs() -> None:
    backlog = Backlog(1_000, 0.5, threads=1)
    enter(backlog, "a", 300)
    enter(backlog, "a", 200)
    with pytest.raises(Overloaded, match="500 steps of this client are waiting"):
        enter(backlog, "a", 1)
    enter(backlog, "b", 400)
    enter(backlog, "b", 100)
    assert backlog.work == 1_000


def test_all_together_have_a_limit() -> None:
    backlog = Backlog(1_000, 0.9, threads=1)
    enter(backlog, "a", 600)
    enter(backlog, "b", 300)
    with pytest.raises(Overloaded, match="as many steps as it takes"):
        enter(backlog, "b", 200)
    enter(backlog, "b", 100)


def test_the_first_chunk_of_all_is_taken_however_long_it_is() -> None:
    backlog = Backlog(1_000, 0.5, threads=1)
    enter(backlog, "a", 20_000)


def test_long_chunks_of_a_thousand_addresses_do_not_add_up() -> None:
    backlog, taken = Backlog(1_000_000, 0.5, threads=2), 0
    for n in range(1_024):
        try:
            enter(backlog, str(n), 20_000)
        except Overloaded:
            continue
        taken += 1
    assert (taken, backlog.work) == (100, 2_000_000)
    enter(backlog, "good", 1_000)  # a short one has its turn after one segment of each


@pytest.mark.parametrize(("threads", "others", "retry_s"), [(1, 0, 20.0), (2, 0, 10.0), (2, 1, 20.0)])
def test_a_refusal_says_when_there_is_room_by_the_time_of_latest_batches(
    threads: int, others: int, retry_s: float
) -> None:
    backlog = Backlog(200, 0.5, threads)
    enter(backlog, "a", 100)
    for number in range(others):
        enter(backlog, f"other {number}", 10)
    with pytest.raises(Overloaded) as unknown:
        enter(backlog, "a", 100)
    assert unknown.value.retry_after_s == RETRY_S  # no batch has run
    backlog.unit_s = 0.2  # and 100 units are too many
    with pytest.raises(Overloaded, match=f"in {retry_s:g} s") as refused:
        enter(backlog, "a", 100)
    assert refused.value.retry_after_s == retry_s


def test_a_client_that_led_goes_to_the_end_of_the_row_and_so_does_a_new_one() -> None:
    backlog = Backlog(inf, 1.0, threads=1)
    for client in "abab":
        enter(backlog, client, 1)
    order = []
    for turn in range(6):
        client = min(backlog.turns, key=lambda name: backlog.turns[name])
        order.append(client)
        backlog.to_the_end(client)
        if turn == 1:
            enter(backlog, "c", 1)
    assert "".join(order) == "ababca"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.integers(0, 60), st.booleans())))
def test_the_sums_are_those_of_the_chunks(events: list[tuple[str, int, int, bool]]) -> None:
    backlog, chunks = Backlog(100, 0.5, threads=1), list[Chunk]()
    for client, work, done, leaves in events:
        before = sum(chunk.work for chunk in chunks if chunk.client == client)
        total = sum(chunk.work for chunk in chunks)
        try:
            chunks.append(enter(backlog, client, work))
        except Overloaded:
            assert before + work > 50 if before and total + work <= 100 else total + work > (100 if before else 200)
        else:
            assert total + work <= 200
            assert not before or (before + work <= 50 and total + work <= 100)
        if chunks:
            backlog.progress(chunks[0], done)
        if leaves and chunks:
            backlog.leave([chunks.pop(0)])
        assert backlog.work == sum(chunk.work for chunk in chunks)
        assert set(backlog.turns) == {chunk.client for chunk in chunks}
    for chunk in chunks:
        backlog.leave([chunk])
    assert backlog.work == 0
    assert not backlog.turns


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 60), min_size=1, max_size=4))))
def test_chunks_that_came_together_are_taken_in_together_if_each_would_be(
    groups: list[tuple[str, list[int]]],
) -> None:
    together, one_by_one = Backlog(100, 0.5, threads=1), Backlog(100, 0.5, threads=1)
    for client, works in groups:
        chunks = [Chunk(client, work) for work in works]
        if together.enter_all(client, chunks):
            for chunk in chunks:
                one_by_one.enter(chunk)
        assert together.work == one_by_one.work
        assert together.turns == one_by_one.turns
