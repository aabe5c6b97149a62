"""Streams of values in chunks, for tests of every network that takes them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hetsyn_client import StreamingClient
from service.runtime.onnx import Array


def answers_in_chunks(url: str, streams: Sequence[Array]) -> list[list[float]]:
    """The probabilities of streams [steps, channels] that go to a server at once.

    Each is cut at places of its own; every second session is carried, and every third sends lists instead of arrays.
    """

    def answer(index: int) -> list[float]:
        rng, values = np.random.default_rng(index), streams[index]
        cuts = sorted(rng.choice(len(values) - 1, rng.integers(1, 9), replace=False) + 1)
        with StreamingClient(url) as client, client.session(carry=index % 2 == 1) as session:
            for part in np.split(values, cuts):
                session.send_values(part if index % 3 else part.tolist())
            return session.end()["probabilities"] or []

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(answer, range(len(streams))))
