"""The registry without HTTP: requests are built by hand and the clock is turned by hand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import (
    ArtifactError,
    ConflictingChunk,
    HetsynError,
    InputError,
    ModelMismatch,
    NotFound,
    Overloaded,
    TooLarge,
)
from service.models.catalog import ModelCatalog
from service.wire.chunk import spike_chunk
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import CHANNELS, TAIL, Rule, load_fake
from tests.support.artifacts.gate import Gate
from tests.support.clients.infer_request import infer_request
from tests.support.clients.replies import Reply
from tests.support.data.signals import spikes
from tests.support.servers.apply_chunk import apply_chunk
from tests.support.servers.in_process import DirectServer, ServeDirect


async def test_a_session_goes_on_where_it_was(server: DirectServer) -> None:
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


@pytest.mark.parametrize("rule", ["sum_softmax", "spike_count", "last", "trace"])
async def test_a_reply_is_the_json_of_its_schema(rule: Rule, tmp_path: Path, serve: ServeDirect) -> None:
    write_artifact(tmp_path / "ruled", "digits", rule=rule)
    server = serve(ModelCatalog(tmp_path / "ruled", load=load_fake))
    for seq, end in enumerate((False, True)):
        with server.admission.permit("") as permit:
            reply = (await apply_chunk(server.registry, infer_request("a", seq, end=end), permit)).json()
        assert Reply.from_json(reply).to_json() == reply


async def test_an_id_is_made_where_there_is_none(server: DirectServer) -> None:
    first, second = await server.send(None), await server.send(None)
    assert first.session != second.session
    assert (await server.send(first.session, 1)).seq == 1


async def test_a_session_begins_with_chunk_zero(server: DirectServer) -> None:
    for session, seq in (("a", None), ("a", 1), (None, 1)):
        await server.refused(NotFound, "begins with seq 0, with begin=true", session, seq)
    with pytest.raises(NotFound):
        await server.registry.describe("a")


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
async def test_a_bad_first_chunk_opens_nothing(
    server: DirectServer, bad: dict[str, Any], kind: type[HetsynError]
) -> None:
    for _ in range(server.parts.settings.limits.max_sessions + 1):
        await server.refused(kind, ".", "a", 0, **bad)
    with pytest.raises(NotFound):
        await server.registry.describe("a")
    assert (server.registry.sessions.open, server.registry.sessions.bytes) == (0, 0)
    assert (await server.send("a", 0)).seq == 0


async def test_a_failing_engine_leaves_the_session(server: DirectServer) -> None:
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


async def test_the_model_is_fixed_at_the_opening(tmp_path: Path, gate: Gate, serve: ServeDirect) -> None:
    write_artifact(tmp_path, "digits", "1")
    write_artifact(tmp_path, "digits", "2")
    write_artifact(tmp_path, "words", "1")
    server = serve(ModelCatalog(with_default(tmp_path, "words"), load=gate.load))
    first = await server.send("a", 0, model="digits", version="1")
    assert (first.model, first.version) == ("digits", "1")
    for wrong in ({"model": "words"}, {"version": "2"}, {"model": "nothing"}):
        await server.refused(ModelMismatch, "name that one, or leave it out", "a", 1, **wrong)
    second = await server.send("a", 1)
    assert (second.model, second.version) == ("digits", "1")
    third = await server.send("a", 2, model="digits", version="1", end=True)
    assert third.total_steps == 30 + TAIL


async def test_chunks_of_one_session_run_in_order_of_arrival(server: DirectServer) -> None:
    server.gate.opened.clear()
    sent = [asyncio.create_task(server.send("a", seed=seed, begin=not seed)) for seed in range(5)]
    await server.entered()
    assert server.gate.calls == 1
    server.gate.opened.set()
    replies = await asyncio.gather(*sent)
    assert [reply.seq for reply in replies] == [0, 1, 2, 3, 4]
    for seed in range(5):
        alone = await server.send("b", seed=seed, begin=not seed)
    assert replies[-1].probabilities == alone.probabilities


async def test_sessions_run_side_by_side(server: DirectServer) -> None:
    server.gate.opened.clear()
    sent = []
    for name in "abc":
        sent.append(asyncio.create_task(server.send(name, 0)))
        await server.entered()
    server.gate.opened.set()
    assert {reply.session for reply in await asyncio.gather(*sent)} == {"a", "b", "c"}


async def test_chunks_that_wait_for_an_opening_that_fails_open_it_themselves(server: DirectServer) -> None:
    server.gate.opened.clear()
    first = asyncio.create_task(server.send("a", 0))
    await server.entered()
    begins = asyncio.create_task(server.send("a", seed=1, begin=True))
    unnumbered = asyncio.create_task(server.send("a", seed=1))
    later = asyncio.create_task(server.send("a", 5, seed=2))
    await asyncio.sleep(0)
    server.gate.failure = ArtifactError("broken")
    server.gate.opened.set()
    with pytest.raises(ArtifactError):
        await first
    with pytest.raises(ArtifactError):
        await begins
    for other in (unnumbered, later):
        with pytest.raises(NotFound):
            await other
    server.gate.failure = None
    assert (await server.send("a", 0)).seq == 0


async def test_a_caller_that_goes_away_leaves_nothing_half_done(server: DirectServer) -> None:
    """Neither its chunk, whether it is computed or waits for its turn, nor the turn or a permit."""
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
    assert server.admission.in_flight == 0
    assert (await server.registry.describe("a"))["expected_seq"] == 1
    retried = asyncio.create_task(server.send("a", 1, seed=1))
    await server.entered()
    server.gate.opened.set()
    assert (await retried).total_steps == 20
    assert await server.send("a", 1, seed=1) == await retried
    reply = await server.send("a", 2, seed=2)
    assert (await server.registry.describe("a"))["expected_seq"] == 3
    for seq in range(3):
        undisturbed = await server.send("b", seq, seed=seq)
    assert reply.probabilities == undisturbed.probabilities
    assert reply.total_steps == 30
    assert server.counters.chunks_applied == 6


async def test_a_caller_that_goes_away_after_its_chunk_is_applied_is_too_late(server: DirectServer) -> None:
    """Or the chunk would count as applied and as abandoned."""
    applied = asyncio.create_task(server.send("a", 0))
    async with asyncio.timeout(60):
        while not server.counters.chunks_applied:
            await asyncio.sleep(0)
    assert applied.cancel()
    assert (await applied).seq == 0


async def test_what_waits_behind_a_caller_that_goes_away_has_its_turn(server: DirectServer) -> None:
    server.gate.opened.clear()
    running = asyncio.create_task(server.send("a", 0))
    await server.entered()
    between = asyncio.create_task(server.send("a", 0, seed=1))
    last = asyncio.create_task(server.send("a", 0, seed=2))
    await asyncio.sleep(0)
    between.cancel()
    running.cancel()
    await server.entered()  # the last is computed
    server.gate.opened.set()
    assert (await last).total_steps == 10
    await server.refused(ConflictingChunk, "other content", "a", 0)


async def test_a_chunk_whose_turn_does_not_come_in_time_is_refused(serve: ServeDirect) -> None:
    server = serve(queue_timeout_s=0.5)
    server.gate.opened.clear()
    running = asyncio.create_task(server.send("a", 0))
    await server.entered()
    await server.refused(Overloaded, "waited too long for its turn", "a", 1, seed=1)
    assert server.admission.in_flight == 1
    server.gate.opened.set()
    assert (await running).seq == 0
    assert (await server.registry.describe("a"))["expected_seq"] == 1


async def test_a_session_begins_anew_whatever_was_there(server: DirectServer) -> None:
    first = await server.send("a", begin=True)
    assert (await server.send("a", seed=1)).seq == 1
    again = await server.send("a", begin=True)
    assert (again.seq, again.probabilities) == (0, first.probabilities)
    await server.send("a", 1, end=True)
    assert (await server.send("a", begin=True)).seq == 0
    assert (await server.send("a", 0, begin=True)) == again  # a number makes it a retry


async def test_a_deletion_waits_for_the_chunks_before_it(server: DirectServer) -> None:
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


async def test_a_session_is_described(server: DirectServer) -> None:
    await server.send("a", 0)
    server.clock.now_s += 5
    described = await server.registry.describe("a")
    assert described.pop("state_bytes") > 0
    assert described == {
        "session": "a",
        "model": "digits",
        "version": "1",
        "expected_seq": 1,
        "total_steps": 10,
        "ended": False,
        "kind": "spikes",
        "label": (await server.send("a", 0)).label,
        "idle_s": 5.0,
    }


async def test_what_happens_is_counted(server: DirectServer) -> None:
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
