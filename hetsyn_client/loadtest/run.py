"""A run: streams send chunks for a time, and their latencies are recorded.

A tool that waits for an answer before it sends again sends fewer requests while the server is slow, and so misses the
worst latencies ("coordinated omission"). In an open loop, latency therefore begins when a chunk is due.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.loadtest.load import SEED, Load
from hetsyn_client.loadtest.senders import TIMEOUT_S, Answer, Way
from hetsyn_client.protocol.steps import Broken

T = TypeVar("T")
Float64s = NDArray[np.float64]
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
TICK_S = 0.1  # between two looks at the run
OPENED_TOGETHER = 64
LONGEST_PAUSE_S, FAILED_PAUSE_S = 1.0, 0.1  # pauses of a stream in a closed loop after a refusal, and after a failure
DROP_TIMEOUT_S = 10.0
PARTS, PART_CHUNKS = 100, 10  # the most parts of the chunks in ``over_time``, and about the fewest chunks of one
LATE_MS, BUSY_SHARE = 15.0, 0.85  # beyond these, the load generator measures itself
INTERRUPTED = "interrupted"


class Loop(NamedTuple):
    """The streams of a run. In an open loop, a stream sends each chunk on time; in a closed one, after each answer."""

    streams: int
    is_open: bool


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run. The warm-up comes before the measured time; a session ends after ``session_chunks``."""

    duration_s: float = 10.0
    warmup_s: float = 1.0
    session_chunks: int = 50


@dataclass(frozen=True)
class Distribution:
    """Times in ms, with the values at ``PERCENTILES``."""

    count: int
    max_ms: float
    percentiles: dict[float, float]

    @staticmethod
    def of(values_ms: Float64s) -> Distribution:
        if not len(values_ms):
            return Distribution(0, 0.0, {})
        found = np.percentile(values_ms, PERCENTILES, method="inverted_cdf").tolist()
        return Distribution(len(values_ms), float(values_ms.max()), dict(zip(PERCENTILES, found, strict=True)))


@dataclass(frozen=True)
class Measurement:
    """One run at one load."""

    mode: str  # open or closed
    streams: int
    duration_s: float  # without the warm-up
    offered_per_s: float | None  # chunks that were due a second; None in a closed loop
    achieved_per_s: float  # chunks with a good answer a second, by the time of the answer
    answered: int  # chunks with a good answer, of those that were due in the measured time
    applied: int  # chunks with a good answer, warm-up included
    errors: dict[str, int]  # failed chunks, by kind
    unanswered: int  # chunks without an answer at the end; latency counts each with its waiting time
    latency: Distribution  # from when a chunk was due (open loop) or sent (closed loop)
    service: Distribution  # from when a chunk was sent
    over_time: list[tuple[float, float, float]]  # due time in s, and p50 and p99 of the latency in ms, of parts
    generator_cpu_share: float  # CPU time of the load generator, as a share of one core
    generator_cpu_us: float | None  # its CPU time an answer; None without answers
    generator_late_ms: float  # delay of sending a due chunk of an idle stream, 99th percentile
    sessions_left: int  # sessions that the server did not confirm to have deleted
    stopped: str  # why the run ended early, or ""

    @property
    def failures(self) -> int:
        """Count the chunks without a good answer."""
        return sum(self.errors.values()) + self.unanswered

    @property
    def is_generator_busy(self) -> bool:
        return self.generator_late_ms > LATE_MS or self.generator_cpu_share > BUSY_SHARE


@dataclass
class Record:
    """The results so far. All times are those of ``time.perf_counter``."""

    begin_s: float = 0.0  # ``begin_s`` and ``end_s``: the measured time
    end_s: float = 0.0
    applied: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    due_s: array[float] = field(default_factory=lambda: array("d"))  # this and the next two: of answered chunks
    sent_s: array[float] = field(default_factory=lambda: array("d"))
    answered_s: array[float] = field(default_factory=lambda: array("d"))
    waits_s: list[float] = field(default_factory=list)  # of chunks that were never answered
    lags_s: array[float] = field(default_factory=lambda: array("d"))


