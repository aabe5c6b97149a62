"""A stream of values through kills of its server: each chunk counts once, and the answer is that of the equations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetsyn_client import StreamingClient
from service.runtime.onnx import Array
from tests.support import fake_graph, grey_network, leaky_values
from tests.support.kills import through_kills

pytestmark = pytest.mark.long

CHUNKS, STEPS = 8, 12


def test_a_killed_server_loses_no_values_and_takes_none_twice(tmp_path: Path) -> None:
    leaky_values.write_leaky(tmp_path / "models")
    values = rows(fake_graph.CHANNELS)
    answer = killed(values, tmp_path, fake_graph.TAIL)
    with_tail = np.concatenate([values, np.zeros((fake_graph.TAIL, fake_graph.CHANNELS), np.float32)])
    np.testing.assert_allclose(answer, leaky_values.expected(with_tail), atol=leaky_values.TOLERANCE)


def test_a_hetsyn_network_of_values_lives_through_kills(tmp_path: Path) -> None:
    grey_network.write_grey(tmp_path / "models")
    values = rows(grey_network.CHANNELS)
    answer = killed(values, tmp_path, 0)
    np.testing.assert_allclose(answer, grey_network.expected(values), atol=grey_network.TOLERANCE)


def rows(channels: int) -> Array:
    return np.random.default_rng(0).normal(size=(CHUNKS * STEPS, channels)).astype(np.float32)


def killed(values: Array, tmp_path: Path, tail_steps: int) -> Array:
    """The probabilities after all values, of a server that is killed with two of the chunks under way."""
    parts = np.split(values, CHUNKS)

    def send(client: StreamingClient, seq: int) -> Any:
        return client.infer_values(parts[seq], session="shaken", seq=seq, end=seq == CHUNKS - 1)

    replies = through_kills(tmp_path, CHUNKS, (3, CHUNKS - 1), send)
    for seq, reply in enumerate(replies):
        assert reply["total_steps"] == (seq + 1) * STEPS + (tail_steps if reply["end"] else 0)
    return np.asarray(replies[-1]["probabilities"])
