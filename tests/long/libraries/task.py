"""A toy task that every library's networks learn: which of four patterns of rates made these spikes?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

CHANNELS, CLASSES, STEPS, BINS = 16, 4, 50, 5
LOW, HIGH = 0.05, 0.3  # probabilities of a spike
BATCH, LEARNING_RATE = 64, 5e-3

# spikes [stream, steps, channels] -> counts of the output neurons [stream, classes]
Counts = Callable[[Tensor], Tensor]


def streams(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Spikes [stream, steps, channels], 0 or 1, and their classes [stream].

    Args:
        seed: of classes and spikes; the patterns are always the same.
    """
    patterns = np.random.default_rng(0).random((CLASSES, BINS, CHANNELS)) < 0.5
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=count)
    rates = np.where(patterns[labels], HIGH, LOW).repeat(STEPS // BINS, axis=1)
    spikes = (rng.random(rates.shape) < rates).astype(np.float32)
    return torch.from_numpy(spikes), torch.from_numpy(labels)


def train(network: nn.Module, counts: Counts, updates: int) -> None:
    """Train by Adam on the cross entropy of the counts.

    Args:
        network: whose parameters learn.
        counts: of a batch of streams, differentiable by the library's surrogate gradient.
        updates: number of batches.
    """
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], LEARNING_RATE)
    for update in range(updates):
        spikes, labels = streams(BATCH, seed=1000 + update)
        loss = nn.functional.cross_entropy(counts(spikes), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
