"""Clients that go before they have their response, on real sockets of the loopback."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.artifacts.gate import Gate
from tests.support.clients.http_calls import metric
from tests.support.servers.socket_server import LATER_S, LIVE, Listening, Reader, Writer, chunk, listening, response

LONG_STEPS = 20_000
METRICS = LIVE.replace(b"/health/live", b"/metrics")


async def begun(server: Listening, gate: Gate, request: bytes) -> tuple[Reader, Writer]:
    """A connection whose request is computed now, and waits at the gate."""
    gate.opened.clear()
    reader, writer = await server.connect()
    writer.write(request)
    await gate.computes()
    return reader, writer


async def ask(server: Listening, request: bytes) -> tuple[int, bytes]:
    reader, writer = await server.connect()
    writer.write(request)
    answer = await response(reader)
    writer.close()
    return answer


@pytest.mark.parametrize("way", ["close", "half-close", "reset"])
async def test_a_chunk_of_a_client_that_goes_is_dropped(models: Path, gate: Gate, way: str) -> None:
    async with listening(models, gate) as server:
        assert (await ask(server, chunk(5, session="a", seq=0)))[0] == 200
        assert gate.entered.acquire(blocking=False)
        _, writer = await begun(server, gate, chunk(LONG_STEPS, session="a", seq=1))
        text = (await ask(server, METRICS))[1].decode()
        assert LONG_STEPS - 100 <= metric(text, "hetsyn_waiting_steps") <= LONG_STEPS + 1
        if way == "close":
            writer.close()
        elif way == "half-close":  # who sends no more is not told from one that has gone
            writer.write_eof()
        else:
            writer.transport.abort()
        await server.until(lambda: server.parts.admission.in_flight == 0 and server.open == 0)
        calls = gate.calls
        gate.opened.set()
        status, body = await ask(server, chunk(5, session="a", seq=1, end=True))  # it was not applied
        assert (status, json.loads(body)["seq"]) == (200, 1)
        assert gate.calls <= calls + 1 + len(json.loads(body)["labels"])  # none of the 20,000 steps that were left
        text = (await ask(server, METRICS))[1].decode()
        assert metric(text, "hetsyn_waiting_steps") == 0
        assert metric(text, 'hetsyn_chunks_total{outcome="abandoned"}') == 1
        assert metric(text, 'hetsyn_chunks_total{outcome="applied"}') == 2


async def test_chunks_of_clients_that_go_at_once_are_not_even_decoded(
    models: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So that thousands of them keep nobody waiting."""
    decoded: list[str] = []
    monkeypatch.setattr("service.api.infer.decode_json", lambda *_: decoded.append("decoded"))
    async with listening(models, gate) as server:
        for _, writer in [await server.connect() for _ in range(20)]:
            writer.write(chunk(LONG_STEPS))
            writer.close()
        await server.until(lambda: server.parts.counters.chunks_abandoned == 20 and server.open == 0)
    assert not decoded
    assert not caplog.records


def about_a(method: str, path: str, body: bytes = b"") -> bytes:
    """A request about session a."""
    fields = f"Host: x\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(body)}"
    return f"{method} /sessions/a{path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body


ABOUT_A = [("GET", ""), ("DELETE", ""), ("GET", "/state"), ("PUT", "/state?replace=true")]


@pytest.mark.parametrize(("method", "path"), [("POST", "/infer"), *ABOUT_A])
async def test_requests_of_clients_that_go_wait_for_no_turn(
    models: Path, gate: Gate, method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(models, gate) as server:
        assert (await ask(server, chunk(5, session="a", seq=0)))[0] == 200
        assert gate.entered.acquire(blocking=False)
        exported = (await ask(server, about_a("GET", "/state")))[1]
        request = about_a(method, path, exported if method == "PUT" else b"")
        if method == "POST":
            request = chunk(LONG_STEPS, session="a")
        reader, _ = await begun(server, gate, chunk(5, session="a", seq=1))
        gone = [await server.connect() for _ in range(20)]
        for _, each in gone:
            each.write(request)
        await server.until(lambda: server.parts.admission.in_flight == 21)
        for _, each in gone:
            each.close()
        await server.until(lambda: server.parts.admission.in_flight == 1)
        calls = gate.calls
        gate.opened.set()
        assert (await response(reader))[0] == 200
        status, body = await ask(server, chunk(5, session="a", seq=2))
        assert (status, json.loads(body)["total_steps"]) == (200, 15)
        assert gate.calls == calls + 1
    assert not caplog.records


@pytest.mark.parametrize(("method", "path"), ABOUT_A)
async def test_other_requests_wait_for_their_turn_as_long_as_chunks(
    models: Path, gate: Gate, method: str, path: str
) -> None:
    async with listening(models, gate, queue_timeout_s=LATER_S) as server:
        assert (await ask(server, chunk(5, session="a", seq=0)))[0] == 200
        assert gate.entered.acquire(blocking=False)
        exported = (await ask(server, about_a("GET", "/state")))[1]
        reader, _ = await begun(server, gate, chunk(5, session="a", seq=1))
        status, body = await ask(server, about_a(method, path, exported if method == "PUT" else b""))
        assert (status, json.loads(body)["type"]) == (503, "urn:hetsyn:problem:overloaded")
        gate.opened.set()
        assert (await response(reader))[0] == 200


async def test_a_client_whose_response_is_late_is_not_taken_for_gone(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        reader, _ = await begun(server, gate, chunk(5, session="a", seq=0))
        await asyncio.sleep(0.2)
        gate.opened.set()
        assert (await response(reader))[0] == 200
