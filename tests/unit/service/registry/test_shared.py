"""Replicas around one store: what they answer, what each remembers, and what the store keeps."""

from __future__ import annotations

import asyncio
import gc
import random

import pytest

from service.errors import (
    ArtifactError,
    ConflictingChunk,
    InputError,
    ModelMismatch,
    NotFound,
    OutOfOrder,
    Overloaded,
    StoreUnavailable,
)
from service.ingress import Source
from service.session.session import Answer
from tests.support.clients.infer_request import infer_request
from tests.support.clients.replies import Reply
from tests.support.data.signals import audio_chunk, sound
from tests.support.servers.in_process import ServeDirect, session_store
from tests.support.stores.cluster import Cluster, MakeCluster


async def test_any_replica_serves_any_chunk_and_all_answer_alike(cluster: Cluster) -> None:
    replicas = [cluster.replica() for _ in range(3)]
    rng = random.Random(3)
    expected = await cluster.undisturbed(12)
    for n in range(12):
        reply = await rng.choice(replicas).send("a", n, seed=n, end=n == 11)
        assert reply == expected[n]
        assert await rng.choice(replicas).send("a", n, seed=n, end=n == 11) == expected[n]


async def test_sound_moves_between_replicas_in_the_middle_of_a_step(cluster: Cluster, serve: ServeDirect) -> None:
    replicas = [cluster.replica() for _ in range(2)]
    pieces = [audio_chunk(sound(777, n), 11_025) for n in range(9)]
    alone = serve()
    for n, piece in enumerate(pieces):
        end = n == len(pieces) - 1
        expected = await alone.send("a", n, chunk=piece, end=end)
        assert await replicas[n % 2].send("a", n, chunk=piece, end=end) == expected


