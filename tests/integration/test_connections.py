"""Connections that send slowly, wait, or read nothing, on real sockets of the loopback."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest

from service.api.connection import Connection
from tests.support.artifact import write_artifact
from tests.support.gate import Gate
from tests.support.http_calls import metric
from tests.support.socket_server import LATER_S, LIVE, NEVER_S, SOON_S, chunk, listening, response


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"GET /health/live HT", b"HTTP/1.1 408 Request Timeout\r\n"),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 408 Request Timeout\r\n"),
    ],
)
async def test_headers_that_do_not_come_end_the_connection(
    models: Path, gate: Gate, sent: bytes, answer: bytes
) -> None:
    async with listening(models, gate, header_timeout_s=SOON_S) as server:
        reader, writer = await server.connect()
        writer.write(sent)
        assert (await reader.read()).partition(b"\n")[0].strip() == answer.strip()
        assert server.ended == {"headers": 1}
        writer.close()
        await server.until(lambda: server.open == 0)


async def test_headers_that_trickle_end_the_connection_too(models: Path, gate: Gate) -> None:
    async with listening(models, gate, header_timeout_s=LATER_S) as server:
        reader, writer = await server.connect()
        writer.write(LIVE)
        assert (await response(reader))[0] == 200

        async def trickle() -> None:
            writer.write(b"GET /health/live HTTP/1.1\r\nX: ")
            while True:
                await asyncio.sleep(LATER_S / 10)
                writer.write(b"x")

        trickling = asyncio.create_task(trickle())
        with suppress(ConnectionError):  # the last bytes may meet a closed connection
            assert (await response(reader))[0] == 408
        trickling.cancel()
        assert server.ended == {"headers": 1}
        writer.close()


async def test_a_connection_may_wait_for_longer_than_headers_may_take(models: Path, gate: Gate) -> None:
    async with listening(models, gate, header_timeout_s=LATER_S, idle_timeout_s=4 * LATER_S) as server:
        reader, writer = await server.connect()
        writer.write(LIVE)
        assert (await response(reader))[0] == 200
        await asyncio.sleep(2 * LATER_S)
        writer.write(LIVE)
        assert (await response(reader))[0] == 200
        assert await reader.read() == b""
        assert server.ended == {"idle": 1}
        writer.close()


async def test_the_time_of_a_request_is_not_the_clients(models: Path, gate: Gate) -> None:
    async with listening(models, gate, header_timeout_s=LATER_S, idle_timeout_s=LATER_S) as server:
        gate.opened.clear()
        reader, writer = await server.connect()
        writer.write(chunk(5) + LIVE[:10])
        assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
        await asyncio.sleep(2 * LATER_S)
        gate.opened.set()
        assert (await response(reader))[0] == 200
        assert (await response(reader))[0] == 408  # the rest of the second request does not come
        writer.close()


async def test_a_slow_body_is_refused_and_its_connection_closed(models: Path, gate: Gate) -> None:
    async with listening(models, gate, body_timeout_s=SOON_S) as server:
        reader, writer = await server.connect()
        writer.write(chunk(5)[:-5])
        status, body = await response(reader)
        assert (status, json.loads(body)["type"]) == (408, "urn:hetsyn:problem:too-slow")
        assert await reader.read() == b""
        await server.until(lambda: server.open == 0)
        writer.close()


async def test_a_body_that_nobody_reads_has_no_more_time_than_headers(models: Path, gate: Gate) -> None:
    async with listening(models, gate, header_timeout_s=LATER_S, idle_timeout_s=NEVER_S) as server:
        reader, writer = await server.connect()
        writer.write(LIVE[:-2] + b"Content-Length: 9\r\n\r\n")
        assert (await response(reader))[0] == 200
        writer.write(b"1")
        assert await reader.read() == b""
        assert server.ended == {"headers": 1}
        writer.close()


async def test_after_the_rest_of_such_a_body_the_connection_may_wait_for_a_request(models: Path, gate: Gate) -> None:
    async with listening(models, gate, header_timeout_s=LATER_S, idle_timeout_s=4 * LATER_S) as server:
        reader, writer = await server.connect()
        writer.write(LIVE[:-2] + b"Content-Length: 2\r\n\r\n")
        assert (await response(reader))[0] == 200
        for part in (b"1", b"2"):
            writer.write(part)
            await asyncio.sleep(0)
        await asyncio.sleep(2 * LATER_S)
        writer.write(LIVE)
        assert (await response(reader))[0] == 200
        assert await reader.read() == b""
        assert server.ended == {"idle": 1}
        writer.close()


async def test_empty_lines_are_no_request(models: Path, gate: Gate) -> None:
    async with listening(models, gate, header_timeout_s=LATER_S, idle_timeout_s=NEVER_S) as server:
        reader, writer = await server.connect()
        writer.write(LIVE)
        assert (await response(reader))[0] == 200
        writer.write(b"\r\n")
        assert await reader.read() == b""
        assert server.ended == {"headers": 1}
        writer.close()


async def test_one_connection_more_closes_the_one_that_waits_the_longest(models: Path, gate: Gate) -> None:
    async with listening(models, gate, max_connections=4, client_share=0.5) as server:
        gate.opened.clear()
        busy_reader, busy = await server.connect("127.0.0.2")
        busy.write(chunk(5))
        assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
        first, *others = [await server.connect("127.0.0.2"), await server.connect("127.0.0.2")]
        assert await first[0].read() == b""  # two of one address at most: the one that waits goes
        assert server.ended == {"displaced": 1}
        others += [await server.connect("127.0.0.3"), await server.connect("127.0.0.4")]
        await server.until(lambda: server.open == 4)
        newest = await server.connect("127.0.0.5")
        assert await others[0][0].read() == b""
        gate.opened.set()
        assert (await response(busy_reader))[0] == 200
        newest[1].write(LIVE.replace(b"/health/live", b"/metrics"))
        status, counters = await response(newest[0])
        assert status == 200
        assert metric(counters.decode(), "hetsyn_connections") == 4
        assert metric(counters.decode(), 'hetsyn_connections_ended_total{reason="displaced"}') == 2
        for writer in (busy, first[1], newest[1], *(writer for _, writer in others)):
            writer.close()


async def test_a_connection_is_refused_where_all_others_work(models: Path, gate: Gate) -> None:
    async with listening(models, gate, max_connections=1) as server:
        gate.opened.clear()
        busy_reader, busy = await server.connect()
        busy.write(chunk(5))
        assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
        reader, writer = await server.connect()
        assert await reader.read() == b""
        assert server.ended == {"refused": 1}
        gate.opened.set()
        assert (await response(busy_reader))[0] == 200
        busy.close()
        writer.close()


@pytest.fixture
def tracer(tmp_path: Path) -> Path:
    """A folder with a model whose replies are long."""
    write_artifact(tmp_path / "tracers", "tracer", rule="trace")
    return tmp_path / "tracers"


async def test_a_client_that_reads_nothing_is_disconnected(tracer: Path, gate: Gate) -> None:
    async with listening(tracer, gate, idle_timeout_s=SOON_S) as server:
        _, writer = await server.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(60):
            writer.write(chunk(20_000, end=True))
        await server.until(lambda: bool(server.ended))
        assert server.ended == {"unread": 1}
        await server.until(lambda: server.open == 0 and not server.process.server_state.tasks)
        assert server.parts.admission.in_flight == 0
        writer.transport.abort()


async def test_a_client_that_reads_nothing_makes_room(
    tracer: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.connection.UNREAD_S", NEVER_S)
    async with listening(tracer, gate, max_connections=1) as server:
        _, writer = await server.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(60):
            writer.write(chunk(20_000, end=True))
        (connection,) = server.process.server_state.connections
        assert isinstance(connection, Connection)
        await server.until(lambda: connection.flow.write_paused)
        early, refused = await server.connect()  # the first client may still begin to read
        assert await early.read() == b""
        monkeypatch.setattr("service.api.connection.UNREAD_S", 0.0)
        reader, other = await server.connect()
        other.write(LIVE)
        assert (await response(reader))[0] == 200
        assert server.ended == {"refused": 1, "displaced": 1}
        await server.until(lambda: not server.process.server_state.tasks)
        for each in (writer, refused, other):
            each.transport.abort()


async def test_a_client_that_reads_nothing_does_not_keep_a_server_from_its_end(
    tracer: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.shutdown.CLOSING_S", SOON_S)
    async with listening(tracer, gate) as server:
        _, writer = await server.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(60):
            writer.write(chunk(20_000, end=True))
        (connection,) = server.process.server_state.connections
        assert isinstance(connection, Connection)
        await server.until(lambda: connection.flow.write_paused)
    assert not server.process.server_state.connections
    assert not server.process.server_state.tasks
    writer.transport.abort()


@pytest.mark.process
async def test_a_pipelined_request_waits_until_the_response_before_it_is_read(tracer: Path, gate: Gate) -> None:
    async with listening(tracer, gate) as server:
        reader, writer = await server.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(25):
            writer.write(chunk(20_000, end=True))
        (connection,) = server.process.server_state.connections
        assert isinstance(connection, Connection)
        most, answered = 0, -1
        while answered < server.parts.counters.chunks_applied or not connection.flow.write_paused:
            answered = server.parts.counters.chunks_applied
            for _ in range(100):  # until the system takes no more
                await asyncio.sleep(SOON_S / 25)
                most = max(most, connection.transport.get_write_buffer_size())
        assert answered < 25
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(25):
            status, body = await response(reader)
            assert status == 200
        assert most < 1.1 * len(body)
        await server.until(lambda: not server.parts.connections.unread.bytes)
        writer.close()


@pytest.mark.process
async def test_unread_responses_are_bounded_in_bytes(tracer: Path, gate: Gate) -> None:
    async with listening(tracer, gate, max_unread_bytes=2**20, client_share=1.0) as server:
        writers = []
        for _ in range(5):
            _, writer = await server.connect()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(20):
                writer.write(chunk(20_000, end=True))
            writers.append(writer)
        await server.until(lambda: server.ended.get("unread", 0) >= 3)  # 262 kB of the system, and one response
        assert server.parts.connections.unread.bytes <= 2**20
        await server.until(lambda: server.open <= 2)  # who was ended is gone at the loop's next turn
        assert server.open == 2
        reader, other = await server.connect()  # who reads is not concerned
        other.write(chunk(5, end=True))
        assert (await response(reader))[0] == 200
        for each in (*writers, other):
            each.transport.abort()
