"""Connections that send slowly, wait, or read nothing, on real sockets of the loopback."""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import suppress
from pathlib import Path

import pytest

from service.api.application_request import ApplicationRequest
from service.api.connection import Connection
from service.api.exchange import Exchange
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.gate import Gate
from tests.support.clients.http_calls import metric
from tests.support.clients.live import EVENTS, handshake
from tests.support.servers.socket_server import (
    LATER_S,
    LIVE,
    NEVER_S,
    SOON_S,
    Listening,
    Reader,
    Writer,
    chunk,
    listening,
    response,
)


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


@pytest.mark.parametrize(
    ("first", "rest"), [(LIVE, ()), (LIVE[:-2] + b"Content-Length: 2\r\n\r\n", (b"1", b"2"))], ids=["no body", "body"]
)
async def test_a_connection_may_wait_for_longer_than_headers_may_take(
    models: Path, gate: Gate, first: bytes, rest: tuple[bytes, ...]
) -> None:
    async with listening(models, gate, header_timeout_s=LATER_S, idle_timeout_s=4 * LATER_S) as server:
        reader, writer = await server.connect()
        writer.write(first)
        assert (await response(reader))[0] == 200
        for part in rest:
            writer.write(part)
            await asyncio.sleep(0)
        await asyncio.sleep(2 * LATER_S)
        writer.write(LIVE)
        assert (await response(reader))[0] == 200
        assert await reader.read() == b""
        assert server.ended == {"idle": 1}


async def test_the_time_of_a_request_is_not_the_clients(models: Path, gate: Gate) -> None:
    async with listening(models, gate, header_timeout_s=LATER_S, idle_timeout_s=LATER_S) as server:
        gate.opened.clear()
        reader, writer = await server.connect()
        writer.write(chunk(5))
        await gate.computes()
        await asyncio.sleep(2 * LATER_S)
        gate.opened.set()
        assert (await response(reader))[0] == 200
        writer.write(LIVE[:10])
        assert (await response(reader))[0] == 408  # the rest of the second request does not come


async def test_a_slow_body_is_refused_and_its_connection_closed(models: Path, gate: Gate) -> None:
    async with listening(models, gate, body_timeout_s=SOON_S) as server:
        reader, writer = await server.connect()
        writer.write(chunk(5)[:-5])
        status, body = await response(reader)
        assert (status, json.loads(body)["type"]) == (408, "urn:hetsyn:problem:too-slow")
        assert await reader.read() == b""
        await server.until(lambda: server.open == 0)


@pytest.mark.parametrize(
    ("first", "more"), [(LIVE[:-2] + b"Content-Length: 9\r\n\r\n", b"1"), (LIVE, b"\r\n")], ids=["body", "empty line"]
)
async def test_bodies_that_nobody_reads_and_empty_lines_have_no_more_time_than_headers(
    models: Path, gate: Gate, first: bytes, more: bytes
) -> None:
    async with listening(models, gate, header_timeout_s=LATER_S, idle_timeout_s=NEVER_S) as server:
        reader, writer = await server.connect()
        writer.write(first)
        assert (await response(reader))[0] == 200
        writer.write(more)
        assert await reader.read() == b""
        assert server.ended == {"headers": 1}


async def test_one_connection_more_closes_the_one_that_is_longest_without_a_complete_request(
    models: Path, gate: Gate
) -> None:
    async with listening(models, gate, max_connections=4) as server:
        gate.opened.clear()
        busy_reader, busy = await server.connect()
        busy.write(chunk(5))
        await gate.computes()
        slow_reader, slow = await server.connect()
        slow.write(chunk(5)[:-5])
        silent_reader, _ = await server.connect()
        used_reader, used = await server.connect()
        slow.write(b" ")  # it is still without a complete request
        used.write(LIVE)
        assert (await response(used_reader))[0] == 200
        for _ in range(2):
            await server.connect()
        assert await slow_reader.read() == b""
        assert await silent_reader.read() == b""
        assert server.ended == {"displaced": 2}
        await server.until(lambda: not server.parts.uploads.under_way)
        gate.opened.set()
        assert (await response(busy_reader))[0] == 200
        used.write(LIVE.replace(b"/health/live", b"/metrics"))
        status, counters = await response(used_reader)
        assert status == 200
        assert metric(counters.decode(), "hetsyn_connections") == 4
        assert metric(counters.decode(), 'hetsyn_connections_ended_total{reason="displaced"}') == 2


async def test_a_connection_is_refused_where_all_others_work(models: Path, gate: Gate) -> None:
    async with listening(models, gate, max_connections=1) as server:
        gate.opened.clear()
        busy_reader, busy = await server.connect()
        busy.write(chunk(5))
        await gate.computes()
        reader, _ = await server.connect()
        assert await reader.read() == b""
        assert server.ended == {"refused": 1}
        gate.opened.set()
        assert (await response(busy_reader))[0] == 200


@pytest.fixture
def tracer(tmp_path: Path) -> Path:
    """A folder with a model whose replies are long."""
    write_artifact(tmp_path / "tracers", "tracer", rule="trace")
    return tmp_path / "tracers"


async def asks_and_reads_nothing(server: Listening, more: bytes = b"") -> tuple[Reader, Writer]:
    """A client that sends one request (and ``more``), and whose system takes little of the response."""
    reader, writer = await server.connect_narrowly()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(chunk(20_000, end=True) + more)
    return reader, writer


