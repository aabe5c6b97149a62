"""The discrete-event simulation: chunks on their way through client, proxy, event loop and store.

Every part works in turns, as the real ones do. A turn of an event loop takes all that has come meanwhile. When nothing
has come (or after ``MOST_ROUNDS``), it computes a batch. One commit of a loop is under way at a time, and takes all
records that wait, up to a batch. A session has one chunk under way: its next one waits.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from math import ceil, inf

import numpy as np

from benchmarks.capacity.system import IDLE_S, Load, System

MOST_ROUNDS = 16  # as of service/batching/batcher.py


@dataclass(frozen=True)
class Simulated:
    """What the simulation says of a load.

    Attributes:
        seconds: simulated time, after the warm-up.
        answered_per_s: chunks answered well.
        refused_per_s: chunks refused with 503.
        p50_ms: median latency of the answered ones, from when they were sent.
        p99_ms: 99th percentile of the same.
        mean_ms: mean of the same.
        mean_batch: chunks of a batch.
        cold_turns_per_s: turns of loops that had no work for a while.
        in_service: chunks between their sending and their answer, on average over time.
        busy: share of time that each part works, the mean over its members: ``client``, ``proxy``, ``loop``, ``store``.
    """

    seconds: float
    answered_per_s: float
    refused_per_s: float
    p50_ms: float
    p99_ms: float
    mean_ms: float
    mean_batch: float
    cold_turns_per_s: float
    in_service: float
    busy: dict[str, float]


class _Events:
    """The clock, what is to happen, and who works now."""

    def __init__(self, cores: float) -> None:
        self.now_s = 0.0
        self._cores = cores
        self._working = 0
        self._order = count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, when_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when_s, next(self._order), act))

    def work(self, cost_s: float, act: Callable[[], None]) -> float:
        """``act`` once a process has worked for so long; the time, longer where processes share cores."""
        self._working += 1
        spent_s = cost_s * max(1.0, self._working / self._cores)

        def done() -> None:
            self._working -= 1
            act()

        self.at(self.now_s + spent_s, done)
        return spent_s

    def run(self, until_s: float) -> None:
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s, _, act = heapq.heappop(self._heap)
            act()
        self.now_s = until_s


class _Queue:
    """One process that serves one chunk after the other: a load generator, or a thread of a proxy."""

    def __init__(self, events: _Events, cost_s: float) -> None:
        self._events = events
        self._cost_s = cost_s
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_busy = False
        self.busy_s = 0.0

    def enter(self, act: Callable[[], None]) -> None:
        self._waiting.append(act)
        if not self._is_busy:
            self._next()

    def _next(self) -> None:
        self._is_busy = bool(self._waiting)
        if self._is_busy:
            act = self._waiting.popleft()

            def done() -> None:
                act()
                self._next()

            self.busy_s += self._events.work(self._cost_s, done)


class _Node:
    """A node of the store."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._is_busy = False
        self.busy_s = 0.0

    def command(self, records: int, answer: Callable[[], None]) -> None:
        self._waiting.append((records, answer))
        if not self._is_busy:
            self._turn()

    def _turn(self) -> None:
        self._is_busy = bool(self._waiting)
        if not self._is_busy:
            return
        node, events = self._run.node, self._run.events
        taken = [self._waiting.popleft() for _ in range(len(self._waiting) if node.shares_turns else 1)]
        cost_s = node.turn_s + len(taken) * node.command_s + sum(records for records, _ in taken) * node.record_s
        self.busy_s += cost_s

        def done() -> None:
            for _, answer in taken:
                answer()
            self._turn()

        events.at(events.now_s + cost_s, done)  # mostly the disk: it takes no core from others


