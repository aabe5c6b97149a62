"""Clients of WebSockets that go, counters of WebSockets, and pages of other origins."""

from __future__ import annotations

import asyncio
import json
from asyncio import Event
from pathlib import Path

import pytest

from hetsyn_client.events import pack_events
from service.shutdown import drained
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.gate import Gate
from tests.support.clients.live import BINARY, EVENTS, NOTHING, Socket, handshake, opened, said, sent
from tests.support.clients.many import hub, silence
from tests.support.servers.socket_server import SOON_S, Listening, listening, response
from tests.support.stores.failing_store import FailingStore


async def test_a_client_that_sends_no_more_has_gone(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, _ = await opened(server)
        gate.opened.clear()
        await socket.send(NOTHING)
        await server.until(lambda: gate.calls > 0)
        socket.writer.write_eof()
        await server.until(lambda: not server.open)
        gate.opened.set()


@pytest.mark.parametrize("reads", [True, False])
async def test_a_server_that_ends_waits_for_clients_that_read(models: Path, gate: Gate, reads: bool) -> None:
    write_artifact(models, "trace", rule="trace")
    async with listening(models, gate) as server:
        socket, _ = await opened(server, f"{EVENTS}&model=trace")
        idle, _ = await opened(server, f"{EVENTS}&model=trace")
        gate.opened.clear()
        await socket.send(*[sent(BINARY, pack_events(20_000, [], []))] * 2)  # an answer is larger than all buffers
        await server.until(lambda: gate.calls > 0)
        socket.writer.transport.pause_reading()  # type: ignore[attr-defined]
        stopping = asyncio.create_task(server.parts.admission.stop())
        assert await idle.refused() == ("shutting-down", 1012)
        gate.opened.set()
        await server.until(lambda: server.parts.counters.stream_chunks["stream"] > 0)
        if reads:
            socket.writer.transport.resume_reading()  # type: ignore[attr-defined]
            contents = [(await socket.any_frame())[1] for _ in range(2)]
            assert [json.loads(content)["seq"] for content in contents] == [0, 1]
            assert await socket.refused() == ("shutting-down", 1012)
        await stopping


async def test_a_server_that_has_waited_ends_streams_whose_store_does_not_answer(models: Path, gate: Gate) -> None:
    store = FailingStore()
    async with listening(models, gate, store=store) as server:
        (socket, _), (many, _) = await opened(server), await hub(server)
        await many.opens("a", "b")
        store.opened.clear()
        store.entered.clear()
        await socket.send(NOTHING * 3)
        await many.send(sent(BINARY, silence([0, 1], 0)))
        await store.entered.wait()
        stopping = asyncio.create_task(drained(server.parts.admission, 0, 0, server.parts.refuse, Event(), Event()))
        assert await socket.refused() == ("shutting-down", 1012)
        assert await many.refused() == ("shutting-down", 1012)
        store.opened.set()
        await stopping


async def scraped(server: Listening) -> dict[str, float]:
    async with server.http() as client:
        text = (await client.get("/metrics")).text
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith("hetsyn_"))
    return {name: float(value) for name, _, value in lines}


async def test_open_websockets_and_what_comes_on_them_are_counted(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, _ = await opened(server)
        await socket.send(NOTHING * 2, said("KeepAlive"))
        await socket.frames(2)
        await socket.send(said("Nonsense"))  # is refused, and the stream goes on
        await socket.frames(1)
        many, _ = await hub(server)
        await many.opens("a", "b")
        await many.chunks(silence([0, 1], 0))
        counted = await scraped(server)
        for transport in ("stream", "streams"):
            for part in ("request", "queue", "engine"):
                assert counted[f'hetsyn_{part}_seconds_count{{model="digits",transport="{transport}"}}'] == 2
        assert counted['hetsyn_streams{transport="stream"}'] == 1
        assert counted['hetsyn_streams{transport="streams"}'] == 1
        assert counted['hetsyn_stream_frames_total{transport="stream"}'] == 4
        assert counted['hetsyn_chunks_refused_total{error="bad-input"}'] == 1
        assert counted['hetsyn_stream_frames_total{transport="streams"}'] == 2
        assert counted['hetsyn_stream_chunks_total{transport="stream"}'] == 2
        assert counted['hetsyn_stream_chunks_total{transport="streams"}'] == 2
        for one in (socket, many):
            one.writer.close()
        await server.until(lambda: not server.open)
        assert (await scraped(server))['hetsyn_streams{transport="stream"}'] == 0


@pytest.mark.parametrize(
    ("origin", "status"), [("https://a.example", 101), ("https://b.example", 403), ("http://x", 101)]
)
@pytest.mark.parametrize("path", ["stream", "streams"])
async def test_pages_of_allowed_origins_may_open_streams(
    models: Path, gate: Gate, path: str, origin: str, status: int
) -> None:
    async with listening(models, gate, cors_origins=("https://A.example",)) as server:
        reader, writer = await server.connect()
        writer.write(handshake(EVENTS, f"Origin: {origin}", line=f"GET /{path}?{{}} HTTP/1.1"))
        if status == 101:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        else:
            got, body = await response(reader)
            assert got == status
            assert b"--cors-origin" in body


async def test_a_client_that_reads_slowly_gets_everything_and_no_more_is_done_meanwhile(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.streaming.web_socket.CLOSING_S", 0.001)
    write_artifact(tmp_path, "tracer", rule="trace")
    long = sent(BINARY, pack_events(20_000, [], []))  # its result is as long as what the system takes
    async with listening(tmp_path, gate) as server:
        reader, writer = await server.connect_narrowly()
        socket = Socket(reader, writer)
        await socket.open(EVENTS)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(long + said("CloseStream"))
        await server.until(lambda: server.parts.uploads.bytes > 0)
        await asyncio.sleep(3 * SOON_S)
        assert server.parts.registry.sessions.open == 1
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert [(await socket.frame())["type"] for _ in range(3)] == ["Result", "UtteranceEnd", "Termination"]
        assert await socket.closed() == 1000
