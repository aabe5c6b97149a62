"""The discrete-event simulation: chunks on their way through client, proxy, event loop and store.

Every part works in turns, as the real ones do. A turn of an event loop takes what has become ready, then what has come
over sockets meanwhile. When nothing has come (or after ``MOST_ROUNDS``), it computes a batch. A loop has one commit of
each node under way, which takes the records that wait for this node, up to a batch. A session has one chunk under way:
its next one waits.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, inf

from benchmarks.capacity.counts import Counts, Simulated
from benchmarks.capacity.events import Act, Events, Queue
from benchmarks.capacity.node import Node
from benchmarks.capacity.system import IDLE_S, Load, System

MOST_ROUNDS = 16  # as of service/batching/batcher.py
Job = tuple[float, Act]


class _Lane:
    """A loop's records for one node. One commit is under way at a time."""

    def __init__(self, loop: _Loop, node: Node) -> None:
        self._loop = loop
        self._node = node
        self._waiting: deque[tuple[int, float]] = deque()
        self._is_committing = False

    def add(self, session: int, now_s: float) -> None:
        self._waiting.append((session, now_s))

    def commit(self, schedule: Callable[[float, Act], None]) -> None:
        """Begin the next commit, if it may begin: ``schedule`` says when the loop sends it."""
        if self._is_committing or not self._waiting:
            return
        self._is_committing = True
        loop, run = self._loop, self._loop.run
        taken = [self._waiting.popleft()[0] for _ in range(min(run.system.max_batch, len(self._waiting)))]
        half_s = run.commit_s[len(taken)] / 2

        def send() -> None:
            if run.shares_turns:
                loop.write(lambda: self._node.command(len(taken), answered))
            else:  # a thread of the loop's process: it takes turns with the loop, under Python's lock
                locked(len(taken) + 2, lambda: self._node.command(len(taken), lambda: loop.between_jobs(answered)))

        def locked(times: int, then: Act) -> None:
            if times:
                loop.between_jobs(lambda: locked(times - 1, then))
            else:
                then()

        def answered() -> None:
            loop.comes(half_s, committed)  # over a socket

        def committed() -> None:
            self._is_committing = False
            loop.reply(taken)
            before_s = run.events.now_s - run.system.store_timeout_s
            late = []
            while self._waiting and self._waiting[0][1] <= before_s:
                late.append(self._waiting.popleft()[0])
            loop.reply(late, is_good=False)
            self.commit(loop.now)  # before the replies

        schedule(half_s, send)


