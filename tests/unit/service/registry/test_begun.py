"""The ids of sessions that a killed process had begun."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import SessionGone
from service.registry import begun as module
from service.registry.begun import BegunSessions
from service.workers.place import Place
from tests.support.server import ServeDirect


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9))))
def test_the_next_process_knows_what_was_there(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[bool, int]]
) -> None:
    path, there = tmp_path_factory.mktemp("begun") / "0.begun", set()
    sessions = BegunSessions(path, 5, 10)
    for begins, number in acts:
        if begins:
            sessions.begin(f"s{number}")
            there.add(number)
        else:
            sessions.release(f"s{number}")
            there.discard(number)
    after = BegunSessions(path, 5, 10)  # the file is read as a killed process has left it
    assert {number for number in range(10) if after.has_lost(f"s{number}")} == there
    assert not any(sessions.has_lost(f"s{number}") for number in range(10))


def test_a_lost_id_is_free_once_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "0.begun"
    BegunSessions(path, 5, 10).begin("a")
    second = BegunSessions(path, 5, 10)
    assert second.has_lost("a")
    second.release("a")
    assert not second.has_lost("a")
    assert not BegunSessions(path, 5, 10).has_lost("a")


def test_a_full_file_keeps_the_sessions_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_HASHES", 40)
    path = tmp_path / "0.begun"
    BegunSessions(path, 5, 10).begin("lost before")
    sessions = BegunSessions(path, 5, 10)
    there = [f"old-{n}" for n in range(5)]
    for session in there:
        sessions.begin(session)
    sessions.ids = lambda: there
    for n in range(500):
        sessions.begin(f"gone-{n}")
        sessions.release(f"gone-{n}")
    after = BegunSessions(path, 5, 10)
    assert all(after.has_lost(session) for session in [*there, "lost before"])
    assert not any(after.has_lost(f"gone-{n}") for n in range(500))
    assert path.stat().st_size < 1_000


def test_another_server_has_other_hashes(tmp_path: Path) -> None:
    BegunSessions(tmp_path / "0.begun", 5, 10).begin("a")
    assert not BegunSessions(tmp_path / "0.begun", 6, 10).has_lost("a")


async def test_sessions_of_a_killed_process_are_lost_and_no_others(tmp_path: Path, serve: ServeDirect) -> None:
    place = Place(0, 1, 5, str(tmp_path), 0, ())
    killed = serve(place=place, ended_keep_s=10)
    for session in ("open", "deleted", "replaced", "ended", "forgotten"):
        await killed.send(session, 0, end=session in ("ended", "forgotten"))
    exported = await killed.transfer.export_state("open")
    await killed.registry.delete("deleted")
    await killed.transfer.import_state("replaced", exported, replace_it=True)
    after = serve(place=place, clock=killed.clock)
    for session in ("open", "replaced", "ended"):
        for seq in (None, 0, 1):
            await after.refused(SessionGone, "is lost: the process that had it has ended", session, seq)
        with pytest.raises(SessionGone):
            await after.registry.describe(session)
    assert (await after.send("deleted", 0)).seq == 0
    assert (await after.send("new", 0)).seq == 0
    await after.transfer.import_state("open", exported, replace_it=True)  # from a copy, it may go on
    assert (await after.send("open", 1, seed=1)).seq == 1


async def test_an_id_is_free_when_its_ended_session_is_forgotten(tmp_path: Path, serve: ServeDirect) -> None:
    place = Place(0, 1, 5, str(tmp_path), 0, ())
    killed = serve(place=place, ended_keep_s=10)
    await killed.send("a", 0, end=True)
    killed.clock.now_s += 11
    killed.registry.sessions.sweep(killed.clock())
    after = serve(place=place, clock=killed.clock, expired_keep_s=100)
    assert (await after.send("a", 0)).seq == 0
    again = serve(place=place, clock=killed.clock, expired_keep_s=100)
    await again.refused(SessionGone, "is lost", "a", 1)
    again.clock.now_s += 101
    again.registry.sessions.sweep(again.clock())
    assert (await again.send("a", 0)).seq == 0
