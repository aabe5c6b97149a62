"""``WS /streams``: what is refused, how, and that nothing else comes to harm."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetsyn_client.columns import APPLIED, CHUNKS, HEAD, LEAVE, SESSIONS
from hetsyn_client.events import pack_events
from service.admission.uploads import FREE_BYTES
from service.api.streaming.many_streams import ConnectionSessions
from service.live.many_query import parse_many_query
from service.wire.many_frames import Sessions
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.gate import Gate
from tests.support.clients.live import BINARY, TEXT, by_length, handshake, opened, said, sent
from tests.support.clients.live import EVENTS as EVENTS_OF_ONE
from tests.support.clients.many import EVENTS, LINE, Left, hub, silence, spikes_frame
from tests.support.servers.socket_server import SOON_S, listening, response

GOOD = silence([0, 1], 1)


@pytest.mark.parametrize(
    ("frame", "problem", "code"),
    [
        (sent(BINARY, b""), "bad-input", 4422),
        (sent(BINARY, b"HSE1" + GOOD[4:]), "bad-input", 4422),
        (sent(BINARY, GOOD[:-1]), "bad-input", 4422),
        (sent(BINARY, GOOD + b"x"), "bad-input", 4422),
        (sent(BINARY, silence([0, 0], 1)), "bad-input", 4422),
        (sent(BINARY, silence([0, 1], 1, 5, [0, 9])), "bad-input", 4422),
        (sent(BINARY, HEAD.pack(CHUNKS, 2**32 - 1, 0, 0)), "bad-input", 4422),
        (sent(BINARY, HEAD.pack(CHUNKS, 4096, 2**32 - 1, 0)), "bad-input", 4422),
        (sent(BINARY, HEAD.pack(SESSIONS, 4096, 2**32 - 1, 0)), "bad-input", 4422),
        (sent(BINARY, bytes(70_000)), "too-large", 1009),
        (sent(TEXT, b"\xff"), "bad-frame", 1007),
        (b"\xf2\x80" + bytes(4), "bad-frame", 1002),
    ],
    ids=by_length,
)
async def test_a_wrong_frame_ends_the_connection_and_damages_no_session(
    models: Path, gate: Gate, frame: bytes, problem: str, code: int
) -> None:
    async with listening(models, gate, max_body_bytes=60_000) as server:
        many, _ = await hub(server)
        await many.opens("a", "b")
        await many.chunks(silence([0, 1], 0))
        await many.send(frame, sent(BINARY, GOOD))
        assert await many.refused() == (problem, code)
        second, _ = await hub(server)
        assert (await second.opens("a", "b")).next_seq.tolist() == [1, 1]
        assert (await second.chunks(GOOD)).total_steps.tolist() == [10, 10]


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("encoding=events&session=a", 422, "sessions are opened by frames"),
        ("encoding=events&interim=false", 422, "'interim' is not one of /streams"),
        ("encoding=events&spikes=true", 422, "'spikes' is not one of /streams"),
        ("encoding=events&modell=digits", 422, "did you mean model?"),
        ("encoding=mp3", 415, "encoding 'mp3' is not taken by /streams: send one of events, pcm_s16le, values"),
        ("encoding=mulaw&sample_rate=8000", 415, "encoding 'mulaw' is not taken by /streams"),
        ("encoding=pcm_f32le&sample_rate=8000", 415, "encoding 'pcm_f32le' is not taken by /streams"),
        ("encoding=flac", 415, "encoding 'flac' is not taken by /streams"),
        ("encoding=pcm_s16le", 422, "needs its sample rate"),
        ("encoding=events&model=none", 404, "no model 'none'"),
        ("encoding=values&channels=2", 415, "not values"),
    ],
)
async def test_what_is_wrong_from_the_beginning_is_refused_as_http(
    models: Path, gate: Gate, query: str, status: int, sentence: str
) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        writer.write(handshake(query, line=LINE))
        got, body = await response(reader)
        assert (got, sentence in body.decode()) == (status, True), body


async def test_rows_that_cannot_be_opened_leave_the_others_alone(models: Path, gate: Gate) -> None:
    write_artifact(models, version="2")
    async with listening(models, gate) as server:
        many, _ = await hub(server, f"{EVENTS}&version=2")
        one, _ = await opened(server, f"{EVENTS_OF_ONE}&session=older&version=1")
        await one.send(sent(BINARY, pack_events(5, [], [])))
        await one.frame()
        answer = await many.opens("a", "older", "no id", "")
        assert answer.status.tolist() == [APPLIED, 409, 422, 422]
        assert [answer.more[row]["problem"] for row in (1, 2, 3)] == ["model-mismatch", "bad-input", "bad-input"]
        assert (await many.opens("b")).status.tolist() == [422]  # the handle has a session
        results = await many.chunks(silence([0, 1, 2], 0))
        assert results.status.tolist() == [APPLIED, 404, 404]
        await one.send(sent(BINARY, pack_events(5, [], [])))  # was not taken
        assert (await one.frame())["seq"] == 1


async def test_a_full_server_refuses_chunks_and_lets_sessions_go(models: Path, gate: Gate) -> None:
    async with listening(models, gate, inline_s=1.0, max_waiting=1) as server:
        many, _ = await hub(server)
        await many.opens("a", "b")
        with server.parts.admission.permit("127.0.0.2"):
            results = await many.chunks(silence([0, 1], 0, [5, 0], [0, LEAVE]))
        assert results.status.tolist() == [503, APPLIED]
        assert server.parts.many.handles.total == 1
        await many.send(said("CloseStream"))
        assert await many.answer() == {"type": "Termination", "chunks": 0}
        assert await many.closed() == 1000


async def test_frames_that_wait_on_all_connections_together_have_the_bytes_that_a_server_holds(
    models: Path, gate: Gate
) -> None:
    """Beyond them, the server reads on when a connection's own frames are done: none is refused."""
    spikes, most, frames = (np.repeat(np.arange(1_000), 3), np.tile(np.arange(3), 1_000)), 300_000, 40
    async with listening(models, gate, max_held_bytes=most, max_body_bytes=60_000, client_share=1.0) as server:
        connected = [(await hub(server))[0] for _ in range(4)]
        for index, many in enumerate(connected):
            await many.opens(f"session-{index}")
        gate.opened.clear()
        packed = [sent(BINARY, spikes_frame([0], seq, [(1_000, *spikes)])) for seq in range(frames)]
        sending = [asyncio.create_task(many.send(*packed)) for many in connected]
        ends: list[Any] = list(server.process.server_state.connections)
        await server.until(lambda: all(end._live.held_bytes > FREE_BYTES for end in ends))
        await asyncio.sleep(SOON_S)
        assert sum(end._live.held_bytes for end in ends) <= most + len(ends) * (FREE_BYTES + len(packed[0]))
        assert server.parts.admission.budget.bytes.total <= most
        gate.opened.set()
        for many in connected:
            assert [(await many.results()).status.tolist() for _ in packed] == [[APPLIED]] * frames
        await asyncio.gather(*sending)
        assert server.parts.admission.budget.bytes.total == 0


async def test_a_client_that_goes_while_sessions_are_opened_keeps_no_places(models: Path, gate: Gate) -> None:
    """Whatever part of them is open then."""
    gate.opened.set()
    async with listening(models, gate) as server:
        many, rounds, is_open = server.parts.many, 0, False
        while not is_open:
            opening = ConnectionSessions(many, Left(), parse_many_query([("encoding", "events")]), "127.0.0.1")
            ids = [f"{rounds}-{index}" for index in range(100)]
            task = asyncio.create_task(opening.open(Sessions(list(range(100)), ids)))
            for _ in range(rounds):
                await asyncio.sleep(0)
            is_open = task.done()
            opening.release()  # as a connection does
            task.cancel()
            await asyncio.wait([task])
            assert (many.handles.total, len(many.streams)) == (0, 0)
            rounds += 1
        assert rounds > 4  # sessions are opened in two groups
