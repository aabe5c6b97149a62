"""What all chunks pass, whatever their interface."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from service.admission.uploads import FREE_BYTES
from service.ingress import AT_A_TIME, Encoded, Source, grown_bytes
from service.models.catalog import ModelCatalog
from service.problem import Problem
from service.registry.entries import SessionEntry
from service.session.session import Answer
from service.wire.chunk import AudioChunk
from service.wire.schema import InferRequest
from service.wire.sound import SoundLimit
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.default import with_default
from tests.support.artifacts.gate import WITHIN_S, Gate
from tests.support.clients.infer_request import infer_request
from tests.support.servers.in_process import DirectServer, ServeDirect


def test_only_what_grows_more_than_most_counts_as_more_than_its_bytes() -> None:
    chunk = AudioChunk(np.zeros(100_000, np.float32), 8_000)
    assert grown_bytes(chunk, 100_000) == 0  # mu-law
    assert grown_bytes(chunk, 99_999) == 300_001
    assert grown_bytes(AudioChunk(np.zeros(100, np.float32), 8_000), 1) == 0
    assert grown_bytes(None, 0) == 0


async def test_the_chunks_of_a_frame_leave_other_clients_their_turns(tmp_path: Path) -> None:
    for name in ("digits", "other"):
        write_artifact(tmp_path, name)
    gate = Gate()
    server = DirectServer(
        ModelCatalog(with_default(tmp_path, "digits"), load=gate.load), gate, engine_threads=1, max_batch=4
    )
    gate.opened.clear()
    source = Source("WS /streams", "streams", "a")
    requests = [infer_request(f"a{number}", 0) for number in range(100)]
    frame = asyncio.create_task(server.parts.ingress.apply_frame(source, requests, 0.0))
    await server.entered()
    other = asyncio.create_task(server.send("b", 0, model="other", client="b"))
    while server.admission.in_flight < 2:
        await asyncio.sleep(0)
    gate.opened.set()
    await other
    assert server.counters.chunks_applied <= 3 * 4  # the batch that ran, one before, and that of the other
    assert len(await frame) == 100
    await server.close()


@pytest.mark.parametrize("wrong", ["decoding", "session"])
async def test_a_defect_in_one_chunk_leaves_the_others_theirs(
    serve: ServeDirect, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    server, told = serve(), list[object]()
    sessions = server.registry.sessions
    enter = sessions.enter

    def entered(session_id: str, client: str = "", *, is_one_shot: bool = False) -> SessionEntry:
        if session_id == "wrong":
            raise ZeroDivisionError
        return enter(session_id, client, is_one_shot=is_one_shot)

    def decode(_: SoundLimit) -> InferRequest:
        if wrong == "decoding":
            raise ZeroDivisionError
        return infer_request("wrong", 0)

    def answered(result: Answer | Exception) -> None:
        told.append(result)
        raise ZeroDivisionError

    monkeypatch.setattr(sessions, "enter", entered)
    source, done = Source("a stream", "stream", "a"), asyncio.get_running_loop().create_future()
    server.parts.ingress.begin(source, Encoded(8, decode), answered)
    server.parts.ingress.begin(source, Encoded(8, lambda _: infer_request("right", 0)), done.set_result)
    frame = server.parts.ingress.apply_frame(source, [infer_request(name, 0) for name in ("wrong", "other")], 0.0)
    async with asyncio.timeout(WITHIN_S):
        refused, applied = await frame
        assert isinstance(await done, Answer)
    assert isinstance(refused, Problem)
    assert refused.status == 500
    assert isinstance(applied, Answer)
    assert [type(result) for result in told] == [ZeroDivisionError]
    assert server.admission.in_flight == 0


async def test_a_frame_of_refused_rows_leaves_rounds_to_others(serve: ServeDirect) -> None:
    server, rounds = serve(), 0
    source, requests = Source("a frame", "streams", "a"), [infer_request(f"s{n}", 1) for n in range(1_000)]
    frame = asyncio.create_task(server.parts.ingress.apply_frame(source, requests, 0.0))
    while not frame.done():
        await asyncio.sleep(0)
        rounds += 1
    assert {outcome.code for outcome in frame.result() if isinstance(outcome, Problem)} == {"not-found"}
    assert rounds >= len(requests) // AT_A_TIME
    assert server.admission.in_flight == 0


async def test_a_stream_is_decoded_in_order_behind_a_large_chunk_even_if_one_between_is_dropped(
    serve: ServeDirect,
) -> None:
    server, opened, decoded = serve(), threading.Event(), list[str]()
    source = Source("a stream", "grpc", "a", decoding=set())
    sizes = {"first": 8, "large": FREE_BYTES + 1, "dropped": 8, "last": 8}
    done = {name: asyncio.get_running_loop().create_future() for name in sizes}

    def decode(name: str, _: SoundLimit) -> InferRequest:
        if name == "large":
            opened.wait(WITHIN_S)
        decoded.append(name)
        return infer_request(name, 0)

    begun = {
        name: server.parts.ingress.begin(source, Encoded(size, partial(decode, name)), done[name].set_result)
        for name, size in sizes.items()
    }
    async with asyncio.timeout(WITHIN_S):
        assert isinstance(await done["first"], Answer)
        assert begun["dropped"].drop()
        for _ in range(10):
            await asyncio.sleep(0)
        assert decoded == ["first"]
        opened.set()
        assert isinstance(await done["last"], Answer)
    assert decoded == ["first", "large", "last"]
    assert isinstance(await done["large"], Answer)
    assert not source.decoding
    assert server.admission.in_flight == 0
