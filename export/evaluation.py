"""What verifies a network before it is exported: streams of spikes, with or without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from export.parity import Streams
from hetsyn_model.encoder import EncoderSpec


@dataclass(frozen=True)
class Evaluation:
    """What verifies and judges a network.

    Attributes:
        streams: spikes to run through every implementation.
        labels: int64 [stream], their classes; None where there are none.
    """

    streams: Streams
    labels: torch.Tensor | None = None


def seeded_streams(channels: int, density: float, *, streams: int, steps: int, seed: int = 0) -> Streams:
    """Random spikes of one density.

    Args:
        channels: of the streams.
        density: probability with which a channel spikes in a step.
        streams: number of streams.
        steps: of the longest stream; a stream has half as many at least.
        seed: of spikes and lengths.

    Returns:
        Streams of float32 [streams, steps, channels].
    """
    rng = np.random.default_rng(seed)
    spikes = (rng.random((streams, steps, channels)) < density).astype(np.float32)
    return Streams(torch.from_numpy(spikes), torch.from_numpy(rng.integers(steps // 2, steps + 1, streams)))


def noise_and_silence(encoder: EncoderSpec, duration_s: float = 1.0) -> torch.Tensor:
    """Seeded audio, float32 [4, whole steps]: loud and faint noise, noise that begins late, and silence."""
    steps = max(1, round(duration_s * encoder.sample_rate_hz / encoder.step_samples))
    noise = np.random.default_rng(0).normal(size=(4, steps * encoder.step_samples))
    noise *= np.array([[0.2], [0.002], [0.05], [0.0]])
    noise[2, : noise.shape[1] // 2] = 0.0
    return torch.from_numpy(noise.astype(np.float32))


def padded(spikes: Sequence[torch.Tensor]) -> Streams:
    """Streams of different lengths, each [steps, channels], as one tensor."""
    steps = torch.tensor([len(stream) for stream in spikes], dtype=torch.int64)
    return Streams(torch.nn.utils.rnn.pad_sequence(list(spikes), batch_first=True).float(), steps)
