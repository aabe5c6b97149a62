"""``WS /stream`` on real sockets of the loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET
from socket import socket as tcp_socket
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetsyn_client.events import pack_events
from hetsyn_client.values import pack_values
from service.api import stream_connection
from tests.support.artifact import write_artifact
from tests.support.fake_graph import CHANNELS
from tests.support.gate import Gate
from tests.support.listening import LATER_S, LIVE, SOON_S, Listening, listening, response
from tests.support.live import BINARY, CLOSE, CONT, PING, TEXT, Socket, handshake, said, sent
from tests.support.memory_store import MemoryStore
from tests.support.signals import sound, spikes

EVENTS = "encoding=events"
NOTHING = sent(BINARY, pack_events(5, [], []))


async def opened(server: Listening, query: str = EVENTS, *fields: str) -> tuple[Socket, dict[str, Any]]:
    socket = Socket(*await server.connect())
    return socket, await socket.open(query, *fields)


@asynccontextmanager
async def http(server: Listening) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        yield client


async def test_a_session_from_its_beginning_to_its_end(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, begin = await opened(server, f"{EVENTS}&session=a&model=digits&version=1&form=bank", "X-Request-ID: 7")
        assert begin == begin | {
            "type": "Begin", "session": "a", "model": "digits", "version": "1", "form": "bank", "next_seq": 0,
            "step_ms": 10.0, "resumed": False, "labels": ["one", "two", "three"],
        }  # fmt: skip
        await socket.send(NOTHING, NOTHING, said("KeepAlive"), said("CloseStream", last_seq=1))
        first, second, end, termination = await socket.frames(4)
        assert (first["seq"], second["seq"], second["total_steps"]) == (0, 1, 10)
        assert (second["start"], second["duration"]) == (0.05, 0.05)
        assert (end["type"], end["trigger"], end["end"]) == ("UtteranceEnd", "end", 0.13)
        assert termination == {"type": "Termination", "chunks": 2, "audio_s": 0.13, "utterances": 1}
        assert await socket.closed() == 1000
        await server.until(lambda: server.open == 0)
        assert server.parts.counters.sessions_ended == 1


CHUNKINGS = st.lists(st.integers(1, 700), min_size=1, max_size=6)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunking=CHUNKINGS, kind=st.sampled_from(["pcm_s16le", "events", "values"]))
def test_the_bits_are_those_of_infer_for_any_chunking(
    tmp_path_factory: pytest.TempPathFactory, chunking: list[int], kind: str
) -> None:
    async def compare() -> None:
        folder = tmp_path_factory.mktemp("models")
        write_artifact(folder, takes="values" if kind == "values" else None)
        parts, query, content_type = pieces(kind, chunking)
        async with listening(folder, Gate()) as server, http(server) as client:
            socket, _ = await opened(server, query)
            await socket.send(*(sent(BINARY, part) for part in parts), said("CloseStream"))
            results = await socket.frames(len(parts) + 1)
            replies = [
                (
                    await client.post(
                        "/infer",
                        params={"session": "other", "end": number == len(parts)},
                        content=part,
                        headers={"Content-Type": content_type},
                    )
                ).json()
                for number, part in enumerate([*parts, b""])
            ]
        assert [result["probabilities"] for result in results] == [reply["probabilities"] for reply in replies]
        assert [result["label"] for result in results] == [reply["label"] for reply in replies]
        assert [result["total_steps"] for result in results[:-1]] == [reply["total_steps"] for reply in replies[:-1]]

    asyncio.run(compare())


def pieces(kind: str, lengths: list[int]) -> tuple[list[bytes], str, str]:
    """Chunks, the query of their stream, and their content type."""
    if kind == "pcm_s16le":
        samples = np.split(sound(sum(lengths)).astype("<i2"), np.cumsum(lengths)[:-1])
        content_type = "audio/L16;rate=16000;endianness=little-endian"
        return [part.tobytes() for part in samples], "sample_rate=16000", content_type
    if kind == "values":
        packed = [pack_values(np.random.default_rng(n).normal(size=(n % 50 + 1, CHANNELS))) for n in lengths]
        return [part[0] for part in packed], f"encoding=values&channels={CHANNELS}", packed[0][1]
    steps = [n % 50 + 1 for n in lengths]
    return [pack_events(n, *spikes(n, n)) for n in steps], EVENTS, "application/vnd.hetsyn.events"


async def test_acknowledgements_in_place_of_results(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, _ = await opened(server, f"{EVENTS}&interim=false")
        await socket.send(*[NOTHING] * 40, said("CloseStream"))
        acknowledged = -1
        while (frame := await socket.frame())["type"] == "Ack":
            assert frame["seq"] > acknowledged
            acknowledged = frame["seq"]
        assert (acknowledged, frame["type"]) == (39, "UtteranceEnd")
        assert (await socket.frame())["chunks"] == 40
        assert await socket.closed() == 1000


async def test_a_reset_begins_the_session_anew(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, _ = await opened(server, f"{EVENTS}&session=a")
        await socket.send(NOTHING, said("Reset"), NOTHING, said("Reset"), said("Reset"))
        frames = await socket.frames(5)
        assert [frame["type"] for frame in frames] == ["Result", "Begin", "Result", "Begin", "Begin"]
        assert [frame.get("next_seq", frame.get("seq")) for frame in frames] == [0, 0, 0, 0, 0]
        assert frames[2]["total_steps"] == 5
        assert server.parts.registry.sessions.open == 0
        socket.writer.close()


@pytest.mark.parametrize("text", ["{}", '{"type": "Hello"}', '{"type": "Finalize"}', "Done"])
async def test_a_text_that_means_nothing_leaves_the_stream_open(models: Path, gate: Gate, text: str) -> None:
    async with listening(models, gate) as server:
        socket, _ = await opened(server)
        await socket.send(sent(TEXT, text.encode()), NOTHING)
        assert [frame["type"] for frame in await socket.frames(2)] == ["Error", "Result"]
        socket.writer.close()


@pytest.mark.parametrize("has_store", [False, True])
async def test_a_session_goes_on_where_it_was(models: Path, gate: Gate, has_store: bool) -> None:
    async with listening(models, gate, store=MemoryStore() if has_store else None) as server:
        first, _ = await opened(server, f"{EVENTS}&session=a")
        await first.send(NOTHING, NOTHING)
        await first.frames(2)
        first.writer.transport.abort()
        second, begin = await opened(server, f"{EVENTS}&session=a")
        assert (begin["next_seq"], begin["resumed"]) == (2, True)
        await second.send(NOTHING)
        assert (await second.frame())["total_steps"] == 15
        second.writer.close()
        async with http(server) as client:
            described = (await client.get("/sessions/a")).json()
            assert (described["expected_seq"], described["ended"]) == (3, False)


@pytest.mark.parametrize("is_computing", [False, True])
async def test_a_second_connection_takes_the_session(models: Path, gate: Gate, is_computing: bool) -> None:
    async with listening(models, gate) as server:
        first, _ = await opened(server, f"{EVENTS}&session=a")
        await first.send(NOTHING)
        await first.frame()
        if is_computing:
            gate.opened.clear()
            await first.send(NOTHING, NOTHING)
            assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
        opening = asyncio.create_task(opened(server, f"{EVENTS}&session=a"))
        if is_computing:
            await asyncio.sleep(SOON_S)
            gate.opened.set()
        second, begin = await opening
        assert await first.refused() == ("session-taken", 4409)
        kept = begin["next_seq"]
        assert kept in ((1, 2) if is_computing else (1,))
        await second.send(NOTHING)
        assert (await second.frame())["total_steps"] == 5 * (kept + 1)
        second.writer.close()


async def test_a_connection_that_cannot_have_the_session_does_not_take_it(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        first, _ = await opened(server, f"{EVENTS}&session=a&form=exact")
        await first.send(NOTHING)
        await first.frame()
        reader, writer = await server.connect()
        writer.write(handshake(f"{EVENTS}&session=a&form=bank"))
        assert (await response(reader))[0] == 409
        await first.send(NOTHING)
        assert (await first.frame())["seq"] == 1
        first.writer.close()


async def test_of_two_that_write_a_session_one_is_refused(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, _ = await opened(server, f"{EVENTS}&session=a")
        async with http(server) as client:
            await client.post(
                "/infer?session=a&seq=0",
                content=pack_events(9, [], []),
                headers={"Content-Type": "application/vnd.hetsyn.events"},
            )
        await socket.send(NOTHING)
        assert await socket.refused() == ("conflicting-chunk", 4409)


REFUSED = [
    ("encoding=mp3", 415, "unsupported-input"),
    ("sample_rate=1", 422, "bad-input"),
    ("sample_rate=44101", 422, "bad-input"),
    (f"{EVENTS}&model=none", 404, "not-found"),
    (f"{EVENTS}&version=7", 404, "not-found"),
    (f"{EVENTS}&endpointing=on", 415, "unsupported-input"),
    ("encoding=values&channels=3", 415, "unsupported-input"),
    (f"{EVENTS}&session=ended", 409, "session-ended"),
    (f"{EVENTS}&session=open&form=bank", 409, "model-mismatch"),
    ("sample_rate=8000&session=open", 422, "bad-input"),
]


@pytest.mark.parametrize(("query", "status", "problem"), REFUSED)
async def test_what_is_known_before_the_upgrade_is_refused_as_http(
    models: Path, gate: Gate, query: str, status: int, problem: str
) -> None:
    async with listening(models, gate) as server:
        for session in ("ended", "open"):
            socket, _ = await opened(server, f"{EVENTS}&session={session}&form=exact")
            await socket.send(NOTHING, *([said("CloseStream")] if session == "ended" else []))
            await socket.frames(1 if session == "open" else 3)
            socket.writer.close()
        reader, writer = await server.connect()
        writer.write(handshake(query, "X-Request-ID: 7"))
        got, body = await response(reader)
        assert (got, json.loads(body)["type"]) == (status, f"urn:hetsyn:problem:{problem}")
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    ("sending", "problem", "code"),
    [
        (sent(BINARY, b"what"), "bad-input", 4422),
        (sent(BINARY, b""), "bad-input", 4422),
        (sent(BINARY, pack_events(501, [], [])), "too-large", 4413),
        (sent(BINARY, bytes(3001)), "too-large", 1009),
        (sent(TEXT, b"x" * 2500 + b'"'), "bad-input", 0),
        (sent(TEXT, b"\xff"), "bad-frame", 1007),
        (sent(CONT, b"x"), "bad-frame", 1002),
        (sent(BINARY, b"x", fin=False) * 2, "bad-frame", 1002),
        (LIVE, "bad-frame", 1002),
        (said("CloseStream", last_seq=3), "out-of-order", 4409),
        (sent(PING, b"") * (stream_connection.MOST_CONTROLS + 1), "bad-frame", 1008),
        (said("KeepAlive") * (stream_connection.MOST_CONTROLS + 1), "bad-frame", 1008),
    ],
)
async def test_an_error_is_said_before_the_close(
    models: Path, gate: Gate, sending: bytes, problem: str, code: int
) -> None:
    async with listening(models, gate, max_body_bytes=3000, max_chunk_steps=500) as server:
        socket, _ = await opened(server)
        await socket.send(sending)
        if code:
            assert await socket.refused() == (problem, code)
        else:
            assert (await socket.frame())["problem"] == problem
            socket.writer.close()
        await server.until(lambda: server.open == 0)


async def test_bytes_behind_the_handshake_leave_it_http(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        writer.write(handshake(EVENTS) + LIVE)
        assert [(await response(reader))[0] for _ in range(2)] == [426, 200]
        reader, writer = await server.connect()
        writer.write(handshake(EVENTS) + NOTHING)
        assert (await response(reader))[0] == 426
        assert await reader.read() == b""


async def test_a_handshake_behind_a_request_that_is_not_answered_stays_http(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        writer.write(LIVE + handshake(EVENTS))
        assert [(await response(reader))[0] for _ in range(2)] == [200, 426]
        writer.close()


async def test_a_connection_that_has_served_requests_can_become_a_stream(models: Path, gate: Gate) -> None:
    async with listening(models, gate, header_timeout_s=SOON_S) as server:
        reader, writer = await server.connect()
        writer.write(LIVE)
        assert (await response(reader))[0] == 200
        socket = Socket(reader, writer)
        await socket.open(EVENTS)
        await asyncio.sleep(2 * SOON_S)  # no time-out of HTTP is left
        await socket.send(NOTHING)
        assert (await socket.frame())["seq"] == 0
        writer.close()


async def test_a_stream_is_not_read_while_it_has_enough(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, begin = await opened(server)
        gate.opened.clear()
        sending = asyncio.create_task(socket.send(*[NOTHING] * 20_000))
        assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
        (connection,) = server.process.server_state.connections
        await server.until(lambda: not connection._live.reads)  # type: ignore[union-attr]
        await asyncio.sleep(SOON_S)
        assert len(connection._live._queue) == begin["max_inflight"] - 1  # type: ignore[union-attr]
        gate.opened.set()
        assert [frame["seq"] for frame in await socket.frames(300)] == list(range(300))
        socket.writer.transport.abort()
        with suppress(ConnectionError):
            await sending
        await server.until(lambda: server.open == 0)


async def test_the_end_of_the_server_answers_what_has_come(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        idle, _ = await opened(server)
        socket, _ = await opened(server)
        gate.opened.clear()
        await socket.send(NOTHING, NOTHING, NOTHING)
        assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
        await asyncio.sleep(SOON_S)
        stopping = asyncio.create_task(server.parts.admission.stop())
        assert await idle.refused() == ("shutting-down", 1012)
        reader, writer = await server.connect()
        writer.write(handshake(EVENTS))
        assert (await response(reader))[0] == 503
        gate.opened.set()
        assert [frame["type"] for frame in await socket.frames(3)] == ["Result"] * 3
        assert await socket.refused() == ("shutting-down", 1012)
        await stopping


async def test_the_end_of_the_server_ends_streams_that_begin_meanwhile(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, _ = await opened(server)
        server.process.should_exit = True
        assert await socket.refused() == ("shutting-down", 1012)


async def test_a_silent_client_is_ended(models: Path, gate: Gate) -> None:
    async with listening(models, gate, idle_timeout_s=LATER_S) as server:
        socket, _ = await opened(server)
        assert await socket.refused() == ("idle", 4408)
        assert server.ended == {"idle": 1}


async def test_a_pong_says_that_the_client_is_there(models: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_connection, "PING_S", LATER_S / 4)
    async with listening(models, gate, idle_timeout_s=LATER_S) as server:
        socket, _ = await opened(server)
        for _ in range(8):
            opcode, _ = await socket.any_frame()
            assert opcode == PING
            await socket.send(sent(PING, b"")[:0] + b"\x8a\x80\0\0\0\0")
        await socket.send(NOTHING)
        socket.writer.close()


async def test_a_frame_that_trickles_is_ended(models: Path, gate: Gate) -> None:
    async with listening(models, gate, body_timeout_s=LATER_S, idle_timeout_s=60.0) as server:
        socket, _ = await opened(server)
        await socket.send(sent(BINARY, bytes(1000))[:-1])
        assert await socket.refused() == ("too-slow", 4408)


async def test_a_frame_that_the_server_does_not_read_on_has_time(models: Path, gate: Gate) -> None:
    async with listening(models, gate, body_timeout_s=LATER_S) as server:
        socket, begin = await opened(server)
        count = begin["max_inflight"]
        gate.opened.clear()
        await socket.send(*[NOTHING] * count, NOTHING[:-1])
        await asyncio.sleep(3 * LATER_S)
        gate.opened.set()
        assert [frame.get("seq") for frame in await socket.frames(count)] == list(range(count))
        await socket.send(NOTHING[-1:])
        assert (await socket.frame())["seq"] == count


async def test_a_large_frame_counts_among_the_bodies_while_it_comes_and_until_it_is_applied(
    models: Path, gate: Gate
) -> None:
    large = pack_events(20_000, np.repeat(np.arange(20_000), 3), np.tile(np.arange(3), 20_000))
    assert len(large) > 200_000
    async with listening(models, gate) as server:
        uploads = server.parts.uploads
        socket, _ = await opened(server)
        frame = sent(BINARY, large)
        await socket.send(frame[:150_000])
        await server.until(lambda: uploads.bytes > 100_000)
        assert uploads.under_way == 1
        gate.opened.clear()
        await socket.send(frame[150_000:])
        assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
        assert uploads.bytes > 100_000
        gate.opened.set()
        assert (await socket.frame())["total_steps"] == 20_000
        await server.until(lambda: uploads.bytes == uploads.under_way == 0)
        await socket.send(frame[:150_000])
        await server.until(lambda: uploads.bytes > 100_000)
        socket.writer.transport.abort()
        await server.until(lambda: uploads.bytes == uploads.under_way == 0)


async def test_a_large_frame_that_is_too_slow_makes_room(models: Path, gate: Gate) -> None:
    async with listening(models, gate, body_timeout_s=LATER_S) as server:
        socket, _ = await opened(server)
        await socket.send(sent(BINARY, bytes(200_000))[:150_000])
        assert await socket.refused() == ("too-slow", 4408)
        await server.until(lambda: server.parts.uploads.bytes == 0)


async def test_streams_count_among_the_connections(models: Path, gate: Gate) -> None:
    async with listening(models, gate, max_connections=4, client_share=0.5) as server:
        first, _ = await opened(server)
        second, _ = await opened(server)
        third, _ = await opened(server)
        assert await first.refused() == ("overloaded", 1013)
        assert server.ended == {"displaced": 1}
        for socket in (second, third):
            socket.writer.close()
        await server.until(lambda: server.open == 0)


async def test_a_client_that_does_not_read_is_ended(models: Path, gate: Gate) -> None:
    write_artifact(models, "trace", rule="trace")
    async with listening(models, gate, max_unread_bytes=100_000, client_share=1.0) as server:
        socket, _ = await opened(server, f"{EVENTS}&model=trace")
        socket.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with suppress(ConnectionError):
            for _ in range(500):
                await socket.send(sent(BINARY, pack_events(20_000, [], [])))
        await server.until(lambda: server.open == 0)
        assert server.ended == {"unread": 1}


async def test_a_client_that_says_goodbye_and_does_not_read_is_ended(
    models: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_connection, "CLOSING_S", LATER_S)
    monkeypatch.setattr(stream_connection, "MOST_CONTROLS", 1_000_000)
    async with listening(models, gate, finish_s=1.0) as server:
        connected = tcp_socket()
        connected.setsockopt(SOL_SOCKET, SO_RCVBUF, 16 * 1024)
        connected.connect(("127.0.0.1", server.port))
        reader, writer = await asyncio.open_connection(sock=connected, limit=1000)
        server.writers.append(writer)
        await Socket(reader, writer).open(EVENTS)
        (connection,) = server.process.server_state.connections
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        count = 0
        while not connection.transport.get_write_buffer_size():
            count += 8
            writer.write(sent(PING, bytes(125)) * 8)
            await server.until(lambda count=count: connection._reader.controls == count)  # type: ignore
        assert not connection.is_write_paused  # type: ignore[union-attr]
        writer.write(sent(CLOSE, b"\x03\xe8"))
        async with asyncio.timeout(20 * LATER_S):
            await server.until(lambda: server.open == 0)


async def test_a_refused_handshake_is_answered_though_the_client_sends_on(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        held = asyncio.Event()
        streams = server.parts.connections.streams
        opens = streams.open

        async def open_later(*arguments: Any) -> Any:
            held.set()
            await asyncio.sleep(SOON_S)
            return await opens(*arguments)

        streams.open = open_later
        writer.write(handshake(f"{EVENTS}&model=none"))
        await held.wait()
        writer.write(NOTHING * 1000)
        status, body = await response(reader)
        assert (status, json.loads(body)["type"]) == (404, "urn:hetsyn:problem:not-found")
        assert await reader.read() == b""
        writer.close()


async def test_chunks_of_a_client_that_has_gone_are_not_applied(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, _ = await opened(server, f"{EVENTS}&session=a")
        gate.opened.clear()
        await socket.send(NOTHING, NOTHING)
        assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
        socket.writer.transport.abort()
        await server.until(lambda: server.parts.counters.chunks_abandoned == 1)
        gate.opened.set()
        await server.until(lambda: server.parts.admission.in_flight == 0)
        assert server.parts.counters.chunks_applied == 0
        assert server.parts.registry.sessions.open == 0


async def test_a_full_server_lets_chunks_of_streams_wait(models: Path, gate: Gate) -> None:
    async with listening(models, gate, max_waiting=2, client_share=0.5) as server:
        sockets = [(await opened(server))[0] for _ in range(4)]
        for socket in sockets:
            await socket.send(NOTHING, NOTHING)
        for socket in sockets:
            assert [frame["seq"] for frame in await socket.frames(2)] == [0, 1]
            socket.writer.close()