Watch = Callable[[Record, float], str | None]
"""Receives what happened so far and the time, and may end the run with a reason."""


class Run:
    """One run. Call ``measurement`` once."""

    def __init__(self, way: Way, load: Load, loop: Loop, settings: RunSettings) -> None:
        self._way = way
        self._load = load
        self._loop = loop
        self._settings = settings
        self._stopped = ""  # reason
        self._record = Record()
        self._name = f"bench-{secrets.token_hex(4)}"
        self._open_sessions: set[str] = set()
        self._start_s = 0.0

    async def measurement(self, watch: Watch) -> Measurement:
        """Send the load for warm-up and measured time, and delete the sessions that are open at the end."""
        settings, record, streams = self._settings, self._record, self._loop.streams
        self._start_s = time.perf_counter()
        record.begin_s = self._start_s + settings.warmup_s
        record.end_s = record.begin_s + settings.duration_s
        rng = np.random.default_rng(SEED)
        phases_s = rng.uniform(0, self._load.period_s, streams).tolist()
        # the first sessions differ in length, so that later ones do not all end together
        lengths = rng.integers(1, settings.session_chunks + 1, streams).tolist()
        positions = rng.integers(0, len(self._load.chunks), streams).tolist()
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        running = [
            asyncio.create_task(self._stream(stream, *drawn))
            for stream, drawn in enumerate(zip(phases_s, lengths, positions, strict=True))
        ]
        try:
            while not self._stopped and (now_s := time.perf_counter()) < record.end_s:
                await asyncio.wait(running, timeout=min(TICK_S, record.end_s - now_s))
                self._stopped = watch(record, time.perf_counter()) or ""
        except asyncio.CancelledError:  # the first Ctrl-C; a second one ends the program
            self._stopped = INTERRUPTED
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        record.end_s = max(record.begin_s, min(record.end_s, time.perf_counter()))
        answers = record.applied + record.errors.total()
        await asyncio.gather(*running)
        return self._figures(cpu_s / wall_s, 1e6 * cpu_s / answers if answers else None, await self._drop_sessions())

    async def _stream(self, stream: int, phase_s: float, left: int, position: int) -> None:
        """Send sessions one after the other, until the end of the run."""
        record, chunks, is_open = self._record, self._load.chunks, self._loop.is_open
        number, seq, session = 0, 0, f"{self._name}-{stream}-0"
        await self._answer(self._way.begin(session))  # an error is met again by the first chunk
        for taken in range(2**62):
            due_s = self._start_s + phase_s + taken * self._load.period_s if is_open else time.perf_counter()
            if due_s >= record.end_s:
                break
            if (wait_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
                if due_s >= record.end_s:
                    break  # the run was stopped meanwhile
                record.lags_s.append(time.perf_counter() - due_s)
            sent_s = time.perf_counter()
            if sent_s > record.end_s + TIMEOUT_S or (self._stopped and sent_s > record.end_s):
                if record.begin_s <= due_s:
                    record.waits_s.append(sent_s - due_s)
                continue
            is_last = left == 1
            self._open_sessions.add(session)
            chunk = chunks[(position + taken) % len(chunks)]
            answer = await self._answer(self._way.send(session, seq, chunk, is_last=is_last))
            now_s, pause_s = time.perf_counter(), 0.0
            if answer.status == 200:
                record.applied += 1
                if now_s >= record.begin_s:
                    for times_s, time_s in ((record.due_s, due_s), (record.sent_s, sent_s), (record.answered_s, now_s)):
                        times_s.append(time_s)
                seq, left = seq + 1, left - 1
                if is_last:
                    self._open_sessions.discard(session)
            else:
                if record.begin_s <= due_s < record.end_s:
                    record.errors[answer.error] += 1
                pause_s = min(answer.retry_after_s or FAILED_PAUSE_S, LONGEST_PAUSE_S)
                left = left if answer.is_refused else 0
            if left == 0:
                number, seq, left = number + 1, 0, self._settings.session_chunks
                session = f"{self._name}-{stream}-{number}"
                if now_s < record.end_s:
                    await self._answer(self._way.begin(session))
            if pause_s and not is_open:
                await asyncio.sleep(pause_s)

    async def _answer(self, sending: Awaitable[Answer]) -> Answer:
        """Wait for an answer, or make one that says why there is none."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await sending
        except TimeoutError:
            return Answer(0, reason="timeout")
        except Broken as broken:
            return Answer(broken.status or 0, broken.retry_after_s, str(broken))
        except OSError as error:
            return Answer(0, reason=f"connection lost ({type(error).__name__})")

    async def _drop_sessions(self) -> int:
        """Delete the open sessions, and count those that the server did not confirm."""
        left, permits = set(self._open_sessions), asyncio.Semaphore(OPENED_TOGETHER)

        async def drop(session: str) -> None:
            async with permits:
                while (answer := await self._answer(self._way.drop(session))).is_refused:
                    await asyncio.sleep(answer.retry_after_s or FAILED_PAUSE_S)
                if 200 <= answer.status < 300 or answer.status == 404:  # deleted, or never opened
                    left.discard(session)

        with suppress(TimeoutError):
            async with asyncio.timeout(DROP_TIMEOUT_S):
                await asyncio.gather(*(drop(session) for session in self._open_sessions))
        return len(left)

    def _figures(self, cpu_share: float, cpu_us: float | None, sessions_left: int) -> Measurement:
        record = self._record
        due_s, sent_s, answered_s = (np.array(t) for t in (record.due_s, record.sent_s, record.answered_s))
        is_measured = (due_s >= record.begin_s) & (due_s < record.end_s)
        latency_ms, service_ms = 1e3 * (answered_s - due_s)[is_measured], 1e3 * (answered_s - sent_s)[is_measured]
        waits_ms, lags_ms = 1e3 * np.array(record.waits_s), 1e3 * np.array(record.lags_s)
        duration_s = record.end_s - record.begin_s
        span_s = max(duration_s, 1e-9)
        offered = len(latency_ms) + record.errors.total() + len(waits_ms)
        return Measurement(
            mode="open" if self._loop.is_open else "closed",
            streams=self._loop.streams,
            duration_s=duration_s,
            offered_per_s=offered / span_s if self._loop.is_open else None,
            achieved_per_s=((answered_s >= record.begin_s) & (answered_s < record.end_s)).sum().item() / span_s,
            answered=len(latency_ms),
            applied=record.applied,
            errors=dict(record.errors),
            unanswered=len(waits_ms),
            latency=Distribution.of(np.concatenate([latency_ms, waits_ms])),
            service=Distribution.of(service_ms),
            over_time=_over_time(due_s[is_measured] - record.begin_s, latency_ms),
            generator_cpu_share=cpu_share,
            generator_cpu_us=cpu_us,
            generator_late_ms=float(np.percentile(lags_ms, 99)) if len(lags_ms) else 0.0,
            sessions_left=sessions_left,
            stopped=self._stopped,
        )


def _over_time(due_s: Float64s, latency_ms: Float64s) -> list[tuple[float, float, float]]:
    """Compute mean due time, and p50 and p99 of the latency, of each part of the chunks."""
    parts = np.array_split(np.argsort(due_s), min(-(-len(due_s) // PART_CHUNKS), PARTS) or 1)
    return [(due_s[at].mean().item(), *np.percentile(latency_ms[at], (50, 99)).tolist()) for at in parts if len(at)]


async def measure(
    way: Way, load: Load, loop: Loop, settings: RunSettings, watch: Watch = lambda _, __: None
) -> Measurement:
    """Measure one load."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()  # a collection would delay every stream, and a run makes few cycles
    try:
        return await Run(way, load, loop, settings).measurement(watch)
    finally:
        if was_enabled:
            gc.enable()
        await way.close()


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop if it is installed."""
    try:
        import uvloop
    except ModuleNotFoundError:  # on Windows
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
