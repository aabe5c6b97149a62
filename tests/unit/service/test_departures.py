"""Callers that go in any round of the event loop: nothing of their chunks stays, and the next chunk is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.errors import NotFound
from service.ingress import Encoded, Source
from service.observe.timings import Transport
from service.wire.schema import InferRequest
from service.wire.sound import SoundLimit
from tests.support.artifacts.gate import WITHIN_S
from tests.support.clients.infer_request import infer_request
from tests.support.servers.in_process import DirectServer, ServeDirect
from tests.support.stores.cluster import Cluster

MOST_ROUNDS = 1_000  # after which a chunk that nobody keeps waiting is answered
LIMITS: dict[str, Any] = {
    "max_waiting": 2,
    "max_sessions": 2,
    "inline_s": 1.0,
}  # what is not given back is missed at once


def encoded(request: InferRequest) -> Encoded:
    return Encoded(8, lambda _: request)


async def of_request(server: DirectServer, request: InferRequest) -> None:
    await server.parts.ingress.apply([(Source("a request", "http", "a"), encoded(request))])


async def of_stream(server: DirectServer, request: InferRequest) -> None:
    done = asyncio.get_running_loop().create_future()
    arrival = server.parts.ingress.begin(Source("a stream", "stream", "a"), encoded(request), done.set_result)
    try:
        await done
    finally:
        arrival.drop()


async def of_frame(server: DirectServer, request: InferRequest) -> None:
    other = infer_request("t", seed=1)
    await server.parts.ingress.apply_frame(Source("a frame", "streams", "a"), [request, other], 0.0)


Way = Callable[[DirectServer, InferRequest], Coroutine[Any, Any, None]]
WAYS: dict[Transport, Way] = {"http": of_request, "stream": of_stream, "streams": of_frame}


async def test_a_chunk_whose_client_has_gone_already_is_not_decoded(serve: ServeDirect) -> None:
    server, decoded, answers = serve(), list[SoundLimit](), list[object]()

    def decode(limit: SoundLimit) -> InferRequest:
        decoded.append(limit)
        return infer_request()

    arrival = server.parts.ingress.begin(Source("a request", "http", "a"), Encoded(8, decode), answers.append)
    await asyncio.sleep(0)
    assert arrival.drop()
    other = server.parts.ingress.apply([(Source("a request", "http", "a"), encoded(infer_request()))])
    assert len(await other) == 1
    assert not decoded
    assert not answers
    assert server.admission.in_flight == 0


async def test_a_call_whose_client_goes_is_abandoned(serve: ServeDirect) -> None:
    server = serve()
    server.gate.opened.clear()
    call = asyncio.create_task(of_request(server, infer_request("s", 0)))
    await server.entered()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert server.counters.chunks_abandoned == 1


async def go_after(rounds: int, works: list[asyncio.Task[None]]) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)
    works[0].cancel()


async def settled(server: DirectServer) -> None:
    """Nothing is under way."""
    async with asyncio.timeout(WITHIN_S):
        while server.admission.in_flight or server.parts.batcher.waiting_work:
            await asyncio.sleep(0)
        for name in ("s", "t"):
            with suppress(NotFound):
                await server.registry.delete(name)  # its turn comes
            await server.registry.probe(infer_request(name, 0))


@pytest.mark.parametrize("is_behind", [False, True], ids=["alone", "behind"])
@pytest.mark.parametrize("is_first", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("keeps", ["memory", "store", "other"])
@pytest.mark.parametrize("transport", list(WAYS))
async def test_nothing_stays(models: Path, transport: Transport, keeps: str, is_first: bool, is_behind: bool) -> None:
    """A caller goes before or after all else that happens in a round; behind another chunk of the session or not."""
    cluster = Cluster(models, **LIMITS)
    server = cluster.replica()
    if keeps == "memory":
        server = DirectServer(server.parts.catalog, server.gate, **LIMITS)
    other = cluster.replica() if keeps == "other" else server
    for rounds in range(MOST_ROUNDS):
        await other.send("s", 0, client="a")
        works: list[asyncio.Task[None]] = []
        before = [WAYS[transport](server, infer_request("s", 1, seed=1))] if is_behind else []
        under_way = [asyncio.create_task(work) for work in before]
        if is_first:
            under_way.append(asyncio.create_task(go_after(rounds, works)))
        works.append(asyncio.create_task(WAYS[transport](server, infer_request("s", 1 + len(before), seed=1))))
        if not is_first:
            under_way.append(asyncio.create_task(go_after(rounds, works)))
        await asyncio.wait([*under_way, *works])
        await settled(server)
        if not works[0].cancelled():
            break
    assert rounds
    if server is not other:
        await server.close()
    await cluster.close()
    if keeps == "memory":
        await server.close()
