"""Handshakes and frames of ``WS /stream`` that are refused, and what stays HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from hetsyn_client.events import pack_events
from service.api.streaming import web_socket
from tests.support.artifacts.gate import Gate
from tests.support.clients.live import (
    BINARY,
    CONT,
    EVENTS,
    NOTHING,
    PING,
    TEXT,
    Socket,
    by_length,
    handshake,
    opened,
    said,
    sent,
)
from tests.support.servers.socket_server import LATER_S, LIVE, SOON_S, listening, response

REFUSED = [
    ("encoding=mp3", 415, "unsupported-input"),
    ("sample_rate=1", 422, "bad-input"),
    ("sample_rate=44101", 422, "bad-input"),
    (f"{EVENTS}&model=none", 404, "not-found"),
    (f"{EVENTS}&version=7", 404, "not-found"),
    (f"{EVENTS}&endpointing=maybe", 422, "bad-input"),
    ("encoding=values&channels=3", 415, "unsupported-input"),
    (f"{EVENTS}&session=ended", 409, "session-ended"),
    (f"{EVENTS}&session=open&version=9", 409, "model-mismatch"),
    (f"{EVENTS}&form=bank", 422, "bad-input"),
    ("sample_rate=8000&session=open", 422, "bad-input"),
]


@pytest.mark.parametrize(("query", "status", "problem"), REFUSED)
async def test_what_is_known_before_the_upgrade_is_refused_as_http(
    models: Path, gate: Gate, query: str, status: int, problem: str
) -> None:
    async with listening(models, gate) as server:
        for session in ("ended", "open"):
            socket, _ = await opened(server, f"{EVENTS}&session={session}")
            await socket.send(NOTHING, *([said("CloseStream")] if session == "ended" else []))
            await socket.frames(1 if session == "open" else 3)
            socket.writer.close()
        reader, writer = await server.connect()
        writer.write(handshake(query, "X-Request-ID: 7"))
        got, body = await response(reader)
        assert (got, json.loads(body)["type"]) == (status, f"urn:hetsyn:problem:{problem}")
        assert await reader.read() == b""
        writer.close()
        reader, writer = await server.connect()  # a browser shows a page the answer to such a request alone
        writer.write(f"GET /stream?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await response(reader) == (got, body)


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
        (sent(PING, b"") * (web_socket.MOST_CONTROLS + 1), "bad-frame", 1008),
        (said("KeepAlive") * (web_socket.MOST_CONTROLS + 1), "bad-frame", 1008),
    ],
    ids=by_length,
)
async def test_an_error_is_said_before_the_close(
    models: Path, gate: Gate, sending: bytes, problem: str, code: int
) -> None:
    async with listening(models, gate, max_body_bytes=3000, max_chunk_steps=500) as server:
        socket, _ = await opened(server)
        await socket.send(sending)
        if code:
            assert await socket.refused() == (problem, code)
            assert server.parts.counters.chunks_refused == {problem: 1}
        else:
            assert (await socket.frame())["problem"] == problem
            socket.writer.close()
        await server.until(lambda: server.open == 0)


@pytest.mark.parametrize(
    ("sending", "status"),
    [(handshake(EVENTS) + LIVE, 426), (handshake(EVENTS) + NOTHING, 426), (LIVE + handshake(EVENTS), 200)],
    ids=["a request behind it", "a frame behind it", "behind a request"],
)
async def test_a_handshake_that_does_not_come_alone_opens_no_stream(
    models: Path, gate: Gate, sending: bytes, status: int
) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        writer.write(sending)
        assert (await response(reader))[0] == status
        assert await reader.read() == b""


async def test_a_connection_that_has_served_requests_can_become_a_stream(models: Path, gate: Gate) -> None:
    async with listening(models, gate, header_timeout_s=LATER_S) as server:
        reader, writer = await server.connect()
        writer.write(LIVE)
        assert (await response(reader))[0] == 200
        socket = Socket(reader, writer)
        await socket.open(EVENTS)
        await asyncio.sleep(2 * LATER_S)  # no time-out of HTTP is left
        await socket.send(NOTHING)
        assert (await socket.frame())["seq"] == 0


async def test_a_refused_handshake_is_answered_though_the_client_sends_on(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        reader, writer = await server.connect()
        held = asyncio.Event()
        streams = server.parts.many.streams
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
