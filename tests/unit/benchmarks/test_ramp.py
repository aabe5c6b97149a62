from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from benchmarks.ramp import Goal, RampSettings, RampTrial, Saturation, next_streams, saturate, saturation
from benchmarks.requests import RequestWay
from hetsyn_client.loadtest.load import Load
from hetsyn_client.loadtest.run import RunSettings, run_loop
from tests.support.measurement import measurement
from tests.support.scripted_server import OK, serving
from tests.support.target import HetsynTarget

GOAL = Goal(target_ms=100.0, percentile=99.0)


def search(truth: int, settings: RampSettings, noise: float = 0.0, seed: int = 0) -> tuple[Saturation, list[RampTrial]]:
    """A server that holds up to ``truth`` streams, but for a share of the trials, which noise makes fail."""
    rng = random.Random(seed)
    trials: list[RampTrial] = []
    while (streams := next_streams(trials, settings)) is not None:
        trials.append(RampTrial(streams, streams <= truth and rng.random() >= noise))
    return saturation(trials, settings), trials


@pytest.mark.parametrize("truth", [1, 2, 7, 30, 111, 2_345])
@pytest.mark.parametrize("off", [0.3, 1.2, 4.0])
def test_the_edge_is_found(truth: int, off: float) -> None:
    found, trials = search(truth, RampSettings(estimate=truth * off))
    assert found.is_certain
    assert not found.is_beyond
    assert abs(found.streams - truth) <= 0.05 * truth
    assert found.low <= found.streams <= found.high
    assert len(trials) <= 30


def test_noise_that_fails_a_fifth_of_the_trials_does_not_decide() -> None:
    found = [search(200, RampSettings(estimate=240.0), 0.2, seed)[0].streams for seed in range(40)]
    assert sum(abs(streams - 200) <= 20 for streams in found) >= 38


def test_it_grows_until_a_load_fails() -> None:
    settings = RampSettings(estimate=100.0, growth=2.0)
    assert next_streams([], settings) == 50
    assert next_streams([RampTrial(50, True)], settings) == 100
    after_failure = next_streams([RampTrial(50, True), RampTrial(100, False)], settings)
    assert after_failure is not None
    assert 50 < after_failure < 110


def test_a_load_that_held_and_then_failed_is_not_given_up() -> None:
    settings = RampSettings(estimate=100.0)
    once = saturation([RampTrial(100, True), RampTrial(140, False), RampTrial(100, False)], settings)
    assert once.streams >= 95
    often = saturation([RampTrial(100, True), *[RampTrial(100, False)] * 4], settings)
    assert often.streams < 100


def test_a_server_that_holds_nothing() -> None:
    found, _ = search(0, RampSettings(estimate=10.0))
    assert (found.streams, found.is_certain) == (0, True)


def test_a_server_that_holds_all_that_may_be_tried() -> None:
    found, trials = search(1_000, RampSettings(estimate=10.0, max_streams=100))
    assert max(trial.streams for trial in trials) == 100
    assert (found.high, found.is_beyond, found.is_certain) == (100, True, True)


def test_one_stream_at_most() -> None:
    found, trials = search(5, RampSettings(estimate=10.0, max_streams=1))
    assert {trial.streams for trial in trials} == {1}
    assert (found.streams, found.is_beyond) == (1, True)


def test_the_search_is_bounded() -> None:
    found, trials = search(200, RampSettings(estimate=100.0, max_trials=5))
    assert len(trials) == 5
    assert not found.is_certain


def test_a_goal_says_why_it_was_missed() -> None:
    met = replace(measurement(latency_ms=10.0), errors={}, offered_per_s=100.0, achieved_per_s=100.0)
    assert GOAL.missed(met) == ""
    assert GOAL.missed(replace(measurement(latency_ms=50.0), errors={})) == "p99 350 ms"
    assert GOAL.missed(replace(met, achieved_per_s=98.0)) == ""  # the others are under way at the end
    assert GOAL.missed(replace(met, achieved_per_s=90.0)) == "90.0% of the chunks"
    assert GOAL.missed(replace(met, errors={"status 500": 1})) == "status 500"
    assert GOAL.missed(replace(met, unanswered=1)) == "unanswered"
    assert GOAL.missed(replace(met, answered=0)) == "nothing was answered"
    assert GOAL.missed(replace(met, stopped="p99 above 100 ms")) == "p99 above 100 ms"


def test_a_search_finds_what_the_server_refuses() -> None:
    streams: set[str] = set()

    async def answer(line: str) -> bytes:
        """Three streams are taken at a time; a run's are told from another's by their name."""
        if (found := re.search(r"session=(bench-\w+-\d+)-", line)) is None:
            return OK
        streams.add(found[1])
        run = found[1].rpartition("-")[0]
        if sum(stream.startswith(run + "-") for stream in streams) > 3:
            return b"HTTP/1.1 503 Full\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        return OK

    load, settings = Load("text/plain", (b"a",), 0.02, "letters"), RunSettings(duration_s=0.3, warmup_s=0.05)

    async def main() -> None:
        async with serving(answer) as address:
            target, goal = HetsynTarget(address, "text/plain", "m", "1"), Goal(5_000.0, 99.0)
            ramp = RampSettings(estimate=4.0, patience=0)
            found = await saturate(lambda: RequestWay(target), list, load, goal, settings, ramp)
        assert found.saturation.is_certain
        assert found.saturation.streams == 3
        # a busy machine may be late with fewer streams, which are tried again
        assert {trial.missed for trial in found.trials if trial.measurement.streams > 3} == {"refused (503)"}
        assert "" in {trial.missed for trial in found.trials if trial.measurement.streams <= 3}

    run_loop(main())
