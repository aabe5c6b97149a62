"""Works that do not end, on threads of their own."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from weakref import ref

import pytest

from service.errors import ArtifactError
from service.reload import time_limit
from service.reload.time_limit import TimeLimit, start_thread

HERE, THERE = Path("here"), Path("there")


class Stuck:
    """A work that ends when it is let go, as at a disk that does not answer."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.let_go.wait(timeout=30)
        return "late"


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stuck]:
    monkeypatch.setattr(time_limit, "STOP_S", 0.01)
    work = Stuck()
    yield work
    work.let_go.set()


def test_what_ends_in_time_gives_its_result_or_its_error() -> None:
    limit = TimeLimit(30)
    assert limit.run(HERE, lambda: 7) == 7
    for error in (KeyError("own"), TimeoutError("own")):

        def failing(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error), match="own"):
            limit.run(HERE, failing)
    assert limit.run(HERE, lambda: 7) == 7


def test_what_does_not_end_is_left_behind_and_not_begun_anew(stuck: Stuck) -> None:
    limit = TimeLimit(0.01)
    with pytest.raises(ArtifactError, match=r"here: was not loaded .* within 0\.01 s: export the model again"):
        limit.run(HERE, stuck)
    limit = _with_time(limit)
    assert limit.run(THERE, lambda: 7) == 7
    with pytest.raises(ArtifactError, match=r"here: is still being loaded since an earlier attempt.*restart the"):
        limit.run(HERE, lambda: pytest.fail("began while the first has not ended"))
    late = limit._late[HERE]
    stuck.let_go.set()
    late.result(timeout=30)
    assert limit.run(HERE, lambda: 7) == 7


def test_what_can_be_stopped_is_stopped(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "STOP_S", 30.0)
    limit = TimeLimit(0.01)
    with pytest.raises(ArtifactError, match="was not loaded"):
        limit.run(HERE, stuck, stuck.let_go.set)
    assert _with_time(limit).run(HERE, lambda: 7) == 7


def test_closing_stops_what_runs_and_begins_nothing(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "STOP_S", 30.0)
    limit = TimeLimit(30)
    running = start_thread(lambda: limit.run(HERE, stuck, stuck.let_go.set))
    assert stuck.begun.wait(timeout=30)
    limit.close()
    assert running.result(timeout=30) == "late"
    with pytest.raises(ArtifactError):
        limit.run(THERE, lambda: pytest.fail("began after the end"))


async def test_who_waits_for_a_thread_may_be_cancelled(stuck: Stuck) -> None:
    future = start_thread(stuck)
    waiting = asyncio.create_task(_result(future))
    await asyncio.to_thread(stuck.begun.wait, 30)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    stuck.let_go.set()
    assert await asyncio.to_thread(future.result, 30) == "late"


async def _result(future: Future[str]) -> str:
    return await asyncio.wrap_future(future)


def _with_time(limit: TimeLimit) -> TimeLimit:
    """The same limit with enough time for a slow machine."""
    limit._limit_s = 30
    return limit


def test_a_work_that_fails_keeps_nothing_that_its_caller_has() -> None:
    """Not even until the garbage is collected: a caller has the models that a reload retires."""

    class Held:
        pass

    def caller() -> ref[Held]:
        held = Held()
        with suppress(ArtifactError):
            TimeLimit(10.0).run(Path("model"), fails)
        return ref(held)

    def fails() -> None:
        raise ArtifactError("broken")

    gc.disable()
    try:
        assert caller()() is None
    finally:
        gc.enable()
