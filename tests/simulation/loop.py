"""Virtual time, and event loops that share it: one for each simulated process.

A loop runs its own callbacks in the order in which they were scheduled, as asyncio promises. All else is drawn from the
world's seed: which process runs next, what happens first of what is due together, how long a thread takes, and whether
something arrives while a process still has work to do.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import secrets
import time
from asyncio import events
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

START_S = 1_000.0  # of the world's clock
EPOCH_S = 1_800_000_000.0  # the same moment in seconds since 1970
BURIAL_ROUNDS = 100
STUCK = 200_000  # turns without any virtual time passing


class Stuck(Exception):
    """The world makes no progress."""


class World:
    """Virtual time, and all that will happen in it.

    Attributes:
        now_s: seconds of the one monotonic clock.
        random: draws everything.
        trace: what has happened, if ``is_traced``: a line each.
        faults: errors that nobody handled; a world with one has failed.
        running: the process that runs now.
        early_share: share of turns in which something arrives although processes are busy, so that they see it
            together with what came before; it is due within ``early_s`` of the time when they became busy.
        threads_s: mean time of a function on a thread, besides the latency, by the threads' name.
    """

    def __init__(self, seed: int, *, is_traced: bool = False) -> None:
        self.random = random.Random(seed)
        self.early_share, self.early_s = 0.1, 0.002
        self.threads_s: dict[str, float] = {}
        self.now_s = START_S
        self.is_traced = is_traced
        self.trace: list[str] = []
        self.faults: list[str] = []
        self.running: Process | None = None
        self._due: list[tuple[float, float, int, Callable[[], None]]] = []
        self._count = 0
        self._ready: list[Process] = []

    def note(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        if self.is_traced:
            self.trace.append(f"{self.now_s - START_S:10.4f} {who:<10} {what}")

    def at(self, when_s: float, call: Callable[[], None]) -> None:
        """Call a function at a time. What is due together happens in a drawn order."""
        self._count += 1
        heapq.heappush(self._due, (max(when_s, self.now_s), self.random.random(), self._count, call))

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        self.at(self.now_s + delay_s, call)

    def timers_of(self, process: Process) -> int:
        """Count the timers of a process that are not over."""
        timers = [call.args[0] for *_, call in self._due if isinstance(call, partial) and call.func == process._is_due]
        return sum(not timer.cancelled() for timer in timers)

    def latency_s(self) -> float:
        """Draw how long a message or a thread takes: mostly a millisecond, at times much longer."""
        draw = self.random.random()
        if draw < 0.9:
            return 0.0002 + 0.002 * draw
        return (0.05 if draw < 0.99 else 0.4) * self.random.random()

    def is_ready(self, process: Process) -> None:
        """Note that a process has something to run."""
        if not process.is_listed:
            process.is_listed = True
            self._ready.append(process)

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Run the world until something holds, for at most ``limit_s`` of virtual time. Returns whether it holds."""
        end_s, last_s, turns = self.now_s + limit_s, self.now_s, 0
        ready, due, draw = self._ready, self._due, self.random.random
        early_share, early_s = self.early_share, self.early_s
        idle_s = self.now_s  # when nothing was ready, last: no server is ever further behind than ``early_s``
        while not until():
            turns = turns + 1 if self.now_s == last_s else 0
            last_s = self.now_s
            if turns > STUCK:
                raise Stuck(f"nothing waits at {self.now_s - START_S:.3f} s, and nothing ends")
            is_early = due and ready and due[0][0] <= idle_s + early_s and draw() < early_share
            if ready and not is_early:
                index = int(draw() * len(ready)) if len(ready) > 1 else 0
                process = ready[index]
                if process.is_dead or process.is_paused or not process.run_round():
                    process.is_listed = False
                    ready[index] = ready[-1]
                    ready.pop()
                continue
            if not due or due[0][0] > end_s:
                self.now_s = end_s
                return until()
            when_s, _, _, call = heapq.heappop(due)
            self.now_s = max(self.now_s, when_s)
            if not ready:
                idle_s = self.now_s
            call()
        return True

    @contextmanager
    def clocks(self) -> Iterator[None]:
        """Let Python's clocks and random numbers be the world's, within the context."""
        generator, spent_s = self.random, START_S

        def thread_time() -> float:
            nonlocal spent_s
            spent_s += 10 ** generator.uniform(-5, -2)
            return spent_s

        world: dict[tuple[ModuleType, str], Callable[..., Any]] = {
            (time, "monotonic"): lambda: self.now_s,
            (time, "perf_counter"): lambda: self.now_s,
            (time, "time"): self.wall_s,
            (time, "thread_time"): thread_time,
            (secrets, "randbits"): generator.getrandbits,
            (secrets, "token_bytes"): lambda count=None: generator.randbytes(count or 32),
        }
        real = {place: getattr(*place) for place in world}
        state = random.getstate()
        random.seed(generator.getrandbits(64))
        try:
            for place, function in world.items():
                setattr(*place, function)
            yield
        finally:
            for place, function in real.items():
                setattr(*place, function)
            random.setstate(state)

    def time_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        """Return seconds since 1970, by the clock of the process that runs now."""
        return self.now_s + EPOCH_S + (0.0 if self.running is None else self.running.clock_s)


