"""Idle sessions of the speech model cost memory, and the chunks of others take no longer for them."""

from __future__ import annotations

import asyncio
import time

import pytest

from benchmarks.load.contenders import serve_speech
from benchmarks.load.requests import RequestWay
from hetsyn_client.loadtest.connections import Pool
from hetsyn_client.loadtest.load import Load, recorded
from hetsyn_client.loadtest.run import Loop, Measurement, RunSettings, measure, run_loop
from service.settings import Retention
from tests.support.paths import RECORDINGS
from tests.support.servers.resident import resident_bytes
from tests.support.servers.target import HetsynTarget

TOGETHER = 16  # chunks of which others have one under way
FEW = 10
LARGEST_RATIO = 3.0  # of the server's CPU time a chunk: smaller batches take as much, a search of all sessions more
LARGEST_IDLE = 0.1  # of a processor: what it takes to look through the sessions for those that expire
ROUNDS = 4  # the cheapest counts: other programs can only make a chunk dearer
IDLE_S = 2 * Retention().sweep_interval_s  # two whole searches


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

        def idle_share() -> float:
            began_s, cpu_before_s = time.monotonic(), server.cpu_s()
            time.sleep(IDLE_S)
            return (server.cpu_s() - cpu_before_s) / (time.monotonic() - began_s)

        def others(idle_share: float) -> tuple[float, Measurement]:
            return min((once(idle_share) for _ in range(ROUNDS)), key=lambda measured: measured[0])

        def once(idle_share: float) -> tuple[float, Measurement]:
            # a busy machine has few chunks a second to share what the server does each second anyway
            began_s, cpu_before_s = time.monotonic(), server.cpu_s()
            settings = RunSettings(duration_s=seconds / ROUNDS)
            measured = run_loop(measure(RequestWay(target), load, Loop(TOGETHER, is_open=False), settings))
            assert measured.failures == 0
            cpu_s = server.cpu_s() - cpu_before_s - idle_share * (time.monotonic() - began_s)
            return 1e6 * cpu_s / measured.applied, measured

        run_loop(_open(target, load, range(FEW)))
        few_us, few = others(idle_share())
        few_bytes = resident_bytes(server)
        run_loop(_open(target, load, range(FEW, idle)))
        share = idle_share()
        many_us, many = others(share)
        many_bytes = resident_bytes(server)
    a_session = (many_bytes - few_bytes) / (idle - FEW)
    print(
        f"{FEW} sessions: {few_bytes / 2**20:,.0f} MiB; {idle:,}: {many_bytes / 2**20:,.0f} MiB; {a_session:,.0f} each"
    )
    ratios = {
        f"p{percentile:g}": many.latency.percentiles[percentile] / few.latency.percentiles[percentile]
        for percentile in (50.0, 99.0)
    }
    print(f"others, with {idle:,} idle / with {FEW}: CPU a chunk {many_us / few_us:.2f}, latency {ratios}")
    print(f"without a chunk, {idle:,} idle sessions take {share:.1%} of a processor")
    assert many_bytes <= most_bytes
    assert share <= LARGEST_IDLE
    assert many_us <= LARGEST_RATIO * few_us


async def _open(target: HetsynTarget, load: Load, numbers: range) -> None:
    """Open sessions with one chunk each."""
    pool, left = Pool(*target.address), iter(numbers)

    async def send() -> None:
        for number in left:
            chunk = load.chunks[number % len(load.chunks)]
            response = await pool.exchange(target.request(f"idle-{number}", 0, chunk, is_last=False))
            assert response.status == 200, response.body

    await asyncio.gather(*(send() for _ in range(TOGETHER)))
    pool.close()
