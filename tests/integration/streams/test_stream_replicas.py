"""Streams on two servers that share a Valkey: a session has one stream, whichever server it is on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hetsyn_client.events import pack_events
from service.store.url import open_store
from tests.support.artifacts.gate import Gate
from tests.support.clients.live import BINARY, EVENTS, NOTHING, opened, sent
from tests.support.clients.many import hub, silence
from tests.support.servers.socket_server import Listening, listening
from tests.support.stores.valkey import ValkeyServer
from tests.support.tools import require_valkey

pytestmark = pytest.mark.process

SESSION = f"{EVENTS}&session=s"
OTHER = sent(BINARY, pack_events(7, [3], [1]))


@pytest.fixture
async def servers(models: Path, gate: Gate, tmp_path: Path) -> AsyncIterator[tuple[Listening, Listening]]:
    require_valkey()
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(ValkeyServer(tmp_path))
        one, other = [
            await stack.enter_async_context(listening(models, gate, store=open_store(valkey.url, 2.0)))
            for _ in range(2)
        ]
        yield one, other


async def test_a_session_goes_on_at_another_server(servers: tuple[Listening, Listening]) -> None:
    one, other = servers
    first, _ = await opened(one, SESSION)
    await first.send(NOTHING * 3)
    assert [frame["seq"] for frame in await first.frames(3)] == [0, 1, 2]
    second, begin = await opened(other, SESSION)
    assert (begin["next_seq"], begin["resumed"]) == (3, True)
    await second.send(NOTHING)
    assert (await second.frame())["total_steps"] == 20


async def test_the_loser_is_told_with_its_next_chunk(servers: tuple[Listening, Listening]) -> None:
    one, other = servers
    loser, _ = await opened(one, SESSION)
    await loser.send(NOTHING)
    await loser.frame()
    winner, _ = await opened(other, SESSION)
    await winner.send(NOTHING * 2)
    await winner.frames(2)
    await loser.send(OTHER)
    assert await loser.refused() == ("out-of-order", 4409)
    await winner.send(NOTHING)
    assert (await winner.frame())["total_steps"] == 20


async def test_two_chunks_under_one_number_are_no_two_chunks(servers: tuple[Listening, Listening]) -> None:
    one, other = servers
    loser, _ = await opened(one, SESSION)
    winner, _ = await opened(other, SESSION)
    await winner.send(NOTHING)
    await winner.frame()
    await loser.send(OTHER)
    assert await loser.refused() == ("conflicting-chunk", 4409)
    await winner.send(NOTHING)
    assert (await winner.frame())["total_steps"] == 10


async def test_the_same_chunk_on_both_is_applied_once(servers: tuple[Listening, Listening]) -> None:
    sockets = [(await opened(server, SESSION))[0] for server in servers]
    frames = []
    for socket in sockets:
        await socket.send(NOTHING)
        frames.append(await socket.frame())
    assert frames[0] == frames[1]
    assert frames[0]["total_steps"] == 5


async def test_a_row_of_many_is_refused_alone(servers: tuple[Listening, Listening]) -> None:
    many, _ = await hub(servers[0])
    await many.opens("s", "t")
    assert (await many.chunks(silence([0, 1], 0))).status.tolist() == [200, 200]
    winner, _ = await opened(servers[1], SESSION)
    await winner.send(NOTHING * 2)
    await winner.frames(2)
    results = await many.chunks(silence([0, 1], 1, steps=7))
    assert results.status.tolist() == [409, 200]
    assert results.more[0]["problem"] == "out-of-order"
    assert results.total_steps.tolist()[1] == 12
