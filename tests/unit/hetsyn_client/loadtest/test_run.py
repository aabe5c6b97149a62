"""Runs against a server of a few lines, on a real network and clock: counts and order, no times."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from hetsyn_client.errors import ServiceUnreachable
from hetsyn_client.loadtest.load import Load
from hetsyn_client.loadtest.measurement import Measurement
from hetsyn_client.loadtest.ramp import Goal, RampSettings, Saturation
from hetsyn_client.loadtest.recorder import Recorder
from hetsyn_client.loadtest.run import (
    ClosedLoop,
    JudgedTrial,
    OpenLoop,
    RampResult,
    RunSettings,
    Stop,
    Watch,
    measure,
    run_loop,
    saturate,
)
from hetsyn_client.loadtest.target import Address, HetsynTarget
from tests.support.scripted_server import OK, Answer, serving

LOAD = Load("text/plain", (b"a", b"b", b"c"), period_s=0.02, description="letters")
SETTINGS = RunSettings(duration_s=0.3, warmup_s=0.05, session_chunks=4, connections=3, timeout_s=5.0)
GOAL = Goal(target_ms=5_000, percentile=99.0)  # nothing here takes so long


def status(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {line}", *headers, "Content-Length: 0", "", ""]).encode()


def target(address: Address) -> HetsynTarget:
    return HetsynTarget(address, LOAD.content_type, "m", "1", "bank")


class Log:
    """Which sessions saw which numbers, and which were dropped."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[int]] = defaultdict(list)
        self.ended: list[str] = []
        self.dropped: list[str] = []
        self.chunks = 0

    async def answer(self, line: str) -> bytes:
        if line.startswith("DELETE"):
            self.dropped.append(line.split()[1].rpartition("/")[2])
            return status("204 No Content")
        found = re.search(r"session=([\w-]+)&seq=(\d+)", line)
        assert found, line
        self.chunks += 1
        self.numbers[found[1]].append(int(found[2]))
        if "end=true" in line:
            self.ended.append(found[1])
        return OK


def run(answer: Answer, mode: OpenLoop | ClosedLoop, settings: RunSettings = SETTINGS, **more: Any) -> Measurement:
    async def main() -> Measurement:
        async with serving(answer) as address:
            return await measure(target(address), LOAD, mode, settings, **more)

    return run_loop(main())


@pytest.mark.parametrize("mode", [OpenLoop(7), ClosedLoop(5, expected_interval_s=0.01)])
def test_sessions_are_numbered_and_the_server_is_left_clean(mode: OpenLoop | ClosedLoop) -> None:
    log = Log()
    result = run(log.answer, mode)
    assert result.streams == mode.streams
    assert result.answered > 0
    assert result.failures == 0
    assert all(numbers == list(range(len(numbers))) for numbers in log.numbers.values())
    # every session is whole or dropped; the first of a stream may be shorter
    assert set(log.numbers) == set(log.ended) | set(log.dropped)
    assert not set(log.ended) & set(log.dropped)
    assert Counter(len(log.numbers[session]) <= 4 for session in log.ended)[False] == 0
    assert result.sessions_left == 0


def test_an_open_loop_sends_what_is_due_and_no_more() -> None:
    result = run(Log().answer, OpenLoop(7))
    assert result.offered_per_s is not None
    assert result.answered == round(result.offered_per_s * result.duration_s)
    assert result.answered == 7 * 15
    assert result.latency.count == result.answered
    assert sum(window.answered for window in result.windows) == pytest.approx(result.achieved_per_s * result.duration_s)


def test_a_full_server_refuses_chunks_and_their_number_is_used_again() -> None:
    log = Log()
    requests = 0

    async def answer(line: str) -> bytes:
        nonlocal requests
        if not line.startswith("DELETE"):
            requests += 1
            if requests % 3 == 0:
                return status("503 Full", "Retry-After: 0")
        return await log.answer(line)

    result = run(answer, OpenLoop(4))
    assert set(result.errors) == {"refused (503)"}
    assert result.answered + result.errors["refused (503)"] == 4 * 15
    assert all(numbers == list(range(len(numbers))) for numbers in log.numbers.values())
    assert result.sessions_left == 0


def test_a_deletion_that_the_server_wants_later_is_sent_again_and_a_refused_one_is_left() -> None:
    log = Log()
    asked: Counter[str] = Counter()

    async def answer(line: str) -> bytes:
        if line.startswith("DELETE"):
            asked[line] += 1
            if asked[line] == 1:
                return status("429 Later", "Retry-After: 0")
        return await log.answer(line)

    result = run(answer, OpenLoop(4))
    assert result.sessions_left == 0
    assert set(asked.values()) == {2}

    refused: Counter[str] = Counter()

    async def unauthorized(line: str) -> bytes:
        if line.startswith("DELETE"):
            refused[line] += 1
            return status("401 Unknown")
        return await log.answer(line)

    assert run(unauthorized, OpenLoop(4)).sessions_left == refused.total() > 0


