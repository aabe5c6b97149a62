"""``WS /stream`` on real sockets of the loopback: what a session gets, and whose it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hetsyn_client.events import pack_events
from tests.support.artifacts.gate import Gate
from tests.support.clients.live import BINARY, EVENTS, NOTHING, TEXT, handshake, opened, said, sent
from tests.support.data.signals import spikes
from tests.support.servers.socket_server import SOON_S, listening, response
from tests.support.stores.memory_store import MemoryStore


async def test_a_session_from_its_beginning_to_its_end(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, begin = await opened(server, f"{EVENTS}&session=a&model=digits&version=1", "X-Request-ID: 7")
        assert begin == begin | {
            "type": "Begin", "session": "a", "model": "digits", "version": "1", "next_seq": 0,
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


@pytest.mark.parametrize("text", ["{}", '{"type": "Hello"}', '{"type": "Configure"}', "Done"])
async def test_a_text_that_means_nothing_leaves_the_stream_open(models: Path, gate: Gate, text: str) -> None:
    async with listening(models, gate) as server:
        socket, _ = await opened(server)
        await socket.send(sent(TEXT, text.encode()), NOTHING)
        assert [frame["type"] for frame in await socket.frames(2)] == ["Error", "Result"]


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
        async with server.http() as client:
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
            await gate.computes()
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
        first, _ = await opened(server, f"{EVENTS}&session=a")
        await first.send(NOTHING)
        await first.frame()
        reader, writer = await server.connect()
        writer.write(handshake(f"{EVENTS}&session=a&version=9"))
        assert (await response(reader))[0] == 409
        await first.send(NOTHING)
        assert (await first.frame())["seq"] == 1
        first.writer.close()


async def test_of_two_that_write_a_session_one_is_refused(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, _ = await opened(server, f"{EVENTS}&session=a")
        async with server.http() as client:
            await client.post(
                "/infer?session=a&seq=0",
                content=pack_events(9, [], []),
                headers={"Content-Type": "application/vnd.hetsyn.events"},
            )
        await socket.send(NOTHING)
        assert await socket.refused() == ("conflicting-chunk", 4409)


async def test_chunks_of_a_client_that_has_gone_are_not_applied(models: Path, gate: Gate) -> None:
    async with listening(models, gate) as server:
        socket, _ = await opened(server, f"{EVENTS}&session=a")
        gate.opened.clear()
        await socket.send(NOTHING, NOTHING)
        await gate.computes()
        socket.writer.transport.abort()
        await server.until(lambda: server.parts.counters.chunks_abandoned == 1)
        gate.opened.set()
        await server.until(lambda: server.parts.admission.in_flight == 0)
        assert server.parts.counters.chunks_applied == 0
        assert server.parts.registry.sessions.open == 0


async def test_chunks_of_many_streams_at_once_are_those_of_their_sessions(models: Path, gate: Gate) -> None:
    async with listening(models, gate, inline_s=1.0) as server:
        sockets = [(await opened(server, f"{EVENTS}&session=s{index}"))[0] for index in range(12)]
        for seq in range(5):
            for index, socket in enumerate(sockets):
                await socket.send(sent(BINARY, pack_events(index + 1, *spikes(index + 1, seq))))
            for index, socket in enumerate(sockets):
                result = await socket.frame()
                assert (result["seq"], result["total_steps"]) == (seq, (index + 1) * (seq + 1))
        async with server.http() as client:
            content, headers = pack_events(1, [], []), {"Content-Type": "application/vnd.hetsyn.events"}
            await client.post("/infer?session=s0", content=content, headers=headers)
        await sockets[0].send(NOTHING)
        await sockets[1].send(sent(BINARY, b"no events"))
        await sockets[2].send(NOTHING, said("CloseStream"))
        assert await sockets[0].refused() == ("conflicting-chunk", 4409)
        assert await sockets[1].refused() == ("bad-input", 4422)
        assert [frame["type"] for frame in await sockets[2].frames(3)] == ["Result", "UtteranceEnd", "Termination"]
        taken, begin = await opened(server, f"{EVENTS}&session=s3")
        assert begin["next_seq"] == 5
        assert await sockets[3].refused() == ("session-taken", 4409)
        await taken.send(NOTHING)
        assert (await taken.frame())["total_steps"] == 4 * 5 + 5
        taken.writer.close()
