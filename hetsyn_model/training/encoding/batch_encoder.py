"""The encoder for training: whole words at once, in float32, straight to events.

:class:`hetsyn_model.encoders.encoder.Encoder` loops over the steps and makes dense spikes, of which one in thirty is
set. Here a band's level becomes the number of the highest threshold below it, and the events are the thresholds between
two successive numbers. Rounding moves hardly any spike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.events import Events

Levels = NDArray[np.float32]
Mask = NDArray[np.bool_]


def power_spectrum(spec: EncoderSpec, frames: Tensor) -> Tensor:
    """Compute the power spectrum, float32 [..., window_samples] to [..., bins]."""
    window = torch.from_numpy(spec.window() * (math.sqrt(2.0) / spec.window().sum())).float()
    spectrum = torch.view_as_real(torch.fft.rfft(frames * window, spec.spectrum_samples))
    return spectrum.square_().sum(-1)


@dataclass(frozen=True)
class BatchEncoding:
    """Band levels of a batch of words as numbers of thresholds.

    Attributes:
        threshold: int16 [b, steps + 1, bands], index of the highest threshold below a band's level (``levels`` if
            none), beginning with the silence before the first step.
    """

    spec: EncoderSpec
    threshold: NDArray[np.int16]

    @staticmethod
    def of(spec: EncoderSpec, levels_db: Levels) -> BatchEncoding:
        """Encode levels [b, steps, bands] as the encoder's ``crossings`` does, from silence on."""
        batch, steps, bands = levels_db.shape
        fallen = np.float32(spec.release_db) * np.arange(1, steps + 1, dtype=np.float32)
        loudest = np.maximum(levels_db.max(-1), np.float32(spec.quietest_db)) + fallen
        gain = np.maximum(np.maximum.accumulate(loudest, 1), np.float32(spec.quietest_db)) - fallen
        y = levels_db @ spec.contrast_matrix().astype(np.float32)
        y -= np.float32(1.0 - spec.contrast) * gain[..., None]
        # threshold l is at -(top + l * spacing); y is strictly above it
        y += np.float32(spec.top_db)
        y *= np.float32(-1.0 / spec.spacing_db)
        threshold = np.full((batch, steps + 1, bands), spec.levels, np.int16)
        threshold[:, 1:] = np.clip(np.floor(y, out=y) + 1.0, 0, spec.levels)
        return BatchEncoding(spec, threshold)

    def events(self, mask: Mask | None = None, shift_bands: NDArray[np.int64] | None = None) -> Events:
        """Return the spikes as events of [b, steps, channels].

        Args:
            mask: [b, steps, bands], False silences a band; None keeps all.
            shift_bands: int64 [b], upward shift of each stream; None shifts none.
        """
        spec = self.spec
        batch, steps, bands = self.threshold.shape[0], self.threshold.shape[1] - 1, spec.bands
        now, before = self.threshold[:, 1:], self.threshold[:, :-1]
        change = before - now  # crossed thresholds, upwards positive
        if mask is not None:
            change = np.where(mask, change, np.int16(0))
        up = np.stack([change, -change], 2)  # [b, steps, direction, bands]
        cell = np.flatnonzero(up > 0)
        count = up.reshape(-1)[cell].astype(np.int64)
        row, direction, band = cell // (2 * bands), cell // bands % 2, cell % bands
        lowest = np.minimum(now, before).reshape(-1)[row * bands + band]
        if shift_bands is not None:
            band = band + shift_bands[row // steps]
            inside = (band >= 0) & (band < bands)
            row, direction, band, lowest, count = (a[inside] for a in (row, direction, band, lowest, count))
        channel = (direction * bands + band) * spec.levels + lowest
        starts = np.cumsum(count) - count
        units = np.repeat(channel - starts, count) + np.arange(count.sum())
        splits = np.zeros(batch * steps + 1, np.int64)
        np.cumsum(np.bincount(row, count, batch * steps), out=splits[1:])
        return _events(batch, steps, spec.channels, splits, units.astype(np.int32))


def thinned(events: Events, mask: Mask) -> Events:
    """Keep the events with True in ``mask`` [events]."""
    passed = np.concatenate([[0], np.cumsum(mask)])
    splits = passed[events.row_splits.numpy()]
    return _events(events.batch, events.steps, events.channels, splits, events.units.numpy()[mask])


def _events(batch: int, steps: int, channels: int, splits: NDArray[Any], units: NDArray[np.int32]) -> Events:
    return Events(
        batch,
        steps,
        channels,
        torch.from_numpy(splits.astype(np.int64, copy=False)),
        torch.from_numpy(units),
        torch.ones(units.size),
    )
