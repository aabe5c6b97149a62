"""Runs: one load for a time, or a search for the load that saturates the server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hetsyn_client.loadtest.arrivals import random_schedule
from hetsyn_client.loadtest.cpu_contention import CpuContention, CpuUsage
from hetsyn_client.loadtest.drive import Drive
from hetsyn_client.loadtest.load import Load
from hetsyn_client.loadtest.measurement import Measurement
from hetsyn_client.loadtest.ramp import Goal, RampSettings, RampTrial, Saturation, next_streams, saturation
from hetsyn_client.loadtest.recorder import Recorder
from hetsyn_client.loadtest.target import Target

T = TypeVar("T")

# a short closed loop measures about what the server can do; a search begins at half of that
PROBE_STREAMS = 32
PROBE_WARMUP_S = 1.0
PROBE_S = 2.0
RAMP = RampSettings()
QUIET_TIMEOUT_S = 15.0  # the longest wait for other programs before a trial


@dataclass(frozen=True)
class OpenLoop:
    """Streams in real time: each sends a chunk whenever one is due, at a phase of its own."""

    streams: int


@dataclass(frozen=True)
class ClosedLoop:
    """Streams that each send the next chunk when the last is answered.

    Attributes:
        streams: number of streams.
        expected_interval_s: corrects for coordinated omission, as if each stream had meant to send at this interval.
    """

    streams: int
    expected_interval_s: float | None = None


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run.

    Attributes:
        duration_s: measured time.
        warmup_s: time before the measured time.
        session_chunks: length of a session in chunks; then the stream begins another.
        connections: the most connections.
        timeout_s: time limit of one request, and of the wait for the last answers.
        seed: of the arrivals, and of the streams' first chunks and first sessions.
    """

    duration_s: float = 10.0
    warmup_s: float = 2.0
    session_chunks: int = 50
    connections: int = 256
    timeout_s: float = 10.0
    seed: int = 0


class Watch:
    """Receives the progress of a run. This one ignores it."""

    def begins(self, mode: OpenLoop | ClosedLoop, settings: RunSettings) -> None:
        pass

    def goes_on(self, recorder: Recorder, now_s: float) -> None:
        pass

    def ended(self, measurement: Measurement) -> None:
        pass

    def waits(self) -> None:
        """Other programs are busy, and the next trial waits for them."""

    def judged(self, trial: JudgedTrial, known: Saturation) -> None:
        """A trial of a search is over. ``known`` is the belief after it."""


class Stop:
    """A request to end the run. A signal handler sets it, and the run reads it.

    Attributes:
        reason: why the run should end; "" for no request.
    """

    def __init__(self) -> None:
        self.reason = ""


@dataclass(frozen=True)
class JudgedTrial:
    """A load of a search, measured and judged.

    Attributes:
        measurement: of the load.
        missed: why the load missed the goal; "" if it held.
        is_counted: False if other programs, or the generator itself, may have made the load fail.
    """

    measurement: Measurement
    missed: str
    is_counted: bool


@dataclass(frozen=True)
class RampResult:
    """The result of a search for the saturation.

    Attributes:
        goal: the conditions that a load had to hold.
        saturation: the belief at the end.
        probe: the closed loop before the first trial.
        trials: in order.
    """

    goal: Goal
    saturation: Saturation
    probe: Measurement
    trials: tuple[JudgedTrial, ...]

    @property
    def at_saturation(self) -> Measurement | None:
        """The largest load that held, up to the upper end of the belief."""
        held = [t.measurement for t in self.trials if not t.missed and t.measurement.streams <= self.saturation.high]
        return max(held, key=lambda m: m.streams, default=None)


