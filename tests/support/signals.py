"""Input for tests: sound and spikes from a seed."""

from __future__ import annotations

import numpy as np

from service.runtime.onnx import Array
from tests.support.fake_graph import CHANNELS


def sound(samples: int, seed: int = 0) -> Array:
    """int16 samples of bursts of differing loudness."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0, 1, samples // 200 + 1), 200)[:samples]
    return (rng.uniform(-1, 1, samples) * loudness * 32_767).astype(np.int16)


def spikes(steps: int, seed: int = 0) -> tuple[Array, Array]:
    """times, units int64 of a random train, ascending."""
    times, units = np.nonzero(np.random.default_rng(seed).random((steps, CHANNELS)) < 0.3)
    return times.astype(np.int64), units.astype(np.int64)
