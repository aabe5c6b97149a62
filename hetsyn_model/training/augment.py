"""Recordings to batches of spikes, changed in training the way that speakers, rooms and lines change them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.encoder import Encoder
from hetsyn_model.events import Events
from hetsyn_model.training.data import Recording


@dataclass(frozen=True)
class AugmentSpec:
    """How far a recording is changed; each draw is uniform in its range.

    speed: largest factor on the playing speed (pitch, formants and tempo at once), both ways, log-uniform.
    tempo: the same on the tempo alone. level_db: range of the peak level. noise_db: range of the level of white or
    pink noise below the peak. tilt_db, ripple_db: largest slope across the bands, and deviation of a smooth random
    curve (microphone and line). brighten_db_per_octave: emphasis that training adds to the encoder's own: what a
    network hears later is duller than what it learned. lead_steps: most steps of near-silence before the word.
    delete: largest probability of a spike's deletion. shift_bands: most bands that a word is moved by. mask_bands,
    mask_steps: widest stripes of bands and of steps that are silenced. warp: largest factor on the Mel filters'
    frequencies (vocal tract length).
    """

    speed: float = 1.15
    tempo: float = 1.25
    level_db: tuple[float, float] = (-36.0, -1.0)
    noise_db: tuple[float, float] = (-60.0, -12.0)
    tilt_db: float = 6.0
    ripple_db: float = 3.0
    brighten_db_per_octave: float = 0.0
    lead_steps: int = 12
    delete: float = 0.1
    shift_bands: int = 1
    mask_bands: int = 4
    mask_steps: int = 4
    warp: float = 1.12


@dataclass(frozen=True)
class Batch:
    """events of [batch, longest, channels]; steps and labels int64 [batch]."""

    events: Events
    steps: Tensor
    labels: Tensor


def encode_batch(encoder: Encoder, recordings: Sequence[Recording], tail_steps: int) -> Batch:
    """Recordings as the server would hear them: as they are, then ``tail_steps`` of silence."""
    hop = encoder.spec.step_samples
    lengths = [-(-recording.audio.size // hop) + tail_steps for recording in recordings]
    audio = np.zeros((len(recordings), max(lengths) * hop))
    for row, recording in zip(audio, recordings, strict=True):
        row[: recording.audio.size] = recording.audio
    spikes, _ = encoder.step(torch.from_numpy(audio), encoder.initial_state(len(recordings)))
    return _batch(spikes, lengths, recordings)


def augment_batch(
    encoder: Encoder, recordings: Sequence[Recording], tail_steps: int, augment: AugmentSpec, rng: np.random.Generator
) -> Batch:
    """The same, each recording changed at random."""
    spec = encoder.spec
    hop, window = spec.step_samples, spec.window_samples
    frames: list[NDArray[np.float64]] = []
    for recording in recordings:
        audio = _speed(recording.audio, _factor(rng, augment.speed))
        tempo = _factor(rng, augment.tempo)
        lead = int(rng.integers(0, augment.lead_steps + 1)) if rng.random() < 0.7 else 0
        steps = max(1, round(audio.size / hop / tempo))
        padded = np.concatenate([np.zeros(window + lead * hop), audio, np.zeros(window + (tail_steps + 2) * hop)])
        padded = _room(padded, audio, augment, rng)
        # frames follow the tempo while the word lasts, and the plain hop around it
        word = lead * hop + hop * np.round(np.arange(1, steps + 1) * tempo).astype(int)
        ends = np.concatenate([hop * np.arange(1, lead + 1), word, word[-1] + hop * np.arange(1, tail_steps + 1)])
        ends = np.minimum(ends + window, padded.size)
        frames.append(padded[ends[:, None] - window + np.arange(window)])
    lengths = [len(frame) for frame in frames]
    mel = torch.from_numpy(spec.mel_matrix(_factor(rng, augment.warp)))
    levels = encoder.levels_db(torch.from_numpy(np.concatenate(frames)), mel).numpy()
    brighter_db = augment.brighten_db_per_octave * spec.octaves()
    quiet_db = spec.floor_db + spec.emphasis_db() + brighter_db
    stacked = np.tile(quiet_db, (len(recordings), max(lengths), 1))
    start = 0
    bands = np.linspace(-1.0, 1.0, spec.bands)
    for index, length in enumerate(lengths):
        line = brighter_db + rng.uniform(-augment.tilt_db, augment.tilt_db) * bands
        knots = rng.normal(0.0, augment.ripple_db, 6)
        line += np.interp(bands, np.linspace(-1, 1, 6), knots)
        stacked[index, :length] = np.maximum(levels[start : start + length] + line, quiet_db)
        start += length
    state = encoder.initial_state(len(recordings))
    spikes, _, _ = encoder.crossings(torch.from_numpy(stacked), state.gain_db, state.level_db)
    return _batch(_corrupt(spikes, encoder, augment, rng), lengths, recordings)


def _corrupt(spikes: Tensor, encoder: Encoder, augment: AugmentSpec, rng: np.random.Generator) -> Tensor:
    """Shift, mask and delete spikes; uint8 [b, steps, channels]."""
    spec = encoder.spec
    batch, steps, _ = spikes.shape
    cells = spikes.view(batch, steps, 2, spec.bands, spec.levels).numpy().copy()
    for cell in cells:
        shift = int(rng.integers(-augment.shift_bands, augment.shift_bands + 1))
        if shift:
            cell[:] = np.roll(cell, shift, axis=2)
            cell[:, :, slice(0, shift) if shift > 0 else slice(shift, None)] = 0
        width = int(rng.integers(0, augment.mask_bands + 1))
        low = int(rng.integers(0, spec.bands - width + 1))
        cell[:, :, low : low + width] = 0
        width = int(rng.integers(0, augment.mask_steps + 1))
        first = int(rng.integers(0, max(1, steps - width)))
        cell[first : first + width] = 0
        rate = rng.uniform(0.0, augment.delete)
        places = np.flatnonzero(cell)
        cell.reshape(-1)[places[rng.random(places.size) < rate]] = 0
    return torch.from_numpy(cells).view(batch, steps, -1)


def _batch(spikes: Tensor, lengths: Sequence[int], recordings: Sequence[Recording]) -> Batch:
    steps = torch.tensor(lengths, dtype=torch.int64)
    labels = torch.tensor([recording.label for recording in recordings], dtype=torch.int64)
    return Batch(Events.of(spikes.to(torch.float32)), steps, labels)


def _factor(rng: np.random.Generator, largest: float) -> float:
    return float(np.exp(rng.uniform(-np.log(largest), np.log(largest))))


def _speed(audio: NDArray[np.float32], factor: float) -> NDArray[np.float64]:
    places = np.arange(0.0, audio.size - 1, factor)
    return np.asarray(np.interp(places, np.arange(audio.size), audio))


def _room(
    padded: NDArray[np.float64], audio: NDArray[np.float64], augment: AugmentSpec, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Peak level and noise of the whole line, silence before and after the word included."""
    peak = max(float(np.abs(audio).max()), 1e-4)
    level = 10 ** (rng.uniform(*augment.level_db) / 20)
    noise = rng.normal(size=padded.size)
    if rng.random() < 0.5:  # pink
        spectrum = np.fft.rfft(noise)
        spectrum /= np.sqrt(np.arange(spectrum.size) + 1.0)
        noise = np.fft.irfft(spectrum, padded.size)
        noise /= noise.std() + 1e-12
    strength = 10 ** (rng.uniform(*augment.noise_db) / 20)
    return np.asarray(level * (padded / peak + strength * 0.3 * noise))