async def test_a_client_that_reads_nothing_is_disconnected(tracer: Path, gate: Gate) -> None:
    async with listening(tracer, gate, idle_timeout_s=SOON_S) as server:
        await asks_and_reads_nothing(server)
        await server.until(lambda: bool(server.ended))
        assert server.ended == {"unread": 1}
        await server.until(lambda: server.open == 0 and not server.process.server_state.tasks)
        assert server.parts.admission.in_flight == 0


async def test_a_client_that_did_not_wait_for_a_long_answer_may_read_it_slowly(
    tracer: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.connection.LINGER_S", 0.001)
    async with listening(tracer, gate) as server:
        reader, writer = await asks_and_reads_nothing(server, LIVE)
        await server.until(lambda: server.parts.uploads.bytes > 0)
        await asyncio.sleep(SOON_S)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        status, body = await response(reader)
        assert (status, len(json.loads(body)["readout"])) == (200, 20_003)  # with the silence at the end
        assert await reader.read() == b""
        assert server.ended == {"pipelined": 1}


async def test_a_refused_connection_is_not_refused_again(
    models: Path, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(models, gate, header_timeout_s=SOON_S) as server:
        reader, writer = await server.connect()
        writer.write(b"nonsense\r\n\r\n")
        assert (await response(reader))[0] == 400
        assert await reader.read() == b""
        await server.until(lambda: server.open == 0)
        assert server.ended == {"malformed": 1}
        assert "Exception in callback" not in caplog.text


async def test_a_client_that_reads_nothing_does_not_keep_a_server_from_its_end(
    tracer: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.shutdown.CLOSING_S", SOON_S)
    async with listening(tracer, gate) as server:
        _, writer = await asks_and_reads_nothing(server)
        await server.until(lambda: len(server.process.server_state.connections) == 1)
        (connection,) = server.process.server_state.connections
        assert isinstance(connection, Connection)
        await server.until(lambda: connection.flow.write_paused)
    assert not server.process.server_state.connections
    assert not server.process.server_state.tasks
    writer.transport.abort()


async def test_who_asks_again_before_the_last_response_is_read_gets_no_other(tracer: Path, gate: Gate) -> None:
    async with listening(tracer, gate) as server:
        _, writer = await asks_and_reads_nothing(server)
        await server.until(lambda: len(server.process.server_state.connections) == 1)
        (connection,) = server.process.server_state.connections
        assert isinstance(connection, Connection)
        await server.until(lambda: connection.flow.write_paused)
        writer.write(chunk(5, end=True))
        await server.until(lambda: server.ended == {"pipelined": 1})


@pytest.mark.process
async def test_unread_responses_are_bounded_in_bytes(tracer: Path, gate: Gate) -> None:
    most = 2 * 2**20
    async with listening(tracer, gate, max_held_bytes=most, max_body_bytes=2**20, client_share=1.0) as server:
        writers = []
        for _ in range(16):
            writers.append((await asks_and_reads_nothing(server))[1])
        await server.until(lambda: server.ended.get("unread", 0) >= 2)  # each holds some 350 kB
        assert most / 3 < server.parts.uploads.bytes <= most
        reader, other = await server.connect()  # who reads is not concerned
        other.write(chunk(5, end=True))
        assert (await response(reader))[0] == 200
        for each in (*writers, other):
            each.transport.abort()
        await server.until(lambda: server.open == 0)
        assert server.parts.uploads.bytes == 0


def forwarded(request: bytes, named: str) -> bytes:
    """A request as a proxy sends it on: what the client says of itself stands before what the proxy has added."""
    return request.replace(b"\r\n", f"\r\nX-Forwarded-For: 7.7.7.7, {named}\r\n".encode(), 1)


async def test_a_client_is_the_address_that_a_trusted_proxy_names(
    models: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    async with listening(models, gate, max_waiting=3, max_connections=10, client_share=0.1) as server:
        gate.opened.clear()
        _, first = await server.connect()
        first.write(forwarded(chunk(5), "192.0.2.1"))
        await server.until(lambda: server.parts.admission.in_flight == 1)
        reader, again = await server.connect()
        again.write(forwarded(chunk(5), "192.0.2.1"))
        assert (await response(reader))[0] == 503
        _, other = await server.connect()
        other.write(forwarded(chunk(5), "192.0.2.2"))
        await server.until(lambda: server.parts.admission.in_flight == 2)


async def test_streams_count_for_the_address_that_a_trusted_proxy_names(
    models: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    async with listening(models, gate, max_connections=10, client_share=0.1) as server:
        for named, status in (("192.0.2.1", b"101"), ("192.0.2.1", b"503"), ("192.0.2.2", b"101")):
            reader, writer = await server.connect()
            writer.write(forwarded(handshake(EVENTS), named))
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == status


async def test_requests_leave_nothing_that_waits_for_the_garbage_collector(models: Path, gate: Gate) -> None:
    wrong_type = chunk(5).replace(b"application/json", b"text/plain")
    requests = [chunk(5, end=True), chunk(5, session="a", seq=7), wrong_type, LIVE, LIVE.replace(b"live", b"none")]
    async with listening(models, gate) as server:
        gc.collect()
        before = of_requests()  # of earlier tests
        gc.disable()
        try:
            for request in requests:
                reader, writer = await server.connect()
                writer.write(request)
                await response(reader)
                writer.close()
            await server.until(lambda: server.open == 0)
            assert [one for one in of_requests() if not any(one is old for old in before)] == []
        finally:
            gc.enable()


def of_requests() -> list[object]:
    """Return the connections and requests in memory."""
    # by type: what torch deprecates warns of a look at its class
    return [one for one in gc.get_objects() if issubclass(type(one), Connection | Exchange | ApplicationRequest)]
