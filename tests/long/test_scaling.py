"""Idle sessions of the speech model cost memory, and the chunks of others take no longer for them."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.contenders import serve_speech
from benchmarks.requests import Pool, RequestWay
from hetsyn_client.loadtest.load import Load, recorded
from hetsyn_client.loadtest.run import ClosedLoop, Measurement, RunSettings, measure, run_loop
from tests.support.paths import RECORDINGS
from tests.support.resident import resident_bytes
from tests.support.target import HetsynTarget

TOGETHER = 16  # chunks of which others have one under way
FEW = 10
LARGEST_RATIO = 1.3  # of the server's CPU time a chunk
ROUNDS = 4  # the cheapest counts: other programs can only make a chunk dearer


@pytest.mark.parametrize(
    ("idle", "most_bytes", "seconds"),
    [
        pytest.param(1_000, 2**28, 1.0, marks=pytest.mark.process),
        pytest.param(100_000, 2**31, 8.0, marks=pytest.mark.long),
    ],
)
def test_idle_sessions_cost_memory_alone(idle: int, most_bytes: int, seconds: float) -> None:
    load = recorded(RECORDINGS, 0.1)
    options = ("--max-sessions", str(idle + 1_000), "--max-session-bytes", "4GiB", "--client-share", "1")
    with serve_speech(load, *options, "--session-idle-s", "86400") as (server, target):

        def others() -> tuple[float, Measurement]:
            return min((once() for _ in range(ROUNDS)), key=lambda measured: measured[0])

        def once() -> tuple[float, Measurement]:
            began_s = server.cpu_s()
            settings = RunSettings(duration_s=seconds / ROUNDS)
            measured = run_loop(measure(RequestWay(target), load, ClosedLoop(TOGETHER), settings))
            assert measured.failures == 0
            return 1e6 * (server.cpu_s() - began_s) / measured.applied, measured

        run_loop(_open(target, load, range(FEW)))
        few_us, few = others()
        few_bytes = resident_bytes(server)
        run_loop(_open(target, load, range(FEW, idle)))
        many_us, many = others()
        many_bytes = resident_bytes(server)
    a_session = (many_bytes - few_bytes) / (idle - FEW)
    print(
        f"{FEW} sessions: {few_bytes / 2**20:,.0f} MiB; {idle:,}: {many_bytes / 2**20:,.0f} MiB; {a_session:,.0f} each"
    )
    ratios = {
        f"p{percentile:g}": many.latency.at(percentile) / few.latency.at(percentile) for percentile in (50.0, 99.0)
    }
    print(f"others, with {idle:,} idle / with {FEW}: CPU a chunk {many_us / few_us:.2f}, latency {ratios}")
    assert many_bytes <= most_bytes
    assert many_us <= LARGEST_RATIO * few_us


async def _open(target: HetsynTarget, load: Load, numbers: range) -> None:
    """Open sessions with one chunk each."""
    pool, left = Pool(target.address), iter(numbers)

    async def send() -> None:
        for number in left:
            chunk = load.chunks[number % len(load.chunks)]
            response = await pool.exchange(target.request(f"idle-{number}", 0, chunk, is_last=False))
            assert response.status == 200, response.body

    await asyncio.gather(*(send() for _ in range(TOGETHER)))
    pool.close()