def test_an_error_ends_the_session_and_is_counted_by_its_status() -> None:
    log = Log()
    requests = 0

    async def answer(line: str) -> bytes | None:
        nonlocal requests
        if line.startswith("DELETE"):
            return await log.answer(line)
        requests += 1
        failures = {5: status("500 Oh"), 9: status("503 No")}
        return failures.get(requests) or await log.answer(line)

    result = run(answer, OpenLoop(4), RunSettings(duration_s=0.3, warmup_s=0.0, session_chunks=50))
    assert result.errors == {"status 500": 1, "status 503": 1}
    assert len(log.dropped) >= 2
    assert all(numbers == list(range(len(numbers))) for numbers in log.numbers.values())


def test_what_a_server_never_answers_is_counted_and_waited_for_no_longer_than_the_timeout() -> None:
    never = asyncio.Event()

    async def answer(line: str) -> bytes:
        if not line.startswith("DELETE"):
            await never.wait()
        return OK

    result = run(answer, OpenLoop(2), RunSettings(duration_s=0.2, warmup_s=0.0, timeout_s=0.3))
    assert result.answered == 0
    assert result.failures == 20
    assert result.latency.count == result.unanswered


def test_a_run_stops_when_it_is_asked_to() -> None:
    stop = Stop()

    class Interrupts(Watch):
        def goes_on(self, recorder: Recorder, now_s: float) -> None:  # noqa: ARG002
            if recorder.answered_count:
                stop.reason = "interrupted"

    result = run(Log().answer, OpenLoop(3), RunSettings(duration_s=600.0, warmup_s=0.0), stop=stop, watch=Interrupts())
    assert result.stopped == "interrupted"
    assert 0 < result.answered < 10_000
    assert result.sessions_left == 0


def test_a_run_that_cannot_reach_its_goal_ends_early() -> None:
    async def answer(line: str) -> bytes:
        await asyncio.sleep(0.03)
        return await Log().answer(line)

    result = run(answer, OpenLoop(3), RunSettings(duration_s=600.0, warmup_s=0.0), goal=Goal(1.0, 99.9))
    # 600 s allow for some tens of late chunks; all are late
    assert result.stopped == "p99.9 above 1 ms"


async def test_no_server_is_an_error_and_not_a_measurement() -> None:
    async with serving(Log().answer) as address:
        pass
    with pytest.raises(ServiceUnreachable):
        await measure(target(address), LOAD, OpenLoop(1), SETTINGS)


class Judgements(Watch):
    def __init__(self, after: Callable[[int], None] = lambda _: None) -> None:
        self.trials: list[JudgedTrial] = []
        self._after = after

    def judged(self, trial: JudgedTrial, known: Saturation) -> None:
        assert known.low <= known.streams <= known.high
        self.trials.append(trial)
        self._after(len(self.trials))


def search(answer: Answer, ramp: RampSettings, watch: Watch, stop: Stop) -> RampResult:
    async def main() -> RampResult:
        async with serving(answer) as address:
            return await saturate(target(address), LOAD, GOAL, SETTINGS, ramp, stop=stop, watch=watch)

    return run_loop(main())


def test_a_search_finds_what_the_server_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hetsyn_client.loadtest.run.PROBE_S", 0.2)
    monkeypatch.setattr("hetsyn_client.loadtest.run.PROBE_WARMUP_S", 0.0)
    streams: set[str] = set()

    async def answer(line: str) -> bytes:
        """Three streams are taken at a time; a run's are told from another's by their name."""
        if line.startswith("DELETE"):
            return status("204 No Content")
        found = re.search(r"session=(bench-\w+-\d+)-", line)
        assert found
        run = found[1].rpartition("-")[0]
        streams.add(found[1])
        if sum(stream.startswith(run + "-") for stream in streams) > 3:
            return status("503 Full", "Retry-After: 1")
        return OK

    watch = Judgements()
    found = search(answer, RampSettings(estimate=4.0, patience=0), watch, Stop())
    assert found.trials == tuple(watch.trials)
    assert found.probe.mode == "closed"
    assert found.saturation.is_certain
    assert found.saturation.streams == 3
    assert found.at_saturation is not None
    assert found.at_saturation.streams == 3
    # a busy machine may be late with fewer streams, which are tried again
    assert {trial.missed for trial in found.trials if trial.measurement.streams > 3} == {"refused (503)"}
    assert "" in {trial.missed for trial in found.trials if trial.measurement.streams <= 3}


def test_a_search_that_is_interrupted_keeps_its_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hetsyn_client.loadtest.run.PROBE_S", 0.1)
    monkeypatch.setattr("hetsyn_client.loadtest.run.PROBE_WARMUP_S", 0.0)
    stop = Stop()

    def interrupt(trials: int) -> None:
        if trials == 2:
            stop.reason = "interrupted"

    found = search(Log().answer, RampSettings(estimate=2.0, patience=0), Judgements(interrupt), stop)
    assert len(found.trials) == 2
    assert not found.saturation.is_certain
