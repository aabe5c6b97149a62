"""What servers make of a store that a failover has set back: they say so, and go on from what is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.errors import HetsynError, NotFound, OutOfOrder, StoreUnavailable
from tests.support.clients.replies import Reply
from tests.support.servers.in_process import DirectServer, ServeDirect
from tests.support.stores.cluster_sessions import ClusterSessions
from tests.support.stores.valkey import ValkeyServer

WITHIN_S = 60.0


async def answered(send: Callable[[], Awaitable[Reply]]) -> Reply | HetsynError:
    """The answer to a chunk, sent again while the store is away."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                return await send()
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            except HetsynError as error:
                return error


async def lose_the_primary(sessions: ClusterSessions, primary: ValkeyServer, replica: ValkeyServer) -> None:
    primary.kill()
    replica.resume()
    await asyncio.to_thread(sessions.cluster.taken_over, primary)


@pytest.fixture
async def undisturbed(serve: ServeDirect) -> list[Reply]:
    server = serve()
    return [await server.send("calm", n, seed=n) for n in range(4)]


def same(reply: Reply | HetsynError, calm: Reply) -> bool:
    assert isinstance(reply, Reply), reply
    return (reply.seq, reply.total_steps, reply.probabilities) == (calm.seq, calm.total_steps, calm.probabilities)


async def test_a_chunk_that_a_failover_has_lost_is_told_and_can_be_sent_again(
    sessions: ClusterSessions, serve: ServeDirect, undisturbed: list[Reply]
) -> None:
    cached, other = (serve(store=sessions.store()) for _ in range(2))
    primary = sessions.cluster.primaries()[0]
    kept, begun = sessions.on(primary, 2)
    for n in range(2):
        await cached.send(kept, n, seed=n)
    async with asyncio.timeout(WITHIN_S):
        while not sessions.cluster.is_replicated(primary):
            await asyncio.sleep(0.01)
    replica = sessions.cluster.cut_off(primary)
    assert same(await cached.send(kept, 2, seed=2), undisturbed[2])
    await cached.send(begun, 0, seed=0)
    await lose_the_primary(sessions, primary, replica)
    # the server that has chunk 2 in memory, and one that has not
    for server in (cached, other):
        refused = await answered(lambda server=server: server.send(kept, 3, seed=3))  # type: ignore[misc]
        assert isinstance(refused, OutOfOrder)
        assert refused.expected_seq == 2
        assert isinstance(await answered(lambda server=server: server.send(begun, 1, seed=1)), NotFound)  # type: ignore[misc]
    assert same(await answered(lambda: cached.send(kept, 2, seed=2)), undisturbed[2])
    assert same(await answered(lambda: other.send(kept, 3, seed=3)), undisturbed[3])


async def test_an_acknowledged_chunk_survives_its_primary_if_a_replica_confirmed_it(
    sessions: ClusterSessions, serve: ServeDirect, undisturbed: list[Reply]
) -> None:
    servers: list[DirectServer] = [serve(store=sessions.store(replicas=1, timeout_s=1.0)) for _ in range(2)]
    primary = sessions.cluster.primaries()[0]
    (one,) = sessions.on(primary, 1)
    # on a busy machine the replica may confirm too late: a client sends the chunk again
    for n in range(2):
        assert same(await answered(lambda n=n: servers[n].send(one, n, seed=n)), undisturbed[n])  # type: ignore[misc]
    replica = sessions.cluster.cut_off(primary)
    # neither the chunk nor, when it comes again, its stored reply is acknowledged
    for server in servers:
        with pytest.raises(StoreUnavailable):
            await server.send(one, 2, seed=2)
    await lose_the_primary(sessions, primary, replica)
    sessions.cluster.mend()
    for n in (2, 3):
        assert same(await answered(lambda n=n: servers[n % 2].send(one, n, seed=n)), undisturbed[n])  # type: ignore[misc]
