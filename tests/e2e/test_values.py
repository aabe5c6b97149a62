"""A stream of values through kills of its server: each chunk counts once, and the answer is that of the equations."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from hetsyn_client import HetsynError, StreamingClient
from service.runtime.onnx import Array
from tests.support import fake_graph, grey_network, leaky_values
from tests.support.server_process import RestartableServer

CHUNKS, STEPS = 8, 12


def test_a_killed_server_loses_no_values_and_takes_none_twice(tmp_path: Path) -> None:
    leaky_values.write_leaky(tmp_path / "models")
    values = rows(fake_graph.CHANNELS)
    answer = through_kills(values, tmp_path, fake_graph.TAIL)
    with_tail = np.concatenate([values, np.zeros((fake_graph.TAIL, fake_graph.CHANNELS), np.float32)])
    np.testing.assert_allclose(answer, leaky_values.expected(with_tail), atol=leaky_values.TOLERANCE)


def test_a_hetsyn_network_of_values_lives_through_kills(tmp_path: Path) -> None:
    grey_network.write_grey(tmp_path / "models")
    values = rows(grey_network.CHANNELS)
    answer = through_kills(values, tmp_path, 0)
    np.testing.assert_allclose(answer, grey_network.expected(values), atol=grey_network.TOLERANCE)


def rows(channels: int) -> Array:
    return np.random.default_rng(0).normal(size=(CHUNKS * STEPS, channels)).astype(np.float32)


def through_kills(values: Array, tmp_path: Path, tail_steps: int) -> Array:
    """The probabilities after all values, of a server that is killed with two of the chunks under way."""
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
            assert reply["total_steps"] == (seq + 1) * STEPS + (tail_steps if reply["end"] else 0)
    finally:
        server.kill()
    return np.asarray(reply["probabilities"])
