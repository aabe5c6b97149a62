"""A stream of values through kills of its server: each chunk counts once, and the answer is that of the equation."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from hetsyn_client import HetsynError, StreamingClient
from tests.support.fake_graph import CHANNELS, TAIL
from tests.support.leaky_values import TOLERANCE, expected, write_leaky
from tests.support.server_process import RestartableServer

CHUNKS, STEPS = 8, 12


def test_a_killed_server_loses_no_values_and_takes_none_twice(tmp_path: Path) -> None:
    write_leaky(tmp_path / "models")
    values = np.random.default_rng(0).normal(size=(CHUNKS * STEPS, CHANNELS)).astype(np.float32)
    parts = np.split(values, CHUNKS)
    # the last of two options counts
    options = "--models", str(tmp_path / "models"), "--store", f"file://{tmp_path}/sessions.db"
    server = RestartableServer(*options, "--log-level", "warning")

    def send_and_forget(seq: int) -> None:
        with suppress(HetsynError), StreamingClient(server.url, repeats=0) as client:
            client.infer_values(parts[seq], session="shaken", seq=seq, end=seq == CHUNKS - 1)

    try:
        server.ready()
        for seq, part in enumerate(parts):
            if seq in (3, CHUNKS - 1):  # killed with the chunk under way, which may be applied, or not
                under_way = threading.Thread(target=send_and_forget, args=(seq,))
                under_way.start()
                server.kill()
                under_way.join()
                server.restart()
            with StreamingClient(server.url) as client:
                reply = client.infer_values(part, session="shaken", seq=seq, end=seq == CHUNKS - 1)
            assert reply["total_steps"] == (seq + 1) * STEPS + (TAIL if reply["end"] else 0)
    finally:
        server.kill()
    with_tail = np.concatenate([values, np.zeros((TAIL, CHANNELS), np.float32)])
    np.testing.assert_allclose(np.asarray(reply["probabilities"]), expected(with_tail), atol=TOLERANCE)
