"""Connections that send slowly, wait, or read nothing, on real sockets of the loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from service.api.connection import HEADERS_TOO_LONG, MOST_HEADER_BYTES, MOST_PIPELINED, Connection
from service.models.catalog import ModelCatalog
from service.shutdown import GracefulServer
from tests.support.artifact import write_artifact
from tests.support.gate import Gate
from tests.support.http_calls import metric
from tests.support.product import make_app

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
SOON_S = 0.1
LATER_S = 0.4  # within it a request arrives on a busy machine too
NEVER_S = 60.0


class Listening:
    """A server on a free port of the loopback, and its counters."""

    def __init__(self, process: GracefulServer) -> None:
        self.process = process
        self.parts = process.config.app.state.server  # type: ignore[union-attr]
        self.port: int = process.servers[0].sockets[0].getsockname()[1]

    @property
    def ended(self) -> dict[str, int]:
        return dict(self.parts.counters.connections_ended)

    @property
    def open(self) -> int:
        return len(self.parts.connections.shares)

    async def connect(self, client: str = "127.0.0.1") -> tuple[Reader, Writer]:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(client, 0))

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def listening(folder: Path, gate: Gate, **limits: Any) -> AsyncIterator[Listening]:
    app = make_app(ModelCatalog(folder, load=gate.load), inline_s=0.0, **limits)
    server = app.state.server
    config = uvicorn.Config(app, port=0, log_level="error", http=server.connections.protocol, ws="none")
    process = GracefulServer(config, server.admission, 0.0)
    running = asyncio.create_task(process.serve())
    try:
        while not process.started:
            await asyncio.sleep(0.001)
        yield Listening(process)
    finally:
        gate.opened.set()
        process.should_exit = True
        await running


async def response(reader: Reader) -> tuple[int, bytes]:
    """Status and body of the next response."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return int(head.split(b" ")[1]), await reader.readexactly(length)


def chunk(steps: int, **fields: Any) -> bytes:
    content = {"input": {"kind": "events", "steps": steps, "times": [], "units": []}, **fields}
    body = json.dumps(content).encode()
    return b"POST /infer HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("sent", [b"", b"GET /health/live HT", b"GET /health/live HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
