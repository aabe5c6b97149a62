"""Requests as bytes, on real sockets of the loopback: long, cut short, too early or malformed ones."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from service.api.messages import MOST_FIELDS, MOST_HEADER_BYTES, MOST_URL_BYTES
from tests.support.artifacts.gate import Gate
from tests.support.servers.socket_server import LIVE, NEVER_S, Reader, Writer, chunk, listening, response

CHUNKED = b"POST /infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


PART = LIVE[:-2] + b"X: "


def is_refusal(answer: tuple[int, bytes], status: int) -> None:
    problem = json.loads(answer[1])
    assert (answer[0], problem["status"], problem["type"]) == (status, status, "urn:hetsyn:problem:http")
    assert "send " in problem["detail"]


async def ask(reader: Reader, writer: Writer, request: bytes) -> int:
    """Status of the response to a request."""
    writer.write(request)
    return (await response(reader))[0]


TOO_LONG, TOO_MANY = MOST_HEADER_BYTES + 1, MOST_FIELDS + 2  # the last one may go on


@pytest.mark.parametrize(
    ("answered", "begun", "piece", "count", "status"),
    [
        (0, b"GET /", b"x", TOO_LONG, 414),
        (0, PART, b"x", TOO_LONG, 431),
        (1, PART, b"x", TOO_LONG, 431),
        (0, LIVE[:-2], b"a:\r\n", TOO_MANY, 431),
        (1, LIVE[:-2], b"a:\r\n", TOO_MANY, 431),
        (0, CHUNKED + b"1\r\n{\r\n0\r\n", b"a:\r\n", TOO_MANY, 431),
    ],
)
async def test_long_or_many_headers_are_refused_before_they_are_complete(
    models: Path, gate: Gate, answered: int, begun: bytes, piece: bytes, count: int, status: int
) -> None:
    async with listening(models, gate, header_timeout_s=NEVER_S) as server:
        reader, writer = await server.connect()
        for _ in range(answered):
            assert await ask(reader, writer, LIVE) == 200
        writer.write(begun)
        writer.write(piece * count)
        is_refusal(await response(reader), status)
        assert await reader.read() == b""
        assert server.ended == {"too-long": 1}
        writer.close()
        await server.until(lambda: server.open == 0)


@pytest.mark.parametrize("part", [b"1\r\n{\r\n0\r\nX: ", b"1\r\n{\r\n1;x="])
async def test_trailers_and_extensions_that_are_too_long_end_the_connection(
    models: Path, gate: Gate, part: bytes
) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        writer.write(CHUNKED + part)
        await server.until(lambda: server.parts.uploads.under_way == 1)
        writer.write(b"x" * (MOST_HEADER_BYTES + 1))
        is_refusal(await response(reader), 431)
        assert await reader.read() == b""
        assert server.ended == {"too-long": 1}
        await server.until(lambda: not server.process.server_state.tasks)
        assert server.parts.uploads.under_way == 0


@pytest.mark.parametrize(
    ("rest", "reason"),
    [(b"z\r\n", "malformed"), (b"0\r\n" + b"a:\r\n" * 200, "too-long"), (b"1;" + b"x" * 99_999, "too-long")],
)
async def test_a_request_that_is_answered_before_its_body_has_one_response(
    models: Path, gate: Gate, rest: bytes, reason: str
) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        writer.write(CHUNKED.replace(b"application/json", b"text/plain") + b"1\r\na\r\n")
        assert (await response(reader))[0] == 415
        writer.write(rest)
        assert await reader.read() == b""
        assert server.ended == {reason: 1}
        writer.close()
        await server.until(lambda: server.open == 0)


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


async def test_trailers_do_not_replace_headers(models: Path, gate: Gate) -> None:
    body = chunk(5).partition(b"\r\n\r\n")[2]
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        trailers = b"Content-Encoding: gzip\r\nX-Other: 1\r\n"
        assert await ask(reader, writer, CHUNKED + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers)) == 200
        assert await ask(reader, writer, LIVE) == 200


@pytest.mark.parametrize(("answered", "sent"), [(0, b""), (0, b"GET /"), (1, b"GET /"), (0, chunk(5)[:-5])])
async def test_a_client_that_ends_in_a_request_is_disconnected(
    models: Path, gate: Gate, answered: int, sent: bytes
) -> None:
    async with listening(models, gate, header_timeout_s=NEVER_S, body_timeout_s=NEVER_S) as server:
        reader, writer = await server.connect()
        for _ in range(answered):
            assert await ask(reader, writer, LIVE) == 200
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
        await server.until(lambda: server.open == 0 and not server.process.server_state.tasks)
        assert (server.parts.uploads.under_way, server.parts.admission.in_flight) == (0, 0)


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        b"not HTTP\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        CHUNKED + b"zz\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000,
        LIVE * 200,
        b"G",
    ],
    ids=lambda rest: rest[:9].decode(),
)
async def test_what_comes_before_the_answer_to_a_request_is_not_read_and_the_connection_is_closed_after_the_answer(
    models: Path, gate: Gate, rest: bytes
) -> None:
    async with listening(models, gate) as server:
        gate.opened.clear()
        reader, writer = await server.connect()
        assert await ask(reader, writer, LIVE) == 200
        writer.write(chunk(5, session="a", seq=0) + rest)
        await gate.computes()
        await server.until(lambda: server.ended == {"pipelined": 1})
        writer.write(chunk(5, session="a", seq=1))  # is not read
        gate.opened.set()
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in head.lower()
        assert json.loads(await reader.read())["seq"] == 0
        writer.close()
        await server.until(lambda: server.open == 0 and not server.process.server_state.tasks)
        assert server.ended == {"pipelined": 1}
        assert server.parts.counters.chunks_applied == 1


def head(*lines: str) -> bytes:
    return "\r\n".join((*lines, "", "")).encode("latin-1")


GET = "GET /health/live HTTP/1.1"
POST = "POST /infer HTTP/1.1"
REFUSED = {
    "a tunnel": (head("CONNECT example.org:443 HTTP/1.1", "Host: example.org"), 400),
    "no host": (head(GET), 400),
    "no name of a host": (head(GET, "Host: a b"), 400),
    "no name of a host in HTTP/1.0": (head("GET /health/live HTTP/1.0", "Host: a/b"), 400),
    "two hosts": (head(GET, "Host: a", "host: a"), 400),
    "two hosts in HTTP/1.0": (head("GET /health/live HTTP/1.0", "Host: a", "host: a"), 400),
    "HTTP/0.9": (head("GET /health/live HTTP/0.9", "Host: a"), 505),
    "HTTP/1.2": (head("GET /health/live HTTP/1.2", "Host: a"), 505),
    "HTTP/2.0": (head("GET /health/live HTTP/2.0", "Host: a"), 505),
    "HTTP/3.0": (head("GET /health/live HTTP/3.0", "Host: a"), 505),
    "gzip, chunked": (head(POST, "Host: a", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
    "identity, chunked": (head(POST, "Host: a", "Transfer-Encoding: identity, chunked") + b"0\r\n\r\n", 501),
    "chunked in HTTP/1.0": (head("POST /infer HTTP/1.0", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 501),
    "a long URL": (head(f"GET /{'x' * MOST_URL_BYTES} HTTP/1.1", "Host: a"), 414),
    "many headers": (head(GET, "Host: a", *[f"X-{n}: 1" for n in range(MOST_FIELDS)]), 431),
    "long headers": (head(GET, "Host: a", *["X: " + "x" * 999] * (MOST_FIELDS - 1)), 431),
    "two lengths": (head(POST, "Host: a", "Content-Length: 1", "Content-Length: 2") + b"{}", 400),
    "a length and chunks": (head(POST, "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n", 400),
}  # fmt: skip


@pytest.mark.parametrize(("size", "is_offer"), [(50, True), (1_000_000, False)])
@pytest.mark.parametrize("name", REFUSED)
async def test_a_request_that_may_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(
    models: Path, gate: Gate, name: str, size: int, is_offer: bool
) -> None:
    request, status = REFUSED[name]
    if is_offer:
        request = request.replace(b"\r\n", b"\r\n" + UPGRADE, 1)
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        sent = request + LIVE
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await asyncio.sleep(0)
        is_refusal(await response(reader), status)
        assert await reader.read() == b""
        writer.close()
        await server.until(lambda: server.open == 0 and not server.process.server_state.tasks)
        assert sum(server.ended.values()) == 1


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("POST /infer HTTP/1.1", 413), ("POST /infer HTTP/1.0", 413),
        ("DELETE /sessions/a HTTP/1.1", 404), ("DELETE /sessions/a HTTP/1.0", 404),
    ],
)  # fmt: skip
async def test_a_client_may_go_on_with_its_body_after_an_answer_that_ends_the_connection(
    models: Path, gate: Gate, line: str, status: int
) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        fields = ("Host: x", "Content-Type: audio/wav", "Connection: close", "Content-Length: 20000000")
        assert await ask(reader, writer, head(line, *fields)) == status
        assert await reader.read() == b""
        for _ in range(40):
            writer.write(bytes(65_536))
            await writer.drain()  # fails if the server has reset the connection
        writer.close()
        await server.until(lambda: server.open == 0)


@pytest.mark.parametrize(("target", "status"), [("http://x", 200), ("http://x?a=b", 200), ("http://x:999999/", 400)])
async def test_a_target_with_its_host_is_answered(models: Path, gate: Gate, target: str, status: int) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        assert await ask(reader, writer, head(f"GET {target} HTTP/1.1", "Host: x")) == status


async def test_a_request_that_is_refused_in_its_body_is_not_carried_out(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        assert await ask(reader, writer, chunk(5, session="a", seq=0)) == 200
        delete = head("DELETE /sessions/a HTTP/1.1", "Host: x", "Transfer-Encoding: chunked")
        assert await ask(reader, writer, delete + b"zz\r\n") == 400
        assert await reader.read() == b""
        writer.close()
        await server.until(lambda: server.open == 0 and not server.process.server_state.tasks)
        assert server.parts.registry.sessions.open == 1


async def test_an_old_client_gets_no_100(models: Path, gate: Gate) -> None:
    request = chunk(5).replace(b"\r\n", b"\r\nExpect: 100-continue\r\n", 1)
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        writer.write(request.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(request.partition(b"\r\n\r\n")[2])
        assert (await response(reader))[0] == 200
        writer.write(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (await response(reader))[0] == 200
