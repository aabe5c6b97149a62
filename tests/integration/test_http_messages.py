"""Requests as bytes, on real sockets of the loopback: long, cut short, pipelined or malformed ones."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest

from service.api.connection import HEADERS_TOO_LONG, MOST_HEADER_BYTES, MOST_PIPELINED, Connection
from tests.support.gate import Gate
from tests.support.listening import LIVE, NEVER_S, chunk, listening, response

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


@pytest.mark.parametrize("rest", [b"not HTTP\r\n\r\n", CHUNKED + b"zz\r\n", b"CONNECT x:1 HTTP/1.1\r\n\r\n"])
async def test_malformed_bytes_do_not_answer_the_requests_before_them(models: Path, gate: Gate, rest: bytes) -> None:
    async with listening(models, gate) as server:
        gate.opened.clear()
        reader, writer = await server.connect()
        writer.write(chunk(5, session="a", seq=0) + chunk(5, session="a", seq=1) + rest)
        assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
        writer.write(chunk(5, session="a", seq=2))  # is not read
        gate.opened.set()
        for n in range(2):
            status, body = await response(reader)
            assert (status, json.loads(body)["seq"]) == (200, n)
        with suppress(ConnectionError):  # it is closed with bytes that nobody reads
            assert await reader.read() == b""
        await server.until(lambda: server.open == 0 and not server.process.server_state.tasks)
        assert server.parts.uploads.under_way == 0
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