class Process(asyncio.BaseEventLoop):
    """The event loop of a simulated process.

    Attributes:
        clock_s: how far its wall clock is ahead.
        is_paused: it runs nothing, as after SIGSTOP; its threads go on if it ``is_stalled``.
        slow_s: mean time of a message to or from it, besides the latency.
        address: as others see it.
        is_dead: it was killed, and never runs again.
    """

    connect: Callable[..., Any]  # opens a connection in the simulated network

    def __init__(self, world: World, name: str) -> None:
        super().__init__()
        self.world = world
        self.name = self.address = name
        self.clock_s = self.slow_s = 0.0
        self.is_listed = self.is_paused = self.is_stalled = self.is_dead = False
        self._ready: deque[asyncio.Handle] = deque()
        self.set_exception_handler(self._unhandled)

    def time(self) -> float:
        return self.world.now_s

    def call_soon(  # type: ignore[override]  # for any arguments
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not (self.is_listed or self.is_dead):
            self.is_listed = True
            self.world._ready.append(self)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]  # for any arguments
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if when < float("inf"):
            self.world.at(when, partial(self._is_due, timer))
        return timer

    def _is_due(self, timer: asyncio.TimerHandle) -> None:
        if not (timer.cancelled() or self.is_dead):
            self._ready.append(timer)
            self.world.is_ready(self)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def run_round(self) -> bool:
        """Run what is ready now. Returns whether something is ready afterwards."""
        ready, world = self._ready, self.world
        events._set_running_loop(self)
        world.running = self
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()
            if self.is_dead:
                break
        events._set_running_loop(None)
        world.running = None
        return bool(ready)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the running event loop within the context."""
        events._set_running_loop(self)
        self.world.running = self
        try:
            yield
        finally:
            events._set_running_loop(None)
            self.world.running = None

    def resume(self) -> None:
        self.is_paused = self.is_stalled = False
        if self._ready and not self.is_dead:
            self.world.is_ready(self)

    def kill(self) -> None:
        """End it at once: nothing of it runs any more."""
        self.is_dead = True

    def bury(self) -> None:
        """End the tasks of a killed process, after the world's end: Python would complain about them."""
        self.kill()
        for _ in range(BURIAL_ROUNDS):
            for task in asyncio.all_tasks(self):
                task.cancel()
            with self.running():
                for _ in range(len(self._ready)):
                    handle = self._ready.popleft()
                    if not handle._cancelled:
                        handle._run()
            if not asyncio.all_tasks(self):
                break
        self._ready.clear()
        self.close()

    def run_in_executor(  # type: ignore[override]  # for any arguments
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a function on a simulated thread. asyncio's own threads are those of ``executor`` None."""
        return asyncio.wrap_future((executor or Threads(self, 1, "")).submit(func, *args), loop=self)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """Connect in the simulated network."""
        return await self.connect(protocol_factory, host, port)

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self.is_dead:
            self.world.faults.append(f"{self.name}: {context.get('message')}: {context.get('exception')!r}")


class Threads(Executor):
    """An executor of a simulated process: each function runs as a whole, at a drawn time. Its threads are free."""

    def __init__(self, process: Process, threads: int, name: str) -> None:
        self._process = process
        self._is_ordered = threads == 1 and bool(name)
        self._free_s = 0.0
        self.name = name

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        process, world = self._process, self._process.world

        def work() -> None:
            if process.is_paused and not process.is_stalled:
                world.after(world.latency_s(), work)
                return
            if process.is_dead or not future.set_running_or_notify_cancel():
                return
            world.running = process
            try:
                result = fn(*args, **kwargs)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            finally:
                world.running = None

        if world.running is None:  # while a server is built
            work()
            return future
        when_s = world.now_s + world.latency_s()
        if mean_s := world.threads_s.get(self.name):
            when_s += world.random.expovariate(1 / mean_s)
        if self._is_ordered:
            when_s = self._free_s = max(when_s, self._free_s)
        world.at(when_s, work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: no thread was started."""
