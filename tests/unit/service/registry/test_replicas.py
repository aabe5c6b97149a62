"""Clients, replicas, restarts, time and failing stores in any order, against a list of what the store has committed."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from service.errors import ConflictingChunk, HetsynError, NotFound, OutOfOrder, SessionEnded, StoreUnavailable
from service.models.catalog import ModelCatalog
from tests.support.artifacts.fake_graph import load_fake
from tests.support.artifacts.gate import Gate
from tests.support.clients.replies import Reply
from tests.support.clock import Clock
from tests.support.seed import SEED
from tests.support.servers.in_process import DirectServer
from tests.support.stores.cluster import LIMITS
from tests.support.stores.failing_store import FailingStore
from tests.support.stores.memory_store import MemoryStore

STEPS = 200


class Chunk(NamedTuple):
    """What a chunk has: the seed of its content, and whether it ends the session."""

    seed: int
    end: bool


Log = tuple[Chunk, ...]
"""The chunks of a session that the store has committed, in order."""


class Replica(NamedTuple):
    """A server, and its own way to the store that all share."""

    server: DirectServer
    store: FailingStore

    def fails(self, fate: str) -> None:
        """Let the store do what it is asked from now on, or fail in a way."""
        self.store.down, self.store.deaf, self.store.late = fate == "down", fate == "deaf", fate == "late"
        if fate == "held":
            self.store.opened.clear()
        else:
            self.store.opened.set()


class Sent(NamedTuple):
    """A chunk under way."""

    replica: Replica
    session: str
    seq: int | None
    chunk: Chunk
    sent_s: float
    answer: asyncio.Task[Reply]


class Replicas:
    """Three replicas, with one chunk under way at each. While the store holds it, the others go on.

    Attributes:
        held: chunks that the store holds, each at a replica that is not ``free``.
        late: chunks whose commits have not arrived at the store, though their replicas have answered.
        over: sessions of ``logs`` whose time is over.
    """

    def __init__(self, models: Path, rng: random.Random) -> None:
        self.rng = rng
        self.catalog = ModelCatalog(models, load=load_fake)
        self.clock = Clock(now_s=1_000_000.0)
        self.memory = MemoryStore(self.clock)
        self.servers: list[DirectServer] = []
        self.alone = self.server(None)
        self.observer = self.server(FailingStore(self.memory))
        self.free = [self.replica() for _ in range(3)]
        self.held: list[Sent] = []
        self.late: list[Sent] = []
        self.logs: dict[str, Log] = {"a": (), "b": ()}
        self.over: set[str] = set()
        self.undisturbed: dict[Log, Reply] = {}

    def server(self, store: FailingStore | None) -> DirectServer:
        server = DirectServer(self.catalog, Gate(), store=store, clock=self.clock, inline_s=1.0, **LIMITS)
        self.servers.append(server)
        return server

    def replica(self) -> Replica:
        store = FailingStore(self.memory)
        return Replica(self.server(store), store)

    async def close(self) -> None:
        while self.held:
            await self.let_go()
        for server in self.servers:
            await server.close()

    async def step(self) -> None:
        works = (self.send, self.let_go, self.arrive, self.restart, self.wait, self.delete)
        (work,) = self.rng.choices(works, (20, 8, 2, 1, 4, 1))
        await work()

    def take(self) -> Replica:
        return self.free.pop(self.rng.randrange(len(self.free)))

    # what happens

    async def send(self) -> None:
        """A client sends a chunk, and the replica answers unless the store holds what it asks for."""
        if not self.free:
            return
        replica, session = self.take(), self.rng.choice("ab")
        applied = len(self.log(session))
        seq = self.rng.choice([None, 0, max(0, applied - 1), applied, applied, applied, applied + 1])
        chunk = Chunk(self.rng.randrange(2), self.rng.random() < 0.1)
        fate = self.rng.choice(["well", "well", "well", "held", "held", "held", "down", "deaf", "late"])
        if fate == "late" and any(sent.replica is replica for sent in self.late):
            fate = "well"  # or nobody could tell which of two commits has arrived
        replica.fails(fate)
        replica.store.entered.clear()
        answer = asyncio.create_task(replica.server.send(session, seq, seed=chunk.seed, end=chunk.end))
        while not (answer.done() or replica.store.entered.is_set()):
            await asyncio.sleep(0)
        sent = Sent(replica, session, seq, chunk, self.clock(), answer)
        if fate == "held":
            self.held.append(sent)
        else:
            await self.answered(sent, fate)

    async def let_go(self) -> None:
        """What a replica asked for gets to the store. ``crash``: the replica is gone afterwards."""
        if not self.held:
            return
        sent = self.held.pop(self.rng.randrange(len(self.held)))
        fate = self.rng.choice(["well", "well", "well", "well", "deaf", "down", "crash"])
        await self.answered(sent, fate)
        if fate == "crash":
            self.free[-1] = self.replica()

    async def arrive(self) -> None:
        """Commits for which no replica waits any more get to the store."""
        for sent in self.late:
            await sent.replica.store.run_late()
            await self.committed(sent, may_be_over=True)
        self.late.clear()

    async def restart(self) -> None:
        if self.free:
            self.take()
            self.free.append(self.replica())

    async def wait(self) -> None:
        self.clock.now_s += self.rng.choice([0.1, 1.0, 1.0, 3.0, 11.0, 30.0, 61.0])
        if self.free and self.rng.random() < 0.5:
            await self.rng.choice(self.free).server.sweep()
        self.over |= {session for session in self.logs if await self.described(session) is None}

    async def delete(self) -> None:
        if not self.free:
            return
        server, session = self.rng.choice(self.free).server, self.rng.choice("ab")
        if self.log(session):
            await server.registry.delete(session)
            self.logs[session] = ()
        else:
            with pytest.raises(NotFound):
                await server.registry.delete(session)
        assert await self.described(session) is None

    # what must hold

    async def answered(self, sent: Sent, fate: str) -> None:
        """Let a chunk have its answer, and see that it is true."""
        sent.replica.fails(fate)
        (answer,) = await asyncio.gather(sent.answer, return_exceptions=True)
        sent.replica.fails("well")
        self.free.append(sent.replica)
        if fate == "late":
            self.late.append(sent)
        log = await self.committed(sent, may_be_over=self.clock() > sent.sent_s)
        if isinstance(answer, Reply):
            assert answer.seq == sent.seq or (sent.seq is None and answer.seq > 0)  # which begins no session
            if sent.session in self.over:  # since before the commit of the chunk
                log = (*log[: answer.seq], sent.chunk)
            assert log[answer.seq] == sent.chunk
            expected = await self.reply(log[: answer.seq + 1])
            assert answer == Reply(**{**vars(expected), "session": sent.session})
        elif isinstance(answer, StoreUnavailable):
            assert fate in ("down", "deaf", "late")
        else:
            assert isinstance(answer, HetsynError)
            self.refused(sent, answer)

    def refused(self, sent: Sent, error: HetsynError) -> None:
        """Every refusal is decided on what the store holds, and is true as of when it was asked."""
        log = self.log(sent.session)
        if not log and self.clock() > sent.sent_s and not isinstance(error, NotFound):
            log = self.logs[sent.session]  # its time was over only then
        last = len(log) - 1
        if isinstance(error, NotFound):
            assert not log
            assert sent.seq != 0
        elif isinstance(error, ConflictingChunk):
            assert (sent.seq, error.expected_seq) == (last, len(log))
            assert log[last] != sent.chunk
        elif isinstance(error, SessionEnded):
            assert log[last].end
            assert sent.seq != last
        else:
            assert isinstance(error, OutOfOrder)
            assert error.expected_seq == len(log)
            assert sent.seq not in (None, last, len(log))

    def log(self, session: str) -> Log:
        """The chunks of a session whose time is not over."""
        return () if session in self.over else self.logs[session]

    async def committed(self, sent: Sent, *, may_be_over: bool) -> Log:
        """See whether the store has a chunk now. Returns the chunks of its session."""
        session, before = sent.session, self.logs[sent.session]
        described = await self.described(session)
        if described is None:
            assert may_be_over or not self.log(session)
            self.over.add(session)
            return before
        applied, was_over = described["expected_seq"], session in self.over
        self.over.discard(session)
        if was_over and applied == 1:
            before = ()  # it has begun again; else a chunk was in time that was decided on before
        assert applied == len(before) + 1 or (applied == len(before) and not was_over)
        self.logs[session] = (*before, sent.chunk)[:applied]
        assert described["ended"] == self.logs[session][-1].end
        return self.logs[session]

    async def described(self, session: str) -> dict[str, Any] | None:
        """What a server without a chunk says of a session, by the store; None if there is none."""
        try:
            return await self.observer.registry.describe(session)
        except NotFound:
            return None

    async def reply(self, log: Log) -> Reply:
        """The reply of a server without a store to the last of these chunks."""
        if log not in self.undisturbed:
            for n, chunk in enumerate(log):
                replying = self.alone.send("alone", begin=not n, seed=chunk.seed, end=chunk.end)
                self.undisturbed[log[: n + 1]] = await replying
        return self.undisturbed[log]


@pytest.mark.parametrize("walk", range(20))
async def test_no_chunk_is_lost_or_counts_twice_and_every_refusal_is_true(models: Path, walk: int) -> None:
    replicas = Replicas(models, random.Random(f"{walk} {SEED}"))
    for _ in range(STEPS):
        await replicas.step()
    await replicas.close()
