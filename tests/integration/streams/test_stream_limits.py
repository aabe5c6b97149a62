"""What bounds a connection of ``WS /stream``, and how the server's end reaches it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from hetsyn_client.events import pack_events
from service.api.streaming import web_socket
from service.ingress import Encoded, Source
from service.live.query import parse_stream_query
from service.registry import applying
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.gate import Gate
from tests.support.clients.live import BINARY, CLOSE, EVENTS, NOTHING, PING, Socket, handshake, opened, sent
from tests.support.servers.socket_server import LATER_S, NEVER_S, SOON_S, listening, response


async def test_a_stream_is_not_read_while_it_has_enough(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, begin = await opened(server)
        gate.opened.clear()
        sending = asyncio.create_task(socket.send(*[NOTHING] * 20_000))
        await gate.computes()
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


async def test_a_full_server_lets_chunks_of_streams_wait(models: Path, gate: Gate) -> None:
    async with listening(models, gate, max_waiting=2, client_share=0.5) as server:
        sockets = [(await opened(server))[0] for _ in range(4)]
        for socket in sockets:
            await socket.send(NOTHING, NOTHING)
        for socket in sockets:
            assert [frame["seq"] for frame in await socket.frames(2)] == [0, 1]
            socket.writer.close()


@pytest.mark.parametrize("work", ["chunk", "session"])
async def test_the_wait_for_a_turn_is_a_part_of_the_queue_timeout(
    models: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    due_s: list[float] = []

    def noted(chunks: Sequence[applying.Applying]) -> None:
        due_s.append(chunks[0].permit.due_s)
        applying.begin(chunks)

    async with listening(models, gate, max_waiting=1, queue_timeout_s=NEVER_S) as server:
        ingress = server.parts.ingress
        monkeypatch.setattr("service.ingress.begin", noted)

        async def wait() -> None:
            if work == "chunk":
                end = Encoded(0, lambda _: parse_stream_query([("encoding", "events")]).end(0))
                await ingress.apply([(Source("a test", "stream", "a"), end)])
            else:
                with await ingress.permit("a") as permit:
                    due_s.append(permit.due_s)

        with await ingress.permit("a"):
            waiting = asyncio.create_task(wait())
            for _ in range(3):  # the chunk begins in the round but one after it came
                await asyncio.sleep(0)
            latest_s = time.monotonic() + NEVER_S
            await server.until(lambda: time.monotonic() + NEVER_S > latest_s + 0.01)
        await waiting
        assert len(due_s) == 1
        assert due_s[0] <= latest_s


async def test_the_end_of_the_server_answers_what_has_come(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        idle, _ = await opened(server)
        socket, _ = await opened(server)
        gate.opened.clear()
        await socket.send(NOTHING, NOTHING, NOTHING)
        await gate.computes()
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
        assert server.parts.counters.chunks_refused["idle"] == 1


async def test_a_pong_says_that_the_client_is_there(models: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_socket, "PING_S", LATER_S / 4)
    async with listening(models, gate, idle_timeout_s=LATER_S) as server:
        socket, _ = await opened(server)
        for _ in range(8):
            opcode, _ = await socket.any_frame()
            assert opcode == PING
            await socket.send(sent(PING, b"")[:0] + b"\x8a\x80\0\0\0\0")
        await socket.send(NOTHING)


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
        gate.opened.clear()
        await socket.send(frame[150_000:])
        await gate.computes()
        assert uploads.bytes > 100_000
        gate.opened.set()
        assert (await socket.frame())["total_steps"] == 20_000
        await server.until(lambda: uploads.bytes == 0)
        await socket.send(frame[:150_000])
        await server.until(lambda: uploads.bytes > 100_000)
        socket.writer.transport.abort()
        await server.until(lambda: uploads.bytes == 0)


async def test_a_large_frame_that_is_too_slow_makes_room(models: Path, gate: Gate) -> None:
    async with listening(models, gate, body_timeout_s=LATER_S) as server:
        socket, _ = await opened(server)
        await socket.send(sent(BINARY, bytes(200_000))[:150_000])
        assert await socket.refused() == ("too-slow", 4408)
        await server.until(lambda: server.parts.uploads.bytes == 0)


async def test_a_client_opens_no_more_streams_than_its_share_of_the_connections(models: Path, gate: Gate) -> None:
    async with listening(models, gate, max_connections=5, client_share=0.4) as server:
        first, _ = await opened(server)
        second, _ = await opened(server)
        reader, writer = await server.connect()
        writer.write(handshake(EVENTS))
        status, body = await response(reader)
        assert (status, json.loads(body)["type"]) == (503, "urn:hetsyn:problem:overloaded")
        assert "2 streams of this client are open: close some" in json.loads(body)["detail"]
        await first.send(NOTHING)
        assert (await first.frame())["seq"] == 0
        second.writer.close()
        await server.until(lambda: server.open == 1)
        third, _ = await opened(server)
        for socket in (first, third):
            socket.writer.close()
        await server.until(lambda: server.open == 0)


async def test_a_stream_makes_no_room_for_another_connection(models: Path, gate: Gate) -> None:
    async with listening(models, gate, max_connections=1) as server:
        socket, _ = await opened(server)
        reader, writer = await server.connect()
        assert await reader.read() == b""
        assert server.ended == {"refused": 1}
        await socket.send(NOTHING)
        assert (await socket.frame())["seq"] == 0
        for each in (writer, socket.writer):
            each.close()


async def test_a_client_that_does_not_read_is_ended(models: Path, gate: Gate) -> None:
    write_artifact(models, "trace", rule="trace")
    async with listening(models, gate, max_held_bytes=100_000, max_body_bytes=100_000) as server:
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
    monkeypatch.setattr(web_socket, "CLOSING_S", LATER_S)
    monkeypatch.setattr(web_socket, "MOST_CONTROLS", 1_000_000)
    async with listening(models, gate, finish_s=1.0) as server:
        reader, writer = await server.connect_narrowly()
        await Socket(reader, writer).open(EVENTS)
        (connection,) = server.process.server_state.connections
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        count = 0
        while not connection.transport.get_write_buffer_size():
            count += 8
            writer.write(sent(PING, bytes(125)) * 8)
            await server.until(lambda count=count: connection._reader.controls == count)  # type: ignore
        assert connection._is_writable  # type: ignore[union-attr]
        writer.write(sent(CLOSE, b"\x03\xe8"))
        await server.until(lambda: server.open == 0)
