"""A server under load: every chunk is answered, and its memory stays what it was."""

from __future__ import annotations

import statistics
import threading

import pytest

from benchmarks.load.contenders import serve_speech
from benchmarks.load.requests import RequestWay
from hetsyn_client.loadtest.load import recorded
from hetsyn_client.loadtest.run import Loop, RunSettings, measure, run_loop
from tests.support.paths import RECORDINGS
from tests.support.servers.resident import resident_bytes

pytestmark = pytest.mark.long

STREAMS, DURATION_S = 16, 120.0
SESSION_CHUNKS = 500  # so few sessions end that their last replies take no memory that a busy machine varies
LEAD_IN_S = 90.0  # a server keeps the last replies of ended sessions for a minute, and grows until then
SAMPLE_S = 1.0
LARGEST_GROWTH = 1.02  # the number of resident pages varies


def test_memory_stays_constant_and_every_chunk_is_answered() -> None:
    load = recorded(RECORDINGS, 0.1)
    memory: list[int] = []
    over = threading.Event()
    with serve_speech(load) as (server, target):

        def watch() -> None:
            if not over.wait(LEAD_IN_S):
                while not over.wait(SAMPLE_S):
                    memory.append(resident_bytes(server))

        sampler = threading.Thread(target=watch)
        sampler.start()
        try:
            settings = RunSettings(DURATION_S, LEAD_IN_S, SESSION_CHUNKS)
            measured = run_loop(measure(RequestWay(target), load, Loop(STREAMS, is_open=False), settings))
        finally:
            over.set()
            sampler.join()
    assert measured.errors == {}
    assert measured.answered > 1_000
    quarter = len(memory) // 4
    assert statistics.median(memory[-quarter:]) <= LARGEST_GROWTH * statistics.median(memory[:quarter])
