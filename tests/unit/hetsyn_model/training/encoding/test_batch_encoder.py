"""The training's own way to the spikes gives the encoder's."""

from __future__ import annotations

import numpy as np
import torch

from hetsyn_model.encoders.encoder import Encoder, EncoderSpec
from hetsyn_model.events import Events
from hetsyn_model.training.encoding.batch_encoder import BatchEncoding, power_spectrum, thinned

SPEC = EncoderSpec(bands=12, levels=6, contrast=0.5, top_db=-3.0, release_db_per_s=200.0)


def levels_db(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(0.0, 4.0, (3, 25, SPEC.bands)), 1).astype(np.float32) - 40.0


def encoded(levels: np.ndarray) -> torch.Tensor:
    encoder = Encoder(SPEC)
    state = encoder.initial_state(len(levels))
    return encoder.crossings(torch.from_numpy(levels).double(), state.gain_db, state.level_db)[0]


def test_events_are_those_of_the_encoder() -> None:
    levels = levels_db()
    expected, events = Events.of(encoded(levels).float()), BatchEncoding.of(SPEC, levels).events()
    assert expected.units.numel() > 500
    assert torch.equal(events.row_splits, expected.row_splits)
    assert torch.equal(events.dense(), expected.dense())


def test_masked_cells_are_silent_and_a_shift_moves_bands() -> None:
    levels = levels_db(1)
    mask = np.random.default_rng(2).random(levels.shape) < 0.7
    events = BatchEncoding.of(SPEC, levels).events(mask, np.array([0, 2, -1]))
    cells = encoded(levels).view(3, 25, 2, SPEC.bands, SPEC.levels) * torch.from_numpy(mask)[:, :, None, :, None]
    expected = torch.zeros_like(cells)
    expected[0] = cells[0]
    expected[1, :, :, 2:] = cells[1, :, :, :-2]
    expected[2, :, :, :-1] = cells[2, :, :, 1:]
    assert torch.equal(events.dense(), expected.view(3, 25, -1).float())


def test_thinned_keeps_the_chosen_events_in_their_rows() -> None:
    events = BatchEncoding.of(SPEC, levels_db(3)).events()
    mask = np.arange(events.units.numel()) % 3 == 0
    fewer = thinned(events, mask)
    assert torch.equal(fewer.units, events.units[::3])
    assert torch.equal(fewer.dense(), events.dense() * fewer.dense())


def test_power_spectrum_is_the_encoders() -> None:
    frames = torch.from_numpy(np.random.default_rng(4).normal(size=(5, SPEC.window_samples)))
    expected = (frames @ torch.from_numpy(SPEC.spectrum_matrix())).square()
    bins = expected.shape[1] // 2
    power = power_spectrum(SPEC, frames.float())
    assert torch.allclose(power.double(), expected[:, :bins] + expected[:, bins:], rtol=1e-4, atol=1e-7)
