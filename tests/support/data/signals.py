"""Input for tests: sound and spikes from a seed."""

from __future__ import annotations

import numpy as np

from service.runtime.onnx import Array
from service.wire.chunk import AudioChunk, SpikeChunk, ValuesChunk
from tests.support.artifacts.fake_graph import CHANNELS, RATE_HZ, ROW


def sound(samples: int, seed: int = 0) -> Array:
    """int16 samples of bursts of differing loudness."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0, 1, samples // 200 + 1), 200)[:samples]
    return (rng.uniform(-1, 1, samples) * loudness * 32_767).astype(np.int16)


def audio_chunk(samples: Array, rate_hz: int = RATE_HZ) -> AudioChunk:
    """int16 samples as a server decodes them."""
    return AudioChunk(samples.astype(np.float32) / np.float32(32_768), rate_hz)


def spikes(steps: int, seed: int = 0) -> tuple[Array, Array]:
    """times, units int64 of a random train, ascending."""
    times, units = np.nonzero(np.random.default_rng(seed).random((steps, CHANNELS)) < 0.3)
    return times.astype(np.int64), units.astype(np.int64)


def words(count: int, rate_hz: int = RATE_HZ, seed: int = 0) -> Array:
    """int16 samples of bursts of 0.2 s in quiet noise, with pauses of 0.3 s before, between and behind them."""
    rng = np.random.default_rng(seed)
    pause, word = round(0.3 * rate_hz), round(0.2 * rate_hz)
    loudness = np.full((2 * count + 1) * max(pause, word), 0.001)
    end = pause
    for _ in range(count):
        loudness[end : end + word] = rng.uniform(0.1, 0.5)
        end += word + pause
    samples: Array = (rng.uniform(-1, 1, end) * loudness[:end] * 32_767).astype(np.int16)
    return samples


def spike_bursts(steps: int) -> SpikeChunk:
    """Bursts of spikes in a sparse background, one in 60 steps."""
    rate = np.where(np.arange(steps) % 60 < 25, 0.6, 0.01)
    step, unit = np.nonzero(np.random.default_rng(0).random((steps, CHANNELS)) < rate[:, None])
    return SpikeChunk(steps, step.astype(np.int64), unit.astype(np.int64))


def row_bursts(steps: int) -> ValuesChunk:
    """Values of a sensor that moves now and then, once in 60 steps."""
    moves = np.where(np.arange(steps) % 60 < 25, 1.0, 0.0)
    return ValuesChunk((np.random.default_rng(0).normal(size=(steps, ROW)) * moves[:, None]).astype(np.float32))