async def test_headers_that_do_not_come_end_the_connection(models: Path, gate: Gate, sent: bytes) -> None:
    async with listening(models, gate, header_timeout_s=SOON_S) as server:
        reader, writer = await server.connect()
        writer.write(sent)
        assert await reader.read() == b""
        assert (server.ended, server.open) == ({"headers": 1}, 0)
        writer.close()


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
            assert await reader.read() == b""
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
        assert await reader.read() == b""  # the rest of the second request does not come
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
        writer.write(b"GET /health/live HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        assert (await response(reader))[0] == 200
        writer.write(b"1")
        assert await reader.read() == b""
        assert server.ended == {"headers": 1}
        writer.close()


CHUNKED = b"POST /infer HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("head", [b"GET /", LIVE[:-2] + b"X: ", LIVE + LIVE[:-2] + b"X: "])
async def test_headers_that_are_too_long_are_refused(models: Path, gate: Gate, head: bytes) -> None:
    async with listening(models, gate, header_timeout_s=NEVER_S) as server:
        reader, writer = await server.connect()
        writer.write(head)
        for _ in range(head.count(b"\r\n\r\n")):
            assert (await response(reader))[0] == 200
        with suppress(ConnectionError):  # it is closed with bytes that nobody reads
            writer.write(b"x" * (MOST_HEADER_BYTES + 1))
            answer = await reader.read()
            assert answer == HEADERS_TOO_LONG
        await server.until(lambda: server.open == 0)
        assert server.ended == {"too-long": 1}
        writer.close()


@pytest.mark.parametrize("part", [b"1\r\n{\r\n0\r\nX: ", b"1\r\n{\r\n1;x="])
async def test_trailers_and_extensions_that_are_too_long_end_the_connection(
    models: Path, gate: Gate, part: bytes
) -> None:
    async with listening(models, gate) as server:
        _, writer = await server.connect()
        writer.write(CHUNKED + part)
        await server.until(lambda: server.parts.uploads.under_way == 1)
        writer.write(b"x" * (MOST_HEADER_BYTES + 1))
        await server.until(lambda: bool(server.ended))
        assert server.ended == {"too-long": 1}
        await server.until(lambda: not server.process.server_state.tasks)
        assert server.parts.uploads.under_way == 0
        writer.close()


async def test_long_headers_and_bodies_in_parts_are_served(models: Path, gate: Gate) -> None:
    body = json.dumps({"end": True, "input": {"kind": "events", "steps": 5, "times": [], "units": []}}).encode()
    long = b"X: " + b"x" * (MOST_HEADER_BYTES // 2) + b"\r\n\r\n"
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        for _ in range(3):
            writer.write(CHUNKED[:-2] + long)
            for byte in body:
                writer.write(b"1;%b\r\n%c\r\n" % (b"x" * 1000, byte))
            writer.write(b"0\r\n" + long)
            assert (await response(reader))[0] == 200
        assert not server.ended
        writer.close()


async def test_trailers_do_not_replace_headers(models: Path, gate: Gate) -> None:
    body = chunk(5).partition(b"\r\n\r\n")[2]
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        trailers = b"Content-Encoding: gzip\r\nX-Other: 1\r\n"
        writer.write(CHUNKED + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers) + LIVE)
        for _ in range(2):
            assert (await response(reader))[0] == 200
        writer.close()


@pytest.mark.parametrize("requests", [1, 3])
async def test_a_client_that_sends_no_more_gets_its_responses(models: Path, gate: Gate, requests: int) -> None:
    async with listening(models, gate) as server:
        gate.opened.clear()
        reader, writer = await server.connect()
        writer.write(b"".join(chunk(5, session="a", seq=n) for n in range(requests)))
        writer.write_eof()
        assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
        gate.opened.set()
        for n in range(requests):
            status, body = await response(reader)
            assert (status, json.loads(body)["seq"]) == (200, n)
        assert await reader.read() == b""
        await server.until(lambda: server.open == 0)
        assert not server.ended
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET /", LIVE + b"GET /", chunk(5)[:-5]])
async def test_a_client_that_ends_in_a_request_is_disconnected(models: Path, gate: Gate, sent: bytes) -> None:
    async with listening(models, gate, header_timeout_s=NEVER_S, body_timeout_s=NEVER_S) as server:
        reader, writer = await server.connect()
        writer.write(sent)
        for _ in range(sent.count(LIVE)):
            assert (await response(reader))[0] == 200
        writer.write_eof()
        assert await reader.read() == b""
        await server.until(lambda: server.open == 0 and not server.process.server_state.tasks)
        assert (server.parts.uploads.under_way, server.parts.admission.in_flight) == (0, 0)
        writer.close()


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_request_that_offers_another_protocol_is_served_with_its_body(
    models: Path, gate: Gate, size: int
) -> None:
    offer = [chunk(5, session="a", seq=n).replace(b"\r\n", b"\r\n" + UPGRADE, 1) for n in range(4)]
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        for request in (*offer[:2], offer[2] + offer[3]):
            for start in range(0, len(request), size):
                writer.write(request[start : start + size])
                await asyncio.sleep(0)
        for n in range(4):
            status, body = await response(reader)
            reply = json.loads(body)
            assert (status, reply["seq"], reply["total_steps"]) == (200, n, 5 * (n + 1))
        writer.close()


async def test_a_request_for_a_tunnel_is_refused(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        writer.write(b"CONNECT example.org:443 HTTP/1.1\r\n\r\n" + LIVE)
        assert (await response(reader))[0] == 400
        assert await reader.read() == b""
        writer.close()


async def test_pipelined_requests_are_answered_in_their_order(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        for round_ in range(3):
            first = round_ * MOST_PIPELINED
            writer.write(b"".join(chunk(5, session="a", seq=first + n) for n in range(MOST_PIPELINED)))
            for n in range(MOST_PIPELINED):
                status, body = await response(reader)
                assert (status, json.loads(body)["seq"]) == (200, first + n)
        assert not server.ended
        writer.close()


async def test_no_more_is_read_while_pipelined_requests_wait(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        gate.opened.clear()
        reader, writer = await server.connect()
        writer.write(chunk(5) + LIVE)
        assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
        (connection,) = server.process.server_state.connections
        assert isinstance(connection, Connection)
        await server.until(lambda: len(connection.pipeline) == 1)
        assert connection.flow.read_paused
        connection.flow.resume_reading()
        assert connection.flow.read_paused
        gate.opened.set()
        writer.write(LIVE)
        for _ in range(3):
            assert (await response(reader))[0] == 200
        assert not connection.flow.read_paused
        writer.close()


async def test_too_many_pipelined_requests_end_the_connection(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        writer.write(LIVE * (MOST_PIPELINED + 2))  # the first does not wait
        with suppress(ConnectionError):
            await reader.read()
        await server.until(lambda: server.open == 0 and not server.process.server_state.tasks)
        assert server.ended == {"pipelined": 1}
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
