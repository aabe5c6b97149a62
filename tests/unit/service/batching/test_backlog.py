"""How much work waits, by client, and whose turn is next."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching.backlog import Backlog, Ticket, work_of
from service.errors import RETRY_S, Overloaded


def test_spikes_count_beside_the_steps() -> None:
    assert work_of(0, 0) == 1
    assert work_of(100, 0) == 101
    assert work_of(100, 800) == 201


def test_a_client_has_its_share_and_others_have_theirs() -> None:
    backlog = Backlog(1_000, 0.5, threads=1)
    backlog.enter("a", 300)
    backlog.enter("a", 200)
    with pytest.raises(Overloaded, match="500 steps of this client are waiting"):
        backlog.enter("a", 1)
    backlog.enter("b", 400)
    backlog.enter("b", 100)
    assert backlog.work == 1_000


def test_all_together_have_a_limit() -> None:
    backlog = Backlog(1_000, 0.9, threads=1)
    backlog.enter("a", 600)
    backlog.enter("b", 300)
    with pytest.raises(Overloaded, match="as many steps as it takes"):
        backlog.enter("b", 200)
    backlog.enter("b", 100)


def test_a_client_that_has_nothing_here_may_send_a_chunk_beyond_the_limit() -> None:
    backlog = Backlog(1_000, 1.0, threads=1)
    first = backlog.enter("a", 1_000)
    second = backlog.enter("b", 600)
    with pytest.raises(Overloaded):
        backlog.enter("a", 1)
    backlog.leave([first])
    backlog.enter("a", 1_000)
    backlog.leave([second])


def test_the_first_chunk_of_all_is_taken_however_long_it_is() -> None:
    backlog = Backlog(1_000, 0.5, threads=1)
    backlog.enter("a", 20_000)


def test_long_chunks_of_a_thousand_addresses_do_not_add_up() -> None:
    backlog, taken = Backlog(1_000_000, 0.5, threads=2), 0
    for n in range(1_024):
        try:
            backlog.enter(str(n), 20_000)
        except Overloaded:
            continue
        taken += 1
    assert (taken, backlog.work) == (100, 2_000_000)
    backlog.enter("good", 1_000)  # a short one has its turn after one segment of each


def test_what_is_done_makes_room() -> None:
    backlog = Backlog(100, 1.0, threads=1)
    ticket = backlog.enter("a", 100)
    with pytest.raises(Overloaded):
        backlog.enter("a", 40)
    backlog.progress(ticket, 40)
    backlog.enter("a", 40)
    backlog.leave([ticket])
    assert backlog.work == 40


@pytest.mark.parametrize(("threads", "others", "retry_s"), [(1, 0, 20.0), (2, 0, 10.0), (2, 1, 20.0)])
def test_a_refusal_says_when_there_is_room_by_the_time_of_latest_batches(
    threads: int, others: int, retry_s: float
) -> None:
    backlog = Backlog(200, 0.5, threads)
    backlog.enter("a", 100)
    for number in range(others):
        backlog.enter(f"other {number}", 10)
    with pytest.raises(Overloaded) as unknown:
        backlog.enter("a", 100)
    assert unknown.value.retry_after_s == RETRY_S  # no batch has run
    for _ in range(3):
        backlog.observe(0.2)  # and 100 units are too many
    with pytest.raises(Overloaded, match=f"in {retry_s:g} s") as refused:
        backlog.enter("a", 100)
    assert refused.value.retry_after_s == retry_s


def test_a_client_that_led_goes_to_the_end_of_the_row_and_so_does_a_new_one() -> None:
    backlog = Backlog(inf, 1.0, threads=1)
    for client in "abab":
        backlog.enter(client, 1)
    order = []
    for turn in range(6):
        client = min(backlog.turns, key=lambda name: backlog.turns[name])
        order.append(client)
        backlog.lead(client)
        if turn == 1:
            backlog.enter("c", 1)
    assert "".join(order) == "ababca"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.integers(0, 60), st.booleans())))
def test_the_sums_are_those_of_the_chunks(events: list[tuple[str, int, int, bool]]) -> None:
    backlog, tickets = Backlog(100, 0.5, threads=1), list[Ticket]()
    for client, work, done, leaves in events:
        before = sum(ticket.work for ticket in tickets if ticket.client == client)
        total = sum(ticket.work for ticket in tickets)
        try:
            tickets.append(backlog.enter(client, work))
        except Overloaded:
            assert before + work > 50 if before and total + work <= 100 else total + work > (100 if before else 200)
        else:
            assert total + work <= 200
            assert not before or (before + work <= 50 and total + work <= 100)
        if tickets:
            backlog.progress(tickets[0], done)
        if leaves and tickets:
            backlog.leave([tickets.pop(0)])
        assert backlog.work == sum(ticket.work for ticket in tickets)
        assert set(backlog.turns) == {ticket.client for ticket in tickets}
    for ticket in tickets:
        backlog.leave([ticket])
    assert backlog.work == 0
    assert not backlog.turns