async def test_two_replicas_never_both_apply_a_chunk(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()
    expected = await cluster.undisturbed(3, end=False)
    for n in range(3):
        for server in (one, two):
            server.gate.opened.clear()
        sent = [asyncio.create_task(server.send("a", n, seed=n)) for server in (one, two)]
        await one.entered()
        await two.entered()  # both compute it
        for server in (one, two):
            server.gate.opened.set()
        assert await asyncio.gather(*sent) == [expected[n]] * 2
    applied = [server.counters.chunks_applied for server in (one, two)]
    replayed = [server.counters.chunks_replayed for server in (one, two)]
    assert sum(applied) == 3
    assert sum(replayed) == 3
    assert sum(server.counters.store_fenced for server in (one, two)) == 3


async def test_nothing_is_refused_or_replayed_from_memory_alone(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()
    await one.send("a", 0)
    await two.registry.delete("a")
    # another life of the id, of another kind, of which one knows nothing
    begun = await two.send("a", 0, seed=4)
    assert await one.send("a", 0, seed=4) == begun
    await two.send("a", 1, seed=5)
    assert (await one.send("a", 2, seed=6)).seq == 2
    await two.registry.delete("a")
    await two.send("a", 0, chunk=audio_chunk(sound(800)))
    assert (await one.send("a", 1, chunk=audio_chunk(sound(80)))).seq == 1


async def test_a_session_that_was_begun_again_goes_on_with_its_own_state(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()
    expected = await cluster.undisturbed(2, end=False)
    await one.send("a", 0, seed=9)
    await two.registry.delete("a")
    assert await two.send("a", 0, seed=0) == expected[0]
    assert await one.send("a", 1, seed=1) == expected[1]  # which remembers the first one


async def test_refusals_are_those_of_one_server(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()
    await one.refused(NotFound, "begins with seq 0", "a", 3)
    await one.refused(InputError, "empty", "a", 0, empty=True, end=True)
    await one.refused(NotFound, "no model", "a", 0, model="nothing")
    assert await cluster.record("a") is None
    await one.send("a", 0)
    for server in (two, one):
        await server.refused(OutOfOrder, "send seq 1 next", "a", 4)
        await server.refused(ModelMismatch, "runs on version '1'", "a", 1, version="2")
        await server.refused(ConflictingChunk, "other content", "a", 0, seed=9)
    one.gate.failure = ArtifactError("broken")
    await one.refused(ArtifactError, "broken", "a", 1)
    one.gate.failure = None
    assert (await two.send("a", 1)).seq == 1


async def test_a_new_session_costs_no_load(cluster: Cluster) -> None:
    server = cluster.replica()
    await server.send(None, None)
    await server.send("a", 0)
    await server.send("a", 1)
    assert cluster.store.loads == 0
    await server.send("b", begin=True)
    assert cluster.store.loads == 0
    await server.refused(NotFound, "no session 'c'", "c", None)
    assert cluster.store.loads == 1


async def test_chunks_of_many_sessions_are_committed_together(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(max_sessions=100)
    server = cluster.replica()
    cluster.store.opened.clear()
    first = asyncio.create_task(server.send("first", 0))
    await cluster.store.entered.wait()
    rest = [asyncio.create_task(server.send(f"s{n}", 0)) for n in range(20)]
    async with asyncio.timeout(60):
        while session_store(server)._commits.waiting < 20:
            await asyncio.sleep(0.001)
    cluster.store.opened.set()
    await asyncio.gather(first, *rest)
    assert cluster.store.batches == [1, 20]


async def test_a_new_session_finds_room_behind_many_in_use(make_cluster: MakeCluster) -> None:
    server = make_cluster(max_sessions=100, inline_s=1.0).replica()
    for n in range(100):
        await server.send(f"s{n}", 0)
    frame = [*(infer_request(f"s{n}", 1, seed=1) for n in range(99)), infer_request("new", 0)]
    outcomes = await server.parts.ingress.apply_frame(Source("a frame", "streams", "a"), frame, 0.0)
    assert {type(outcome) for outcome in outcomes} == {Answer}


async def test_a_chunk_does_not_wait_behind_all_commits_of_another_client(make_cluster: MakeCluster) -> None:
    cluster, answered = make_cluster(max_sessions=1000), list[str]()
    server = cluster.replica()
    cluster.store.opened.clear()

    async def send(session: str, client: str) -> None:
        await server.send(session, 0, client=client)
        answered.append(session)

    async def computed(chunks: int) -> None:
        """Wait until all chunks are at the store."""
        while server.admission.in_flight < chunks or server.parts.batcher.waiting_work:
            await asyncio.sleep(0.001)

    flood = [asyncio.create_task(send(f"a{n}", "a")) for n in range(300)]
    await computed(300)
    one = asyncio.create_task(send("b", "b"))
    await computed(301)
    cluster.store.opened.set()
    await asyncio.gather(one, *flood)
    assert answered.index("b") < 150


async def test_a_question_does_not_wait_behind_all_questions_of_another_client(make_cluster: MakeCluster) -> None:
    cluster, answered = make_cluster(max_sessions=1000), list[str]()
    server = cluster.replica()
    cluster.store.opened.clear()

    async def ask(session: str, client: str) -> None:
        with pytest.raises(NotFound):
            await server.registry.describe(session, client=client)
        answered.append(session)

    flood = [asyncio.create_task(ask(f"a{n}", "a")) for n in range(300)]
    await cluster.store.entered.wait()
    one = asyncio.create_task(ask("b", "b"))
    await asyncio.sleep(0)
    cluster.store.opened.set()
    await asyncio.gather(one, *flood)
    assert answered.index("b") < 150


async def test_a_deletion_reaches_every_replica(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()
    await one.send("a", 0)
    await two.registry.delete("a")
    with pytest.raises(NotFound):
        await one.registry.describe("a")
    with pytest.raises(NotFound):
        await one.registry.delete("a")
    await one.refused(NotFound, "begins with seq 0", "a", 1)
    assert (await one.send("a", 0)).seq == 0


async def test_closing_commits_what_runs_and_closes_the_store(cluster: Cluster) -> None:
    server = cluster.replica()
    server.gate.opened.clear()
    running = asyncio.create_task(server.send("a", 0))
    await server.entered()
    closing = asyncio.create_task(server.close())
    await asyncio.sleep(0)
    server.gate.opened.set()
    await closing
    assert (await running).seq == 0
    assert cluster.store.closed
    assert await cluster.record("a") is not None


async def test_closing_waits_for_a_request_that_has_not_reached_the_engine(cluster: Cluster) -> None:
    server = cluster.replica()
    await cluster.replica().send("a", 0)
    cluster.store.entered.clear()
    cluster.store.opened.clear()
    server.gate.opened.clear()
    running = asyncio.create_task(server.send("a", None, seed=1))
    await cluster.store.entered.wait()  # it loads its session
    closing = asyncio.create_task(server.parts.close())
    await asyncio.sleep(0)
    cluster.store.opened.set()
    await server.entered()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not cluster.store.closed
    server.gate.opened.set()
    await closing
    assert cluster.store.closed
    assert (await running).seq == 1


async def test_closing_deletes_what_the_last_sweep_dropped(cluster: Cluster) -> None:
    server = cluster.replica()
    await server.send("a", 0)
    cluster.clock.now_s += 61
    list(server.registry.sessions.quota.sweeping(cluster.clock()))
    await session_store(server).close()
    assert server.counters.sessions_dropped == 1


async def test_a_deletion_that_fails_is_counted_and_not_logged(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    server = cluster.replica()
    await server.send("a", 0)
    cluster.clock.now_s += 61
    cluster.store.down = True
    list(server.registry.sessions.quota.sweeping(cluster.clock()))
    await session_store(server).close()
    gc.collect()  # asyncio logs an exception that was never retrieved when its task is collected
    assert server.counters.store_failures["store-unavailable"] == 1
    assert not caplog.records


async def test_a_commit_is_finished_though_its_caller_goes_away(cluster: Cluster) -> None:
    server = cluster.replica()
    cluster.store.opened.clear()
    left = asyncio.create_task(server.send("a", 0))
    await cluster.store.entered.wait()
    left.cancel()
    retried = asyncio.create_task(server.send("a", 0))
    await asyncio.sleep(0)
    assert not left.done()  # it has its turn until the outcome is known
    cluster.store.opened.set()
    reply = await retried
    assert (reply.seq, reply.total_steps) == (0, 10)
    assert await left == reply
    assert (server.counters.chunks_applied, server.counters.chunks_replayed) == (1, 1)
    assert server.gate.calls == 1


async def test_a_chunk_whose_commit_is_refused_is_not_computed_again_for_a_caller_that_has_gone(
    cluster: Cluster,
) -> None:
    server, other = cluster.replica(), cluster.replica()
    await server.send("a", 0)
    await other.send("a", 1, seed=1)
    cluster.store.opened.clear()
    cluster.store.entered.clear()
    left = asyncio.create_task(server.send("a", None, seed=2))
    await cluster.store.entered.wait()
    left.cancel()
    cluster.store.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert server.gate.calls == 2
    assert (await server.send("a", 2, seed=2)).total_steps == 30


async def test_a_caller_that_goes_away_before_the_commit_leaves_no_trace_in_the_store(cluster: Cluster) -> None:
    server = cluster.replica()
    server.gate.opened.clear()
    left = asyncio.create_task(server.send("a", 0))
    await server.entered()
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    server.gate.opened.set()
    await server.parts.batcher.close()
    assert await cluster.record("a") is None
    assert (await server.send("a", 0, seed=5)).seq == 0


async def test_a_failed_commit_of_a_caller_that_has_gone_counts_as_one(cluster: Cluster) -> None:
    """Those behind it do not wait for a store that hangs, one after the other."""
    server = cluster.replica()
    await server.send("a", 0)
    cluster.store.opened.clear()
    cluster.store.entered.clear()
    cluster.store.down = True
    left = asyncio.create_task(server.send("a", 1, seed=1))
    await cluster.store.entered.wait()
    behind = asyncio.create_task(server.send("a", 1, seed=1))
    await asyncio.sleep(0)
    left.cancel()
    cluster.store.opened.set()
    for task in (left, behind):
        with pytest.raises(StoreUnavailable):
            await task
    cluster.store.down = False
    assert (await server.send("a", 1, seed=1)).total_steps == 20


async def test_random_chaos_leaves_no_wrong_answer(make_cluster: MakeCluster) -> None:
    """Clients that retry by number, replicas that are restarted, a store that fails in every way."""
    cluster = make_cluster(max_sessions=100)
    rng = random.Random(11)
    chunks, names = 8, [f"s{n}" for n in range(6)]
    expected = await cluster.undisturbed(chunks)
    replicas = [cluster.replica() for _ in range(3)]
    done = asyncio.Event()

    async def client(name: str) -> None:
        for n in range(chunks):
            while True:
                try:
                    sent = replicas[rng.randrange(3)].send(name, n, seed=n, end=n == chunks - 1)
                    reply = await sent
                except (StoreUnavailable, Overloaded):
                    await asyncio.sleep(0)
                    continue
                assert reply == Reply(**{**vars(expected[n]), "session": name})
                if rng.random() < 0.7:
                    break

    async def trouble() -> None:
        while not done.is_set():
            cluster.store.down = rng.random() < 0.1
            cluster.store.deaf = rng.random() < 0.2
            cluster.store.late = rng.random() < 0.1
            if rng.random() < 0.2:
                await cluster.store.run_late()
            if rng.random() < 0.05:
                replicas[rng.randrange(3)] = cluster.replica()
            await asyncio.sleep(0)

    troubled = asyncio.create_task(trouble())
    await asyncio.gather(*(client(name) for name in names))
    done.set()
    await troubled
    applied = sum(server.counters.chunks_applied for server in cluster.replicas)
    assert applied <= chunks * len(names)
