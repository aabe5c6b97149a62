"""What a server makes of a store that did what it was told and whose answer never came."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from service.store.redis.server import RedisStore
from tests.support.servers.in_process import ServeDirect
from tests.support.servers.relay import Relay

T = TypeVar("T")


async def test_nothing_is_done_twice_and_what_is_done_is_reported(serve: ServeDirect, relay: Relay) -> None:
    store = RedisStore(f"redis://127.0.0.1:{relay.port}/0", timeout_s=60, prefix="answers:")
    server = serve(store=store)

    async def losing(work: Coroutine[Any, Any, T]) -> T:
        relay.lose()
        lost, sent = relay.answers_lost, asyncio.create_task(work)
        while relay.answers_lost == lost:
            await asyncio.sleep(0.001)
            assert not sent.done()
        relay.cut()
        return await sent

    await server.send("calm", 0, seed=0)
    calm = await server.send("calm", seed=1)
    await server.send("a", 0, seed=0)
    again = await losing(server.send("a", seed=1))  # without a number: nothing else could tell
    assert (again.seq, again.total_steps, again.probabilities) == (1, calm.total_steps, calm.probabilities)
    assert (await server.registry.describe("a"))["expected_seq"] == 2
    content = await server.transfer.export_state("a")
    await losing(server.registry.delete("a"))
    described, is_new = await losing(server.transfer.import_state("a", content, replace_it=False))
    assert (described["expected_seq"], is_new) == (2, True)
    counters = server.counters
    assert (counters.sessions_deleted, counters.sessions_imported, counters.store_fenced) == (1, 1, 0)
