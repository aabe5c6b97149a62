"""A server process that was paused is as fast as before within a second."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hetsyn_client import StreamingClient
from tests.support.servers.server_process import RestartableServer, live_processes

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="CPU times come from /proc"),
]

STEPS, CHUNKS = 500, 40
PAUSE_S = 1.0
WARM_UP_S = 1.0
MOST_RATIO = 2.0  # of CPU times, which are measured in 10 ms; segments of a step take 8 times as long


def test_a_server_is_at_full_speed_within_a_second_of_a_pause() -> None:
    server = RestartableServer()
    try:
        server.ready()
        pid = server.process.pid
        times, units = np.nonzero(np.random.default_rng(0).random((STEPS, 700)) < 0.02)

        def chunk() -> None:
            client.infer_events(STEPS, times, units, model="shd-size", end=True)

        def warm_up() -> None:
            end_s = time.monotonic() + WARM_UP_S
            while time.monotonic() < end_s:
                chunk()

        def chunks_cpu_s() -> float:
            began_s = live_processes()[pid].cpu_s
            for _ in range(CHUNKS):
                chunk()
            return live_processes()[pid].cpu_s - began_s

        with StreamingClient(server.url) as client, ThreadPoolExecutor(1) as thread:
            warm_up()
            before_s = chunks_cpu_s()
            running = thread.submit(warm_up)  # the pause comes while it computes
            os.kill(pid, signal.SIGSTOP)
            time.sleep(PAUSE_S)
            os.kill(pid, signal.SIGCONT)
            running.result()
            assert chunks_cpu_s() < MOST_RATIO * before_s
    finally:
        server.stop()
