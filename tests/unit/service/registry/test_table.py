"""Entries in memory: how many are looked at when there is no room, and how many at a time."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import NotFound, Overloaded
from service.models.model import Model
from service.observe.counters import Counters
from service.registry.entries import ENTRY_BYTES, SLICE
from service.registry.table import SessionTable
from service.session.protocol import Known, Lifetimes, Progress
from service.session.session import Session
from service.settings import Limits
from tests.support.clock import Clock

LIFETIMES = Lifetimes(idle_s=60, age_s=1000, ended_keep_s=10)


class Counted(SessionTable):
    """Counts the entries that it looks at."""

    def __init__(self, clock: Clock, **limits: Any) -> None:
        super().__init__(Limits(**limits), LIFETIMES, retry_s=5.0, counters=Counters(), clock=clock)
        self.checked = 0
        expire = self.quota.expire

        def counted(session_id: str, now_s: float) -> bool:
            self.checked += 1
            return expire(session_id, now_s)

        self.quota.expire = counted  # type: ignore[method-assign]


def used(sessions: SessionTable, model: Model, name: str, clock: Clock, created_s: float | None = None) -> None:
    """A chunk of a session is applied."""
    entry = sessions.enter(name)
    born_s = clock() if created_s is None else created_s
    sessions.put(entry, Session(model, Known(Progress(1), born_s, clock()), None))
    sessions.leave(entry)


def test_a_session_for_which_there_is_no_room_costs_a_check_of_one(model: Model) -> None:
    clock = Clock()
    sessions = Counted(clock, max_sessions=300)
    for n in range(300):
        used(sessions, model, f"s{n}", clock)
        clock.now_s += 0.01
    used(sessions, model, "s0", clock)
    sessions.checked = 0
    for n in range(100):
        with pytest.raises(Overloaded, match="as many sessions as it takes"):
            sessions.enter(f"new-{n}")
    assert sessions.checked <= 300  # the id, and the oldest session of one chunk and of several
    clock.now_s = 100.01 + 60.005  # s1's time is over, and nobody else's: s0 was used since
    used(sessions, model, "one more", clock)
    with pytest.raises(Overloaded):
        sessions.enter("another")
    for name in ("s0", "s2"):
        sessions.leave(sessions.find(name))
    with pytest.raises(NotFound):
        sessions.find("s1")


def test_ended_and_deleted_sessions_are_not_checked_for_room(model: Model) -> None:
    clock = Clock()
    sessions = Counted(clock, max_sessions=2)
    for n in range(50):
        entry = sessions.enter(f"ended-{n}")
        progress: Progress[Any] = Progress(1, ended=True)
        known = Known(progress, clock(), clock())
        sessions.put(entry, Session(model, known, None))
        sessions.leave(entry)
    used(sessions, model, "deleted", clock)
    entry = sessions.enter("deleted")
    sessions.put(entry, None)
    sessions.leave(entry)
    clock.now_s += 1
    used(sessions, model, "a", clock)
    used(sessions, model, "b", clock)
    sessions.checked = 0
    with pytest.raises(Overloaded):
        sessions.enter("c")
    assert sessions.checked <= 2
    clock.now_s += 60
    used(sessions, model, "c", clock)
    assert sessions.open == 2  # room for one was needed


def test_an_ended_session_in_use_stays(model: Model) -> None:
    clock = Clock()
    sessions = Counted(clock, max_sessions=1, max_session_bytes=2 * ENTRY_BYTES - 1)
    waiting = sessions.enter("a")
    for name in ("a", "b"):  # the reply of b has no room
        entry = sessions.enter(name, is_one_shot=True)
        sessions.put(entry, Session(model, Known(Progress(1, ended=True), clock(), clock()), None))
        sessions.leave(entry)
    assert sessions.find("a") is waiting
    sessions.leave(waiting)
    sessions.put(waiting, None)  # a deletion waited, and a chunk behind it
    sessions.put(waiting, Session(model, Known(Progress(1), clock(), clock()), None))
    sessions.leave(waiting)
    with pytest.raises(Overloaded):
        sessions.enter("c")
    clock.now_s += 61  # the session of a has expired
    sessions.leave(sessions.enter("c"))


def test_a_sweep_goes_on_in_slices(model: Model) -> None:
    clock = Clock()
    sessions = Counted(clock, max_sessions=10 * SLICE)
    for n in range(3 * SLICE + 1):
        used(sessions, model, f"s{n}", clock)
    sessions.checked = 0
    checked = []
    clock.now_s += 60
    for _ in sessions.quota.sweeping(clock()):
        checked.append(sessions.checked)
        used(sessions, model, "meanwhile", clock)
        sessions.checked -= 1
    assert checked == [SLICE, 2 * SLICE, 3 * SLICE]
    assert SLICE <= 500  # chunks wait for one slice, a tenth of a millisecond, and not for the sweep
    assert sessions.open == 1


def test_a_sweep_finds_the_old_among_the_used(model: Model) -> None:
    clock = Clock(now_s=2000.0)
    sessions = Counted(clock, max_sessions=10)
    used(sessions, model, "young", clock)
    used(sessions, model, "old", clock, created_s=1005.0)
    clock.now_s += 10
    list(sessions.quota.sweeping(clock()))
    assert sessions.open == 1
    with pytest.raises(NotFound, match="has expired"):
        sessions.find("old")