class _Loop:
    """An event loop."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._arrived: list[int] = []
        self._jobs: list[tuple[float, Callable[[], None]]] = []
        self._waiting: deque[int] = deque()
        self._records: deque[tuple[int, float]] = deque()
        self._is_committing = self._is_busy = False
        self._rounds = self._inside = 0
        self._idle_since_s = 0.0
        self.busy_s = 0.0

    def arrive(self, session: int) -> None:
        self._arrived.append(session)
        if not self._is_busy:
            self._turn()

    def _job(self, cost_s: float, act: Callable[[], None]) -> None:
        self._jobs.append((cost_s, act))
        if not self._is_busy:
            self._turn()

    def _turn(self) -> None:
        has_work = bool(self._arrived or self._jobs)
        self._is_busy = has_work or bool(self._waiting)
        if not self._is_busy:
            self._idle_since_s = self._run.events.now_s
        elif has_work and (self._rounds < MOST_ROUNDS or not self._waiting):
            self._round()
        else:
            self._batch()

    def _round(self) -> None:
        run, (arrived, self._arrived), (jobs, self._jobs) = self._run, (self._arrived, []), (self._jobs, [])
        self._rounds += 1
        free = max(0, run.system.max_waiting - self._inside)
        taken, refused = arrived[:free], arrived[free:]
        self._inside += len(taken)
        loop = run.system.loop
        cost_s = len(taken) * loop.chunk_s + len(refused) * loop.refuse_s + sum(cost_s for cost_s, _ in jobs)
        if run.events.now_s - self._idle_since_s >= IDLE_S:
            cost_s += loop.cold_s
            run.cold_turns += 1
        self._idle_since_s = inf

        def done() -> None:
            self._waiting += taken
            for session in refused:
                run.answer(session, is_good=False)
            for _, act in jobs:
                act()
            self._turn()

        self.busy_s += run.events.work(cost_s, done)

    def _batch(self) -> None:
        run, self._rounds = self._run, 0
        taken = [self._waiting.popleft() for _ in range(min(run.system.max_batch, len(self._waiting)))]
        run.batched(len(taken))

        def done() -> None:
            if run.system.node is None:
                self._answer(taken)
            else:
                self._records += [(session, run.events.now_s) for session in taken]
                self._commit()
            self._turn()

        self.busy_s += run.events.work(run.batch_s[len(taken)], done)

    def _answer(self, sessions: Sequence[int], *, is_good: bool = True) -> None:
        self._inside -= len(sessions)
        for session in sessions:
            self._run.answer(session, is_good=is_good)

    def _commit(self) -> None:
        if self._is_committing or not self._records:
            return
        self._is_committing = True
        run, loop = self._run, self._run.system.loop
        taken = [self._records.popleft()[0] for _ in range(min(run.system.max_batch, len(self._records)))]
        parts: dict[int, int] = {}
        for session in taken:
            node = session // run.system.loops % run.system.nodes
            parts[node] = parts.get(node, 0) + 1
        missing = len(parts)

        def committed() -> None:
            self._is_committing = False
            self._answer(taken)
            before_s = run.events.now_s - run.system.store_timeout_s
            while self._records and self._records[0][1] <= before_s:
                self._answer([self._records.popleft()[0]], is_good=False)
            self._commit()

        def answered() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                self._job(loop.commit_s / 2, committed)

        def send() -> None:
            for node, records in parts.items():
                run.nodes[node].command(records, answered)

        # the loop is in a turn, which goes on with this job
        self._jobs.append((loop.commit_s / 2 + len(taken) * loop.record_s, send))


class _Run:
    """One simulation: its parts, and what they report."""

    def __init__(self, system: System, load: Load, until_s: float, seed: int) -> None:
        self.system, self.load = system, load
        self._until_s = until_s
        self.events = _Events(system.cores)
        self.batch_s = [system.loop.batch_s(chunks) for chunks in range(system.max_batch + 1)]
        self.loops = [_Loop(self) for _ in range(system.loops)]
        if system.node is not None:
            self.node = system.node
        self.nodes = [_Node(self) for _ in range(system.nodes if system.node is not None else 0)]
        self.proxies = [_Queue(self.events, system.proxy_s) for _ in range(system.proxies)]
        self.clients = [_Queue(self.events, system.client_s)] if system.client_s else []
        self._sent_s = [0.0] * load.sessions
        self._due_s = [0.0] * load.sessions
        self._inside, self._changed_s = 0, 0.0
        self.begin()
        choose = random.Random(seed)
        for session in range(load.sessions):
            self._due_s[session] = choose.uniform(0.0, load.period_s or 1e-3)
            self._schedule(session)

    def begin(self) -> None:
        """Forget what was counted so far."""
        self._since_s = self._changed_s = self.events.now_s
        self.latencies_s: list[float] = []
        self.refused = self.cold_turns = self._batches = self._chunks = 0
        self._inside_s = 0.0
        for members in self._parts().values():
            for part in members:
                part.busy_s = 0.0

    def _parts(self) -> dict[str, Sequence[_Queue | _Node | _Loop]]:
        return {"client": self.clients, "proxy": self.proxies, "loop": self.loops, "store": self.nodes}

    def batched(self, chunks: int) -> None:
        self._batches += 1
        self._chunks += chunks

    def answer(self, session: int, *, is_good: bool) -> None:
        now_s = self.events.now_s
        self._count(-1)
        if not is_good:
            self.refused += 1
        else:
            self.latencies_s.append(now_s - self._sent_s[session])
        if self.load.period_s:
            self._due_s[session] += self.load.period_s
            while not is_good and self._due_s[session] < now_s:  # what a stream could not send meanwhile is lost
                self._due_s[session] += self.load.period_s
        else:
            self._due_s[session] = now_s
        self._schedule(session)

    def _schedule(self, session: int) -> None:
        def send() -> None:
            self._sent_s[session] = self.events.now_s
            self._count(1)
            if self.clients:
                self.clients[0].enter(lambda: self._travel(session))
            else:
                self._travel(session)

        due_s, tick_s = self._due_s[session], self.load.tick_s
        if tick_s:
            due_s = ceil(due_s / tick_s) * tick_s
        if due_s <= self._until_s:
            self.events.at(max(self.events.now_s, due_s), send)

    def _travel(self, session: int) -> None:
        loop = self.loops[session % len(self.loops)]

        def arrive() -> None:
            if self.proxies:
                # replicas and proxies have to be chosen independently
                proxy = self.proxies[session // len(self.loops) % len(self.proxies)]
                proxy.enter(lambda: loop.arrive(session))
            else:
                loop.arrive(session)

        self.events.at(self.events.now_s + self.system.wire_s, arrive)

    def _count(self, more: int) -> None:
        self._inside_s += self._inside * (self.events.now_s - self._changed_s)
        self._changed_s = self.events.now_s
        self._inside += more

    def result(self) -> Simulated:
        self._count(0)
        seconds = self.events.now_s - self._since_s
        latencies_ms = 1e3 * np.array(self.latencies_s or [inf])
        p50_ms, p99_ms = np.quantile(latencies_ms, (0.5, 0.99), method="lower")
        return Simulated(
            seconds=seconds,
            answered_per_s=len(self.latencies_s) / seconds,
            refused_per_s=self.refused / seconds,
            p50_ms=float(p50_ms),
            p99_ms=float(p99_ms),
            mean_ms=float(latencies_ms.mean()),
            mean_batch=self._chunks / max(1, self._batches),
            cold_turns_per_s=self.cold_turns / seconds,
            in_service=self._inside_s / seconds,
            busy={
                name: sum(part.busy_s for part in each) / len(each) / seconds
                for name, each in self._parts().items()
                if each
            },
        )


def simulate(system: System, load: Load, seconds: float = 2.0, warmup_s: float = 0.5, seed: int = 0) -> Simulated:
    """Simulate a load.

    Args:
        system: the service.
        load: the chunks.
        seconds: simulated time that counts.
        warmup_s: simulated time before it.
        seed: of the phases at which sessions begin.
    """
    run = _Run(system, load, warmup_s + seconds, seed)
    run.events.run(warmup_s)
    run.begin()
    run.events.run(warmup_s + seconds)
    return run.result()
