"""The asyncio shell of a run: sends chunks when they are due and records the responses."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator

from hetsyn_client.loadtest.arrivals import Schedule, first_chunks, first_session_chunks
from hetsyn_client.loadtest.carrier import SWEEP_S, Carried, Carrier, Job
from hetsyn_client.loadtest.load import Load
from hetsyn_client.loadtest.measurement import Generator, Measurement, Mode
from hetsyn_client.loadtest.pool import Pool
from hetsyn_client.loadtest.recorder import Recorder
from hetsyn_client.loadtest.streams import LoadStream
from hetsyn_client.loadtest.target import ChunkOutcome, Response, Target

TICK_S = 0.001  # resolution of an event loop's timers; chunks that fall due within it are sent together
HEAD_START_S = 0.02  # from the last connection to the first chunk
LONGEST_PAUSE_S = 1.0  # of a stream in a closed loop after a refusal
FAILED_PAUSE_S = 0.1
DROP_TIMEOUT_S = 10.0


class Drive:
    """One run of one load. Call ``run`` once.

    Args:
        target: the server.
        load: the chunks.
        streams: number of streams.
        schedule: when chunks are due in an open loop; None for a closed loop, where a chunk follows the last answer.
        connections: the most connections.
        timeout_s: time limit of one request, and of the wait for the last answers.
        warmup_s: time before the measured time.
        duration_s: measured time.
        session_chunks: length of a session in chunks.
        seed: of the streams' first chunks and of the lengths of their first sessions.
        late_s: as ``Recorder`` has it.
        expected_interval_s: as ``Recorder`` has it.
        give_up: called several times a second; a reason to end early, or "".
        watch: called several times a second with the recorder and the time.
    """

    def __init__(
        self,
        target: Target,
        load: Load,
        streams: int,
        schedule: Schedule | None,
        *,
        connections: int,
        timeout_s: float,
        warmup_s: float,
        duration_s: float,
        session_chunks: int,
        seed: int,
        late_s: float = float("inf"),
        expected_interval_s: float | None = None,
        give_up: Callable[[Recorder], str] = lambda _: "",
        watch: Callable[[Recorder, float], None] = lambda _, __: None,
    ) -> None:
        self._target = target
        self._load = load
        self._schedule = schedule
        self._timeout_s = timeout_s
        self._warmup_s = warmup_s
        self._duration_s = duration_s
        self._late_s = late_s
        self._expected_interval_s = expected_interval_s
        self._give_up = give_up
        self._watch = watch
        self._carrier: Carrier
        if isinstance(target, Carried):
            self._carrier = target.carrier(connections, timeout_s, self)
        else:
            self._carrier = Pool(target.address, connections, timeout_s, self)
        run = secrets.token_hex(4)
        firsts = first_session_chunks(streams, session_chunks, seed)
        positions = first_chunks(streams, len(load.chunks), seed)
        self._streams = [
            LoadStream(index, f"bench-{run}-{index}", session_chunks, firsts[index], positions[index])
            for index in range(streams)
        ]
        self._abandoned_sessions: list[str] = []
        self._undropped = 0
        self._put_off: list[bytes] = []  # deletions that the server wants later
        self._put_off_s = 0.0
        self._answers = 0  # to chunks
        self._is_over = False
        self._sent_until_s = 0.0  # once it is over
        self._start_s = 0.0
        self._walk: Iterator[tuple[float, int]] = iter(())
        self._next = (0.0, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._recorder = Recorder(0.0, 0.0)

    async def run(self) -> Measurement:
        """Send the load for warm-up and measured time, and delete the sessions that are open at the end.

        Raises:
            ServiceUnreachable: no server answers.
        """
        try:
            await self._carrier.open(self._streams)
            self._start_s = time.perf_counter() + HEAD_START_S
            begin_s = self._start_s + self._warmup_s
            end_s = begin_s + self._duration_s
            self._recorder = Recorder(begin_s, end_s, self._late_s, self._expected_interval_s)
            self._begin()
            stopped, cpu_share, cpu_us = await self._until(end_s)
            connections = self._carrier.size
            self._finish(end_s, stopped)
            await self._carrier.idle(self._timeout_s)
            offered = self._note_unanswered()
            sessions_left = await self._drop_sessions()
            lag_ms = self._recorder.lag_ms(99.0)
            generator = Generator(cpu_share, lag_ms, connections, self._carrier.waits, cpu_us)
            mode: Mode = "closed" if self._schedule is None else "open"
            return self._recorder.measurement(mode, len(self._streams), offered, generator, sessions_left, stopped)
        finally:
            self._is_over = True
            if self._timer is not None:
                self._timer.cancel()
            await self._carrier.close()

    async def _until(self, end_s: float) -> tuple[str, float, float | None]:
        """Run until ``end_s``. The reason for an early end, or ""; and of this process the share of a core, and CPU
        microseconds an answer.
        """
        stopped = ""
        wall_s, cpu_s, answers = time.perf_counter(), time.process_time(), self._answers
        while not stopped and (now_s := time.perf_counter()) < end_s:
            await asyncio.sleep(min(SWEEP_S, end_s - now_s))
            now_s = time.perf_counter()
            self._carrier.sweep(now_s)
            if now_s < end_s:
                self._recorder.roll(now_s)
                stopped = self._give_up(self._recorder)
                self._watch(self._recorder, now_s)
        if stopped:
            self._recorder.stop(time.perf_counter())
        cpu_s, answers = time.process_time() - cpu_s, self._answers - answers
        return stopped, cpu_s / (time.perf_counter() - wall_s), 1e6 * cpu_s / answers if answers else None

    def _finish(self, end_s: float, stopped: str) -> None:
        """From now on send only chunks that were due before the end; none if the run was stopped."""
        if self._schedule is not None and not stopped:
            self._send_due(end_s)
            self._sent_until_s = end_s
        self._is_over = True

    def _begin(self) -> None:
        if self._schedule is None:
            for stream in self._streams:
                self._send(stream, time.perf_counter())
        else:
            self._walk = self._schedule.walk()
            self._next = next(self._walk)
            self._tick()

    def _tick(self) -> None:
        """Send the chunks that are due. A stream that waits for an answer sends when the answer has come."""
        if self._is_over:
            return
        self._send_due(time.perf_counter())
        delay_s = self._start_s + self._next[0] - time.perf_counter()
        self._timer = asyncio.get_running_loop().call_later(max(TICK_S, delay_s), self._tick)

    def _send_due(self, now_s: float) -> None:
        elapsed_s = now_s - self._start_s
        due_s, index = self._next
        while due_s < elapsed_s:
            stream = self._streams[index]
            if not stream.is_waiting and self._due_s(stream) < now_s:
                intended_s = self._due_s(stream)
                self._recorder.lagged(now_s - intended_s)
                self._send(stream, intended_s)
            due_s, index = next(self._walk)
        self._next = due_s, index

    def _due_s(self, stream: LoadStream) -> float:
        assert self._schedule is not None, "closed loops have no schedule"
        return self._start_s + self._schedule.due_s(stream.index, stream.taken)

    def _send(self, stream: LoadStream, intended_s: float) -> None:
        chunks = self._load.chunks
        chunk = chunks[stream.position % len(chunks)]
        request = self._target.request(stream.session, stream.seq, chunk, is_last=stream.is_last)
        stream.take()
        self._carrier.send(Job(request, stream, intended_s))

    def _go_on(self, stream: LoadStream, now_s: float, pause_s: float = 0.0) -> None:
        """After an answer: send the next chunk if it is due."""
        if self._schedule is not None:
            due_s = self._due_s(stream)
            if due_s < (self._sent_until_s if self._is_over else now_s):
                self._send(stream, due_s)
        elif self._is_over:
            return
        elif pause_s:
            asyncio.get_running_loop().call_later(pause_s, self._go_on, stream, now_s)
        else:
            self._send(stream, time.perf_counter())

    # the carrier calls these

    def answered(self, job: Job, response: Response, now_s: float) -> None:
        stream = job.stream
        if stream is None:
            if response.status < 300 or response.status == 404:
                self._undropped -= 1  # deleted, or never opened
            elif response.retry_after_s is not None:
                self._put_off.append(job.request)
                self._put_off_s = _pause_s(response)
            return
        self._answers += 1
        pause_s = 0.0
        outcome = self._target.judge(response)
        if outcome is ChunkOutcome.APPLIED:
            stream.applied()
            self._recorder.answered(job.intended_s, job.sent_s, now_s)
        elif outcome is ChunkOutcome.REFUSED:
            stream.refused()
            self._recorder.failed(f"refused ({response.status})", job.intended_s, now_s)
            pause_s = _pause_s(response)
        else:
            self._abandoned_sessions.append(stream.abandon())
            self._recorder.failed(f"status {response.status}", job.intended_s, now_s)
            pause_s = FAILED_PAUSE_S
        self._go_on(stream, now_s, pause_s)

    def failed(self, job: Job, error: str, now_s: float) -> None:
        stream = job.stream
        if stream is None:
            return
        self._abandoned_sessions.append(stream.abandon())
        self._recorder.failed(error, job.intended_s, now_s)
        self._go_on(stream, now_s, FAILED_PAUSE_S)

    def _note_unanswered(self) -> int | None:
        """Record the chunks that were due and have no answer, each with its waiting time. The number that was due."""
        now_s = time.perf_counter()
        recorder = self._recorder
        for job in self._carrier.abandon():
            if job.stream is not None:
                self._abandoned_sessions.append(job.stream.abandon())
                recorder.unanswered(job.intended_s, now_s)
        if self._schedule is None:
            return None
        offered = 0
        for stream in self._streams:
            before = self._schedule.due_before(stream.index, recorder.begin_s - self._start_s)
            until = self._schedule.due_before(stream.index, recorder.end_s - self._start_s)
            offered += until - before
            for chunk in range(max(before, stream.taken), until):
                recorder.unanswered(self._start_s + self._schedule.due_s(stream.index, chunk), now_s)
        return offered

    async def _drop_sessions(self) -> int:
        """Delete the open sessions. The number that the server did not confirm."""
        sessions = self._abandoned_sessions + [s.open_session for s in self._streams if s.open_session is not None]
        requests = [request for session in sessions if (request := self._target.drop(session)) is not None]
        self._undropped = len(requests)
        until_s = time.perf_counter() + DROP_TIMEOUT_S
        while requests:
            now_s = time.perf_counter()
            for request in requests:
                self._carrier.send(Job(request, None, now_s))
            if not await self._carrier.idle(until_s - now_s):
                self._carrier.abandon()
                break
            requests, self._put_off = self._put_off, []
            if requests:
                if time.perf_counter() + self._put_off_s >= until_s:
                    break
                await asyncio.sleep(self._put_off_s)  # the server has said when
        return self._undropped


def _pause_s(response: Response) -> float:
    """How long to wait after a refusal."""
    return min(response.retry_after_s or FAILED_PAUSE_S, LONGEST_PAUSE_S)