class _Loop:
    """An event loop."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self._ready: deque[Job] = deque()
        self._come: deque[Job] = deque()
        self._round: deque[Job] = deque()
        self._between: list[Act] = []
        self._writes: list[Act] = []
        self._waiting: deque[int] = deque()
        self._lanes = [_Lane(self, node) for node in run.nodes]
        self._is_busy = False
        self._rounds = self._inside = 0
        self._idle_since_s = 0.0
        self.busy_s = 0.0

    def arrive(self, session: int) -> None:
        """A chunk for one of its own sessions."""
        if self.is_full:
            self.refuse(session)
        else:
            self._inside += 1
            # two turns of the loop from its socket to the batch: in one its request is read, in the next it is decoded
            part_s = self.run.half_chunk_s / 2
            self.comes(part_s, lambda: self.ready(part_s, lambda: self._waiting.append(session)))

    @property
    def is_full(self) -> bool:
        return self._inside >= self.run.system.max_waiting

    def refuse(self, session: int) -> None:
        self.comes(self.run.system.loop.refuse_s, lambda: self.write(lambda: self.run.reply(session, is_good=False)))

    def comes(self, cost_s: float, act: Act) -> None:
        """Something comes over a socket, and takes the loop so long."""
        self._come.append((cost_s, act))
        if not self._is_busy:
            self._is_busy = True
            self._go_on()

    def ready(self, cost_s: float, act: Act) -> None:
        """For the next turn of the loop, which works now."""
        self._ready.append((cost_s, act))

    def between_jobs(self, act: Act) -> None:
        """When the loop has done its next job, or rests."""
        if self._is_busy:
            self._between.append(act)
        else:
            act()

    def now(self, cost_s: float, act: Act) -> None:
        """Next in this turn."""
        self._round.appendleft((cost_s, act))

    def reply(self, sessions: Sequence[int], *, is_good: bool = True) -> None:
        """Within a turn: write these replies in the next."""
        for session in sessions:
            self.ready(self.run.half_chunk_s, partial(self._replied, session, is_good=is_good))

    def _replied(self, session: int, *, is_good: bool) -> None:
        self._inside -= 1
        self.write(lambda: self.run.answer(session, is_good=is_good))

    def write(self, act: Act) -> None:
        """Something leaves over a socket: uvloop writes at the end of a turn."""
        self._writes.append(act)

    def _go_on(self) -> None:
        run = self.run
        if not self._round:
            writes, self._writes = self._writes, []
            for write in writes:
                write()
            if (self._ready or self._come) and (self._rounds < MOST_ROUNDS or not self._waiting):
                self._rounds += 1
                self._round, self._ready, self._come = self._ready + self._come, deque(), deque()
            elif self._waiting:
                self._batch()
                return
            else:
                self._is_busy = False
                self._idle_since_s = run.events.now_s
                waiting, self._between = self._between, []
                for between in waiting:
                    between()
                return
        cost_s, act = self._round.popleft()
        has_rested = run.events.now_s - self._idle_since_s >= IDLE_S
        self._idle_since_s = inf
        if has_rested:
            run.counts.cold_turns += 1
            loop = run.system.loop
            run.events.at(run.events.now_s + loop.waking_s, lambda: self._work(cost_s + loop.cold_s, act))
        else:
            self._work(cost_s, act)

    def _work(self, cost_s: float, act: Act) -> None:
        def done() -> None:
            waiting, self._between = self._between, []
            act()  # what this asks for comes after the next job
            for between in waiting:
                between()
            self._go_on()

        self.busy_s += self.run.events.work(cost_s, done)

    def _batch(self) -> None:
        run, self._rounds = self.run, 0
        taken = [self._waiting.popleft() for _ in range(min(run.system.max_batch, len(self._waiting)))]
        run.counts.batched(len(taken))

        def computed() -> None:
            if not self._lanes:
                self.reply(taken)
                return
            for session in taken:
                self._lanes[run.node_of[session]].add(session, run.events.now_s)
            for lane in self._lanes:
                lane.commit(self.ready)

        self._work(run.batch_s[len(taken)], computed)


class _Run:
    """One simulation: its parts, and the way of a chunk through them."""

    def __init__(self, system: System, load: Load, until_s: float, seed: int) -> None:
        self.system, self.load = system, load
        self._until_s = until_s
        self.events = Events(system.cores, system.spread, seed)
        self.half_chunk_s = system.loop.chunk_s / 2
        self.batch_s = [system.loop.batch_s(chunks) for chunks in range(system.max_batch + 1)]
        self.commit_s = system.loop.commit_s(range(system.max_batch + 1))
        node = system.node
        self.nodes = [] if node is None else [Node(self.events, node) for _ in range(system.nodes)]
        self.shares_turns = node is None or node.shares_turns
        self.loops = [_Loop(self) for _ in range(system.loops)]
        self.proxies = [Queue(self.events, system.proxy_s / 2, system.proxy_wake_s) for _ in range(system.proxies)]
        # half of its time for a chunk is for the request, half for the reply
        self.clients = [Queue(self.events, system.client_s / 2, system.client_wake_s)] if system.client_s else []
        self._sent_s = [0.0] * load.sessions
        self._due_s = [0.0] * load.sessions
        self._homes: list[int] = []
        self._entries: list[int] = []
        self._proxy_of: list[int] = []
        self.node_of: list[int] = []
        self.counts = Counts()
        self.begin()
        choose = random.Random(seed)
        for session in range(load.sessions):
            # each by a hash of its own, as the real ones
            home = choose.randrange(system.loops)
            self._homes.append(home)
            self._entries.append(home - home % system.workers + choose.randrange(system.workers))
            self._proxy_of.append(choose.randrange(system.proxies or 1))
            self.node_of.append(choose.randrange(system.nodes))
            self._due_s[session] = choose.uniform(0.0, load.period_s or 1e-3)
            self._schedule(session)

    def begin(self) -> None:
        """Forget what was counted so far."""
        self.counts.begin(self.events.now_s)
        for members in self._parts().values():
            for part in members:
                part.busy_s = 0.0

    def _parts(self) -> dict[str, Sequence[Queue | Node | _Loop]]:
        return {"client": self.clients, "proxy": self.proxies, "loop": self.loops, "store": self.nodes}

    def result(self) -> Simulated:
        busy_s = {
            name: sum(part.busy_s for part in members) / len(members)
            for name, members in self._parts().items()
            if members
        }
        return self.counts.result(self.events.now_s, busy_s)

    def answer(self, session: int, *, is_good: bool) -> None:
        """The session's loop has written a reply: it goes back the way that the chunk came."""
        came_to = self._comes_to(session)
        if came_to is self._home(session):
            self.reply(session, is_good=is_good)
        else:
            came_to.comes(self.system.loop.pass_s / 2, partial(self.reply, session, is_good=is_good))

    def reply(self, session: int, *, is_good: bool) -> None:
        """A reply leaves the loop that the chunk came to."""
        if self.proxies:
            self._proxy(session).enter(partial(self._replied, session, is_good=is_good))
        else:
            self._replied(session, is_good=is_good)

    def _replied(self, session: int, *, is_good: bool) -> None:
        if self.clients:
            self.clients[0].enter(partial(self._read, session, is_good=is_good))
        else:
            self._read(session, is_good=is_good)

    def _read(self, session: int, *, is_good: bool) -> None:
        now_s = self.events.now_s
        self.counts.left(now_s, now_s - self._sent_s[session], is_good=is_good)
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
            self.counts.sent(self.events.now_s)
            if self.clients:
                self.clients[0].enter(lambda: self._travel(session))
            else:
                self._travel(session)

        due_s, tick_s = self._due_s[session], self.load.tick_s
        if tick_s:
            due_s = ceil(due_s / tick_s) * tick_s
        if due_s <= self.events.now_s:
            send()
        elif due_s <= self._until_s:
            self.events.at(due_s, send)

    def _travel(self, session: int) -> None:
        def arrive() -> None:
            if self.proxies:
                self._proxy(session).enter(lambda: self._come(session))
            else:
                self._come(session)

        self.events.at(self.events.now_s + self.system.wire_s, arrive)

    def _come(self, session: int) -> None:
        came_to, home = self._comes_to(session), self._home(session)
        if came_to is home:
            home.arrive(session)
        elif came_to.is_full:  # it reads no body, and passes nothing on
            came_to.refuse(session)
        else:
            came_to.comes(self.system.loop.pass_s / 2, lambda: home.arrive(session))

    def _home(self, session: int) -> _Loop:
        return self.loops[self._homes[session]]

    def _comes_to(self, session: int) -> _Loop:
        return self.loops[self._entries[session]]

    def _proxy(self, session: int) -> Queue:
        return self.proxies[self._proxy_of[session]]


def simulate(system: System, load: Load, seconds: float = 2.0, warmup_s: float = 0.5, seed: int = 0) -> Simulated:
    """Simulate a load.

    Args:
        system: the service.
        load: the chunks.
        seconds: simulated time that counts.
        warmup_s: simulated time before it.
        seed: of the phases at which sessions begin, and of the time that work takes.
    """
    run = _Run(system, load, warmup_s + seconds, seed)
    run.events.run(warmup_s)
    run.begin()
    run.events.run(warmup_s + seconds)
    return run.result()