async def measure(
    target: Target,
    load: Load,
    mode: OpenLoop | ClosedLoop,
    settings: RunSettings,
    *,
    goal: Goal | None = None,
    stop: Stop | None = None,
    watch: Watch | None = None,
) -> Measurement:
    """Measure one load.

    Args:
        target: the server.
        load: the chunks.
        mode: open or closed loop.
        settings: of the run.
        goal: the run ends as soon as the goal cannot be reached.
        stop: ends the run early.
        watch: receives the progress.

    Raises:
        ServiceUnreachable: no server answers.
    """
    stop, watch = stop or Stop(), watch or Watch()
    is_open = isinstance(mode, OpenLoop)
    drive = Drive(
        target,
        load,
        mode.streams,
        random_schedule(mode.streams, load.period_s, settings.seed) if is_open else None,
        connections=settings.connections,
        timeout_s=settings.timeout_s,
        warmup_s=settings.warmup_s,
        duration_s=settings.duration_s,
        session_chunks=settings.session_chunks,
        seed=settings.seed,
        late_s=goal.target_ms / 1000 if goal else float("inf"),
        expected_interval_s=mode.expected_interval_s if isinstance(mode, ClosedLoop) else None,
        give_up=_give_up(mode.streams * settings.duration_s / load.period_s, goal, stop),
        watch=watch.goes_on,
    )
    watch.begins(mode, settings)
    contention = CpuContention.of(target.address)
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()  # a collection would delay every stream, and a run makes few cycles
    try:
        measurement = await drive.run()
    finally:
        if was_enabled:
            gc.enable()
    if contention is not None:
        usage = contention.usage()
        if usage is not None:
            generator = replace(measurement.generator, server_cores=usage.server_cores, other_cores=usage.other_cores)
            measurement = replace(measurement, generator=generator)
    watch.ended(measurement)
    return measurement


async def saturate(
    target: Target,
    load: Load,
    goal: Goal,
    settings: RunSettings,
    ramp: RampSettings = RAMP,
    *,
    stop: Stop | None = None,
    watch: Watch | None = None,
) -> RampResult:
    """Search for the most real-time streams that hold the goal, from half of a closed loop's throughput.

    Args:
        target: the server.
        load: the chunks.
        goal: the conditions that a load must hold.
        settings: of each trial.
        ramp: of the search.
        stop: ends the search early.
        watch: receives the progress.

    Raises:
        ServiceUnreachable: no server answers.
    """
    stop, watch = stop or Stop(), watch or Watch()
    probing = replace(settings, duration_s=PROBE_S, warmup_s=PROBE_WARMUP_S)
    probe = await measure(target, load, ClosedLoop(PROBE_STREAMS), probing, stop=stop, watch=watch)
    if ramp.estimate is None:
        ramp = replace(ramp, estimate=probe.achieved_per_s * load.period_s)
    judged: list[JudgedTrial] = []
    trials: list[RampTrial] = []
    patience = ramp.patience
    while not stop.reason and (streams := next_streams(trials, ramp)) is not None:
        if patience:
            await _wait_for_quiet(target, stop, watch)
        # a seed of its own for each trial, so that no lucky order of the streams decides
        seeded = replace(settings, seed=settings.seed + len(judged))
        measurement = await measure(target, load, OpenLoop(streams), seeded, goal=goal, stop=stop, watch=watch)
        if stop.reason:
            break
        missed = goal.missed(measurement)
        generator = measurement.generator
        is_in_doubt = bool(missed) and (generator.is_disturbed or generator.is_late) and patience > 0
        patience -= is_in_doubt
        trial = JudgedTrial(measurement, missed, not is_in_doubt)
        judged.append(trial)
        if trial.is_counted:
            trials.append(RampTrial(streams, not missed))
        watch.judged(trial, saturation(trials, ramp))
    return RampResult(goal, saturation(trials, ramp), probe, tuple(judged))


async def _wait_for_quiet(target: Target, stop: Stop, watch: Watch) -> None:
    contention = CpuContention.of(target.address)
    if contention is None:
        return

    def is_stopped(_: CpuUsage) -> bool:
        if not stop.reason:
            watch.waits()
        return bool(stop.reason)

    await contention.until_quiet(QUIET_TIMEOUT_S, is_stopped)


def _give_up(chunks: float, goal: Goal | None, stop: Stop) -> Callable[[Recorder], str]:
    """Why a run of so many chunks should end early, or ""."""
    if goal is None:
        return lambda _: stop.reason
    late_at_most = (1 - goal.percentile / 100) * chunks + 1

    def reason(recorder: Recorder) -> str:
        if stop.reason:
            return stop.reason
        if recorder.late > late_at_most:
            return f"p{goal.percentile:g} above {goal.target_ms:g} ms"
        return ""

    return reason


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, on uvloop if it is installed."""
    try:
        import uvloop
    except ModuleNotFoundError:  # Windows
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
