"""The registry without HTTP; requests are built by hand and the clock is turned by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.app import build_server
from service.contract.manifest import FormName
from service.errors import (
    ArtifactError,
    ConflictingChunk,
    HetsynError,
    InputError,
    ModelMismatch,
    NotFound,
    OutOfOrder,
    Overloaded,
    SessionEnded,
    SessionGone,
    ShuttingDown,
    TooLarge,
)
from service.models.catalog import ModelCatalog
from service.store.base import StateStore
from service.store.memory import MemoryStore
from service.wire.chunk import Chunk, digest, spike_chunk
from service.wire.schema import Envelope, InferRequest, Reply
from tests.support.artifact import write_artifact
from tests.support.fake_graph import CHANNELS, TAIL
from tests.support.gate import Gate
from tests.support.settings import make_settings
from tests.support.signals import spikes


@dataclass
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


def request(
    session: str | None = "s",
    seq: int | None = None,
    *,
    seed: int = 0,
    end: bool = False,
    chunk: Chunk | None = None,
    empty: bool = False,
    model: str | None = None,
    version: str | None = None,
    form: FormName | None = None,
) -> InferRequest:
    """A chunk of ten steps; ``seed`` decides its content."""
    content = None if empty else chunk or spike_chunk(10, *spikes(10, seed))
    envelope = Envelope(session=session, seq=seq, end=end, model=model, version=version, form=form)
    return InferRequest(envelope, content, digest(content, end))


Body = Callable[[], Coroutine[Any, Any, None]]


class Server:
    """A registry on the fake models, in an event loop of its own."""

    def __init__(
        self,
        catalog: ModelCatalog,
        gate: Gate,
        *,
        store: StateStore | None = None,
        clock: Clock | None = None,
        **limits: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.gate = gate
        settings = make_settings(engine_threads=4, inline_s=0.0, **limits)
        self.parts = build_server(settings, catalog, self.clock, store=store, wall=self.clock)
        self.registry, self.admissions, self.counters = self.parts.registry, self.parts.admissions, self.parts.counters

    def run(self, body: Body) -> None:
        async def whole() -> None:
            try:
                await asyncio.wait_for(body(), timeout=20)
            finally:
                self.gate.opened.set()
                await self.parts.close()

        asyncio.run(whole())

    async def send(self, *args: Any, **kwargs: Any) -> Reply:
        with self.admissions:
            return await self.registry.infer(request(*args, **kwargs))

    async def refused(self, kind: type[HetsynError], sentence: str, *args: Any, **kwargs: Any) -> HetsynError:
        with pytest.raises(kind, match=sentence) as caught:
            await self.send(*args, **kwargs)
        return caught.value

    async def entered(self) -> None:
        """Until a graph runs."""
        assert await asyncio.to_thread(self.gate.entered.acquire, timeout=10)


@pytest.fixture
def server(catalog: ModelCatalog, gate: Gate) -> Server:
    return Server(catalog, gate, max_sessions=3, session_idle_s=60, ended_keep_s=10, expired_keep_s=1000)


def test_a_session_goes_on_where_it_was(server: Server) -> None:
    async def body() -> None:
        first = await server.send("a", 0)
        second = await server.send("a", 1, seed=1)
        third = await server.send("a", None, seed=2, end=True)
        assert (first.seq, second.seq, third.seq) == (0, 1, 2)
        assert (first.steps, third.steps, third.total_steps) == (10, 10 + TAIL, 30 + TAIL)
        assert (first.end, third.end) == (False, True)
        assert third.probabilities is not None
        assert third.label == third.labels[int(np.argmax(third.probabilities))]
        whole = [spikes(10, seed) for seed in range(3)]
        times = np.concatenate([times + 10 * index for index, (times, _) in enumerate(whole)])
        units = np.concatenate([units for _, units in whole])
        at_once = await server.send(None, None, chunk=spike_chunk(30, times, units), end=True)
        assert at_once.probabilities == third.probabilities
        assert at_once.session != "a"

    server.run(body)


def test_an_id_is_made_where_there_is_none(server: Server) -> None:
    async def body() -> None:
        first, second = await server.send(None), await server.send(None)
        assert first.session != second.session
        assert (await server.send(first.session, 1)).seq == 1

    server.run(body)


def test_a_chunk_counts_once(server: Server) -> None:
    async def body() -> None:
        first = await server.send("a", 0)
        calls = server.gate.calls
        assert await server.send("a", 0) is first
        assert server.gate.calls == calls
        error = await server.refused(ConflictingChunk, "other content", "a", 0, seed=5)
        assert isinstance(error, ConflictingChunk)
        assert error.expected_seq == 1
        await server.refused(OutOfOrder, "send seq 1 next", "a", 2)
        second = await server.send("a", 1, seed=1, end=True)
        assert await server.send("a", 1, seed=1, end=True) is second
        await server.refused(ConflictingChunk, "other content", "a", 1, seed=1)
        await server.refused(SessionEnded, "has ended", "a", 2)
        await server.refused(SessionEnded, "has ended", "a")
        assert second.total_steps == 20 + TAIL

    server.run(body)


def test_a_session_begins_with_chunk_zero(server: Server) -> None:
    async def body() -> None:
        await server.refused(NotFound, "begin it with seq 0", "a", 1)
        await server.refused(NotFound, "begin it with seq 0", None, 1)
        with pytest.raises(NotFound):
            await server.registry.describe("a")

    server.run(body)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ({"model": "nothing"}, NotFound),
        ({"version": "7"}, NotFound),
        ({"chunk": spike_chunk(3, [0], [CHANNELS])}, InputError),
        ({"chunk": spike_chunk(30_000, [], [])}, TooLarge),
        ({"empty": True, "end": True}, InputError),
    ],
)
def test_a_bad_first_chunk_opens_nothing(server: Server, bad: dict[str, Any], kind: type[HetsynError]) -> None:
    async def body() -> None:
        for _ in range(server.parts.settings.limits.max_sessions + 1):
            await server.refused(kind, ".", "a", 0, **bad)
        with pytest.raises(NotFound):
            await server.registry.describe("a")
        assert (await server.send("a", 0)).seq == 0

    server.run(body)


def test_a_failing_engine_leaves_the_session(server: Server) -> None:
    async def body() -> None:
        server.gate.failure = ArtifactError("broken")
        await server.refused(ArtifactError, "broken", "a", 0)
        with pytest.raises(NotFound):
            await server.registry.describe("a")
        server.gate.failure = None
        await server.send("a", 0)
        server.gate.failure = ArtifactError("broken")
        await server.refused(ArtifactError, "broken", "a", 1, seed=1)
        server.gate.failure = None
        again = await server.send("a", 1, seed=1)
        await server.send("b", 0)
        undisturbed = await server.send("b", 1, seed=1)
        assert again.probabilities == undisturbed.probabilities

    server.run(body)


def test_the_model_is_fixed_at_the_opening(tmp_path: Path, gate: Gate) -> None:
    write_artifact(tmp_path, "digits", "1")
    write_artifact(tmp_path, "digits", "2")
    write_artifact(tmp_path, "words", "1")
    server = Server(ModelCatalog(tmp_path, "words", load=gate.load), gate)

    async def body() -> None:
        first = await server.send("a", 0, model="digits", version="1", form="bank")
        assert (first.model, first.version, first.form) == ("digits", "1", "bank")
        for wrong in ({"model": "words"}, {"version": "2"}, {"form": "exact"}, {"model": "nothing"}):
            await server.refused(ModelMismatch, "name that one, or none", "a", 1, **wrong)
        second = await server.send("a", 1)
        assert (second.model, second.version, second.form) == ("digits", "1", "bank")
        third = await server.send("a", 2, model="digits", version="1", form="bank", end=True)
        assert third.total_steps == 30 + TAIL

    server.run(body)


def test_chunks_of_one_session_run_in_order_of_arrival(server: Server) -> None:
    async def body() -> None:
        server.gate.opened.clear()
        sent = [asyncio.create_task(server.send("a", seed=seed)) for seed in range(5)]
        await server.entered()
        assert server.gate.calls == 1
        server.gate.opened.set()
        replies = await asyncio.gather(*sent)
        assert [reply.seq for reply in replies] == [0, 1, 2, 3, 4]
        for seed in range(5):
            alone = await server.send("b", seed=seed)
        assert replies[-1].probabilities == alone.probabilities

    server.run(body)


def test_sessions_run_side_by_side(server: Server) -> None:
    async def body() -> None:
        server.gate.opened.clear()
        sent = []
        for name in "abc":
            sent.append(asyncio.create_task(server.send(name)))
            await server.entered()
        server.gate.opened.set()
        assert {reply.session for reply in await asyncio.gather(*sent)} == {"a", "b", "c"}

    server.run(body)


def test_chunks_that_wait_for_an_opening_that_fails_open_it_themselves(server: Server) -> None:
    async def body() -> None:
        server.gate.opened.clear()
        first = asyncio.create_task(server.send("a", 0))
        await server.entered()
        unnumbered = asyncio.create_task(server.send("a", seed=1))
        later = asyncio.create_task(server.send("a", 5, seed=2))
        await asyncio.sleep(0)
        server.gate.failure = ArtifactError("broken")
        server.gate.opened.set()
        with pytest.raises(ArtifactError):
            await first
        with pytest.raises(ArtifactError):
            await unnumbered
        with pytest.raises(NotFound):
            await later
        server.gate.failure = None
        assert (await server.send("a", 0)).seq == 0

    server.run(body)


def test_a_caller_that_goes_away_leaves_nothing_half_done(server: Server) -> None:
    async def body() -> None:
        await server.send("a", 0)
        server.gate.entered.acquire(blocking=False)
        server.gate.opened.clear()
        running = asyncio.create_task(server.send("a", 1, seed=1))
        waiting = asyncio.create_task(server.send("a", 2, seed=2))
        await server.entered()
        running.cancel()
        waiting.cancel()
        for task in (running, waiting):
            with pytest.raises(asyncio.CancelledError):
                await task
        retried = asyncio.create_task(server.send("a", 2, seed=2))
        await asyncio.sleep(0)
        server.gate.opened.set()
        reply = await retried
        assert (await server.registry.describe("a"))["expected_seq"] == 3
        for seq in range(3):
            undisturbed = await server.send("b", seq, seed=seq)
        assert reply.probabilities == undisturbed.probabilities
        assert reply.total_steps == 30

    server.run(body)


def test_an_idle_session_is_dropped_and_remembered_as_gone(server: Server) -> None:
    async def body() -> None:
        await server.send("a", 0)
        server.clock.now_s += 59
        server.registry.sessions.sweep(server.clock())
        await server.send("a", 1, seed=1)
        server.clock.now_s += 60
        server.registry.sessions.sweep(server.clock())
        for seq in (None, 0, 2):
            await server.refused(SessionGone, "dropped after 60 s idle", "a", seq)
        with pytest.raises(SessionGone):
            await server.registry.describe("a")
        with pytest.raises(SessionGone):
            await server.registry.delete("a")
        server.clock.now_s += 1000
        server.registry.sessions.sweep(server.clock())
        assert (await server.send("a", 0)).seq == 0

    server.run(body)


def test_a_session_past_its_time_is_gone_before_the_sweep_comes(server: Server) -> None:
    async def body() -> None:
        await server.send("a", 0)
        server.clock.now_s += 60
        await server.refused(SessionGone, "dropped", "a", 1)

    server.run(body)


def test_a_session_in_use_is_not_idle(server: Server) -> None:
    async def body() -> None:
        await server.send("a", 0)
        server.gate.entered.acquire(blocking=False)
        server.gate.opened.clear()
        running = asyncio.create_task(server.send("a", 1, seed=1))
        await server.entered()
        server.clock.now_s += 500
        server.registry.sessions.sweep(server.clock())
        server.gate.opened.set()
        assert (await running).seq == 1
        assert (await server.send("a", 2)).seq == 2

    server.run(body)


@pytest.mark.parametrize("stored", [False, True])
def test_only_chunks_that_are_applied_are_use(catalog: ModelCatalog, gate: Gate, stored: bool) -> None:
    clock = Clock(now_s=1_000_000.0)
    store = MemoryStore(clock) if stored else None
    server = Server(catalog, gate, store=store, clock=clock, session_idle_s=60)

    async def body() -> None:
        await server.send("a", 0)
        for _ in range(5):
            clock.now_s += 10
            await server.send("a", 0)
            await server.registry.describe("a")
            await server.registry.export_state("a")
            await server.refused(OutOfOrder, "gap", "a", 5)
        assert (await server.registry.describe("a"))["idle_s"] == 50
        clock.now_s += 10
        await server.refused(SessionGone, "dropped after 60 s idle", "a", 0)

    server.run(body)


def test_an_ended_session_keeps_its_last_reply_for_a_while(server: Server) -> None:
    async def body() -> None:
        last = await server.send("a", 0, end=True)
        server.clock.now_s += 9
        server.registry.sessions.sweep(server.clock())
        assert await server.send("a", 0, end=True) is last
        assert (await server.registry.describe("a"))["ended"]
        assert (await server.registry.describe("a"))["state_bytes"] == 0
        server.clock.now_s += 1
        with pytest.raises(NotFound):
            await server.registry.describe("a")
        assert (await server.send("a", 0)).end is False

    server.run(body)


def test_ended_and_gone_sessions_are_remembered_up_to_a_number(catalog: ModelCatalog, gate: Gate) -> None:
    server = Server(catalog, gate, max_remembered=2, session_idle_s=60, ended_keep_s=1000)

    async def body() -> None:
        for name in "abc":
            await server.send(name, 0, end=True)
        with pytest.raises(NotFound):
            await server.registry.describe("a")
        assert (await server.registry.describe("b"))["ended"]
        for name in "xyz":
            await server.send(name, 0)
        server.clock.now_s += 60
        server.registry.sessions.sweep(server.clock())
        assert (await server.send("x", 0)).seq == 0
        await server.refused(SessionGone, "dropped", "z", 1)

    server.run(body)


def test_one_session_more_than_there_may_be_is_refused_at_once(server: Server) -> None:
    async def body() -> None:
        for name in "abc":
            await server.send(name, 0)
        error = await server.refused(Overloaded, "3 sessions are open", "d", 0)
        assert isinstance(error, Overloaded)
        assert error.retry_after_s > 0
        assert (await server.send("a", 1)).seq == 1
        await server.send("b", 1, end=True)  # an ended session takes no place
        await server.send("d", 0)
        await server.refused(Overloaded, "open", "e", 0)
        await server.registry.delete("a")
        await server.send("e", 0)
        server.clock.now_s += 60
        assert (await server.send("f", 0)).seq == 0  # the idle ones make room

    server.run(body)


def test_one_request_more_than_may_wait_is_refused_at_once(catalog: ModelCatalog, gate: Gate) -> None:
    server = Server(catalog, gate, max_waiting=2)

    async def body() -> None:
        server.gate.opened.clear()
        running = [asyncio.create_task(server.send("a", seed=seed)) for seed in range(2)]
        await server.entered()
        error = await server.refused(Overloaded, "2 requests are waiting", "b", 0)
        assert isinstance(error, Overloaded)
        assert error.retry_after_s > 0
        server.gate.opened.set()
        await asyncio.gather(*running)
        assert (await server.send("b", 0)).seq == 0

    server.run(body)


def test_a_place_is_held_until_the_chunk_is_computed_whoever_waits(catalog: ModelCatalog, gate: Gate) -> None:
    server = Server(catalog, gate, max_waiting=1)

    async def body() -> None:
        with server.admissions:
            await server.refused(Overloaded, "1 requests are waiting", "a", 0)
        server.gate.opened.clear()
        left = asyncio.create_task(server.send("a", 0))
        await server.entered()
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        await server.refused(Overloaded, "1 requests are waiting", "b", 0)
        server.gate.opened.set()
        async with asyncio.timeout(10):
            while True:
                try:
                    await server.send("b", 0)
                    break
                except Overloaded:
                    await asyncio.sleep(0.001)
        assert (await server.send("a", 1, seed=1)).seq == 1

    server.run(body)


def test_a_deleted_session_may_begin_again(server: Server) -> None:
    async def body() -> None:
        with pytest.raises(NotFound):
            await server.registry.delete("a")
        first = await server.send("a", 0)
        await server.send("a", 1, seed=1)
        await server.registry.delete("a")
        with pytest.raises(NotFound):
            await server.registry.describe("a")
        await server.refused(NotFound, "begin it with seq 0", "a", 2)
        assert (await server.send("a", 0)).probabilities == first.probabilities

    server.run(body)


def test_a_deletion_waits_for_the_chunks_before_it(server: Server) -> None:
    async def body() -> None:
        server.gate.opened.clear()
        running = asyncio.create_task(server.send("a", 0))
        await server.entered()
        deleting = asyncio.create_task(server.registry.delete("a"))
        behind = asyncio.create_task(server.send("a", 1, seed=1))
        await asyncio.sleep(0)
        server.gate.opened.set()
        assert (await running).seq == 0
        await deleting
        with pytest.raises(NotFound):
            await behind
        with pytest.raises(NotFound):
            await server.registry.describe("a")

    server.run(body)


def test_a_session_is_described(server: Server) -> None:
    async def body() -> None:
        await server.send("a", 0)
        server.clock.now_s += 5
        described = await server.registry.describe("a")
        assert described.pop("state_bytes") > 0
        assert described == {
            "session": "a",
            "model": "digits",
            "version": "1",
            "form": "exact",
            "expected_seq": 1,
            "total_steps": 10,
            "ended": False,
            "kind": "spikes",
            "label": (await server.send("a", 0)).label,
            "idle_s": 5.0,
        }

    server.run(body)


def test_closing_finishes_what_runs_and_the_registry_may_go_on(server: Server) -> None:
    async def body() -> None:
        server.gate.opened.clear()
        running = asyncio.create_task(server.send("a", 0))
        await server.entered()
        closing = asyncio.create_task(server.parts.close())
        await asyncio.sleep(0)
        server.gate.opened.set()
        await closing
        assert (await running).seq == 0
        assert (await server.send("a", 1)).seq == 1

    server.run(body)


def test_the_sweep_task_sweeps(catalog: ModelCatalog, gate: Gate) -> None:
    server = Server(catalog, gate, session_idle_s=60, sweep_interval_s=0.001)

    async def body() -> None:
        await server.send("a", 0)
        server.clock.now_s += 60
        task = asyncio.create_task(server.registry.sweep_forever(0.001))
        while server.registry.sessions.open:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(SessionGone):
            await server.registry.describe("a")

    server.run(body)


def test_a_sweep_that_fails_is_logged_and_the_next_one_comes(
    catalog: ModelCatalog, gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(catalog, gate, session_idle_s=60, sweep_interval_s=0.001)

    async def body() -> None:
        await server.send("a", 0)
        server.clock.now_s += 60
        monkeypatch.setattr(server.registry.sessions, "sweeping", lambda _: 1 / 0)
        task = asyncio.create_task(server.registry.sweep_forever(0.001))
        while caplog.text.count("division by zero") < 2:
            assert not task.done()
            await asyncio.sleep(0.001)
        monkeypatch.undo()
        while server.registry.sessions.open:
            assert not task.done()
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    server.run(body)


def test_a_session_is_dropped_at_its_age(catalog: ModelCatalog, gate: Gate) -> None:
    server = Server(catalog, gate, session_idle_s=60, session_age_s=100)

    async def body() -> None:
        await server.send("a", 0)
        for seq in range(1, 4):
            server.clock.now_s += 30
            await server.send("a", seq)
        server.clock.now_s += 10
        await server.refused(SessionGone, "at the age of 100 s", "a", 4)
        assert server.counters.sessions_dropped == 1

    server.run(body)


def test_admission_stops_and_what_runs_is_finished(server: Server) -> None:
    async def body() -> None:
        server.gate.opened.clear()
        running = asyncio.create_task(server.send("a", 0))
        await server.entered()
        server.admissions.leave_rotation()
        assert not server.admissions.is_ready
        second = asyncio.create_task(server.send("b", 0))  # served on, until admission stops
        await server.entered()
        stopping = asyncio.create_task(server.admissions.stop())
        await asyncio.sleep(0)
        await server.refused(ShuttingDown, "shutting down", "c", 0)
        assert not stopping.done()
        server.gate.opened.set()
        await stopping
        assert (await running).seq == 0
        assert (await second).seq == 0

    server.run(body)


def test_what_happens_is_counted(server: Server) -> None:
    async def body() -> None:
        await server.send("a", 0)
        await server.send("a", 0)
        await server.send("a", 1, end=True)
        await server.send("b", 0)
        await server.registry.delete("b")
        counters = server.counters
        assert (counters.chunks_applied, counters.chunks_replayed) == (3, 1)
        assert counters.steps_applied == 30 + TAIL
        assert (counters.sessions_opened, counters.sessions_ended, counters.sessions_deleted) == (2, 1, 1)
        assert (counters.store_loads, counters.store_commits) == (0, 0)

    server.run(body)
