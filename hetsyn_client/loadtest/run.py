"""Runs: one load for a time, or a search for the load that saturates the server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hetsyn_client.loadtest.arrivals import random_schedule
from hetsyn_client.loadtest.cpu_contention import Neighbours
from hetsyn_client.loadtest.drive import Drive
from hetsyn_client.loadtest.load import Load
from hetsyn_client.loadtest.measurement import DISTURBING_CORES, Measurement
from hetsyn_client.loadtest.ramp import Goal, RampSettings, Saturation, Trial, next_streams, saturation
from hetsyn_client.loadtest.recorder import Recorder
from hetsyn_client.loadtest.target import Target

Result = TypeVar("Result")

# a closed loop of so many says about what the server can do, and where a search begins
PROBE_STREAMS = 32
PROBE_WARMUP_S = 1.0
PROBE_S = 2.0
RAMP = RampSettings()
# a search on a machine that others use: the wait for quiet before a trial
QUIET_S = 0.2
QUIET_WITHIN_S = 15


@dataclass(frozen=True)
class OpenLoop:
    """Streams in real time: each sends a chunk whenever one is due, at phases of their own."""

    streams: int


@dataclass(frozen=True)
class ClosedLoop:
    """Streams that each send the next chunk when the last is answered.

    expected_interval_s: correct for coordinated omission as if each had meant to send this often.
    """

    streams: int
    expected_interval_s: float | None = None


@dataclass(frozen=True)
class RunSettings:
    """duration_s: measured, after warmup_s. session_chunks: of a session, after which the stream begins another.

    connections: at most. timeout_s: for one request; also how long a run waits for its last answers.
    """

    duration_s: float = 10.0
    warmup_s: float = 2.0
    session_chunks: int = 50
    connections: int = 256
    timeout_s: float = 10.0
    seed: int = 0


class Watch:
    """Hears of a run's course; this one does nothing with it."""

    def begins(self, mode: OpenLoop | ClosedLoop, settings: RunSettings) -> None:
        pass

    def goes_on(self, recorder: Recorder, now_s: float) -> None:
        pass

    def ended(self, measurement: Measurement) -> None:
        pass

    def waits(self) -> None:
        """Other programs are busy; the next trial waits until they are not."""

    def judged(self, trial: JudgedTrial, known: Saturation) -> None:
        """A trial of a search, and what is known after it."""


class Stop:
    """Somebody wants the run to end: set by a signal, asked by the run."""

    def __init__(self) -> None:
        self.reason = ""


@dataclass(frozen=True)
class JudgedTrial:
    """missed: why the load failed the goal; "" if it held.

    is_counted: not, where other programs or the generator itself may have made it fail.
    """

    measurement: Measurement
    missed: str
    is_counted: bool


@dataclass(frozen=True)
class Search:
    """probe: the closed loop that says where to begin. trials: in order."""

    goal: Goal
    saturation: Saturation
    probe: Measurement
    trials: tuple[JudgedTrial, ...]

    @property
    def at_saturation(self) -> Measurement | None:
        """The trial of the largest load that held, of those that the belief takes for holding."""
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
    """One load for a time.

    Args:
        goal: end as soon as it cannot be reached any more.

    Raises:
        ServiceUnreachable: there is no server.
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
    neighbours = Neighbours.of(target.address)
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()  # a collection would stop the clock of every stream; a run makes no cycles worth one
    try:
        measurement = await drive.run()
    finally:
        if was_enabled:
            gc.enable()
    if neighbours is not None:
        usage = neighbours.usage()
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
) -> Search:
    """The largest number of real-time streams that holds the goal, from half of what a closed loop achieves up.

    Raises:
        ServiceUnreachable: there is no server.
    """
    stop, watch = stop or Stop(), watch or Watch()
    probing = replace(settings, duration_s=PROBE_S, warmup_s=PROBE_WARMUP_S)
    probe = await measure(target, load, ClosedLoop(PROBE_STREAMS), probing, stop=stop, watch=watch)
    if ramp.estimate is None:
        ramp = replace(ramp, estimate=probe.achieved_per_s * load.period_s)
    judged: list[JudgedTrial] = []
    trials: list[Trial] = []
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
            trials.append(Trial(streams, not missed))
        watch.judged(trial, saturation(trials, ramp))
    return Search(goal, saturation(trials, ramp), probe, tuple(judged))


async def _wait_for_quiet(target: Target, stop: Stop, watch: Watch) -> None:
    """Until other programs leave the machine to the server, for a while at most."""
    neighbours = Neighbours.of(target.address)
    if neighbours is None:
        return
    for second in range(QUIET_WITHIN_S):
        await asyncio.sleep(1.0 if second else QUIET_S)
        usage = neighbours.usage()
        if stop.reason or usage is None or usage.other_cores <= DISTURBING_CORES:
            return
        watch.waits()


def _give_up(chunks: float, goal: Goal | None, stop: Stop) -> Callable[[Recorder], str]:
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


def run_loop(main: Coroutine[Any, Any, Result]) -> Result:
    """``asyncio.run`` on uvloop where there is one."""
    try:
        import uvloop
    except ModuleNotFoundError:  # Windows
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
