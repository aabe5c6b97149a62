"""Encodes recordings as batches of spikes, varied in training as speakers, rooms and lines vary them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.encoders.encoder import Encoder, EncoderSpec
from hetsyn_model.events import Events
from hetsyn_model.spec import SpecError
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.datasets.data import Recording
from hetsyn_model.training.encoding.batch_encoder import BatchEncoding, Levels, power_spectrum, thinned

TELEPHONE_HZ = (300.0, 3_400.0)
TELEPHONE_SLOPE_DB = (12.0, 96.0)  # an octave, for each edge: from a cheap filter to a codec's


@dataclass(frozen=True)
class AugmentSpec:
    """The ranges in which recordings are varied; each draw is uniform.

    Attributes:
        speed: largest factor on the playing speed (pitch, formants and tempo at once), both ways, log-uniform.
        tempo: largest factor on the tempo alone.
        level_db: range of the peak level.
        noise_db: range of the level of white or pink noise below the peak.
        tilt_db: largest slope across the bands (microphone and line).
        ripple_db: deviation of a smooth random curve across the bands (microphone and line).
        brighten_db_per_octave: emphasis beyond the encoder's own, so that served sound is duller than that of training.
        lead_steps: most steps of near silence before the word.
        delete: largest probability of a spike's deletion.
        shift_bands: largest shift of a word, in bands.
        mask_bands: widest silenced stripe of bands.
        mask_steps: widest silenced stripe of steps.
        warp: largest factor on the Mel filters' frequencies (vocal tract length).
        bend: standard deviation of that factor's logarithm at four points of the spectrum (vocal tract shape).
        sway: the same for the tempo at four points of the word.
        trim_db: cuts the word's ends that are this far (up to 20 dB more) below its loudest step; 0 cuts nothing.
        dynamics: largest share by which quiet steps become quieter or louder relative to the loudest.
        telephone: share of the recordings that are limited to 300 to 3,400 Hz, noise included, by Butterworth filters
            with random slopes of 12 to 96 dB an octave. 0 draws nothing.
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
    bend: float = 0.0
    sway: float = 0.0
    trim_db: float = 0.0
    dynamics: float = 0.0
    telephone: float = 0.0

    def __post_init__(self) -> None:
        check_factors(self, "speed", "tempo", "warp")
        for name in ("level_db", "noise_db"):
            low, high = getattr(self, name)
            if low > high:
                raise SpecError(f"{name}: {low} is above {high}")
        check_not_negative(
            self,
            *(
                "tilt_db",
                "ripple_db",
                "lead_steps",
                "delete",
                "shift_bands",
                "mask_bands",
                "mask_steps",
                "bend",
                "sway",
            ),
            *("trim_db", "dynamics", "telephone"),
        )


def check_factors(spec: object, *names: str) -> None:
    """Check largest factors: they must be 1 or more."""
    for name in names:
        if getattr(spec, name) < 1:
            raise SpecError(f"{name}: {getattr(spec, name)} is below 1, which changes nothing")


def check_not_negative(spec: object, *names: str) -> None:
    """Check values that must be 0 or more, and probabilities."""
    for name in names:
        value = getattr(spec, name)
        if value < 0 or (name in ("delete", "telephone") and value > 1):
            raise SpecError(f"{name}: {value} is {'below 0' if value < 0 else 'above 1'}")


def encode_batch(encoder: Encoder, recordings: Sequence[Recording], tail_steps: int) -> Batch:
    """Encode recordings as the server does: unchanged, then ``tail_steps`` of silence."""
    hop = encoder.spec.step_samples
    lengths = [-(-recording.audio.size // hop) + tail_steps for recording in recordings]
    audio = np.zeros((len(recordings), max(lengths) * hop))
    for row, recording in zip(audio, recordings, strict=True):
        row[: recording.audio.size] = recording.audio
    spikes, _ = encoder.step(torch.from_numpy(audio), encoder.initial_state(len(recordings)))
    steps = torch.tensor(lengths, dtype=torch.int64)
    return Batch(Events.of(spikes.to(torch.float32)), steps, labels_of(recordings))


def augment_batch(
    encoder: Encoder,
    recordings: Sequence[Recording],
    tail_steps: int,
    augment: AugmentSpec,
    rng: np.random.Generator,
) -> Batch:
    """Vary and encode recordings, with ``tail_steps`` of silence after each."""
    spec = encoder.spec
    levels_db, lengths = augment_levels(spec, recordings, tail_steps, augment, rng)
    events = augment_events(BatchEncoding.of(spec, levels_db), lengths, augment, rng)
    return Batch(events, torch.from_numpy(lengths), labels_of(recordings))


def augment_levels(
    spec: EncoderSpec, recordings: Sequence[Recording], tail_steps: int, augment: AugmentSpec, rng: np.random.Generator
) -> tuple[Levels, NDArray[np.int64]]:
    """Compute band levels [b, longest, bands] in dB of varied recordings, and their lengths in steps."""
    hop, window = spec.step_samples, spec.window_samples
    lines: list[Levels] = []
    ends: list[NDArray[np.int64]] = []
    start = 0
    for recording in recordings:
        audio = _speed(_trimmed(recording.audio, hop, augment, rng), _factor(rng, augment.speed))
        tempo = _factor(rng, augment.tempo)
        lead = int(rng.integers(0, augment.lead_steps + 1)) if rng.random() < 0.7 else 0
        steps = max(1, round(audio.size / hop / tempo))
        line = np.zeros(2 * window + (lead + tail_steps + 2) * hop + audio.size, np.float32)
        line[window + lead * hop :][: audio.size] = audio
        line = _room(line, recording.audio, augment, rng)
        if augment.telephone and rng.random() < augment.telephone:
            line = telephone_line(line, spec.sample_rate_hz, rng.uniform(*TELEPHONE_SLOPE_DB, 2))
        lines.append(line)
        # frames follow the tempo within the word, and the plain hop around it
        pace = np.arange(1, steps + 1) * tempo
        if augment.sway:
            uneven = np.exp(np.interp(np.linspace(0, 3, steps), np.arange(4), rng.normal(0.0, augment.sway, 4)))
            pace = np.cumsum(uneven) * (pace[-1] / uneven.sum())
        word = lead * hop + hop * np.round(pace).astype(np.int64)
        end = np.concatenate([hop * np.arange(1, lead + 1), word, word[-1] + hop * np.arange(1, tail_steps + 1)])
        ends.append(start + np.minimum(end + window, line.size))
        start += line.size
    lengths = np.array([end.size for end in ends], np.int64)
    frames = torch.from_numpy(np.concatenate(lines)).unfold(0, window, 1)
    power = power_spectrum(spec, frames[torch.from_numpy(np.concatenate(ends)) - window])
    energy = power.new_empty(power.shape[0], spec.bands)
    start = 0
    for mel, length in zip(_filters(spec, len(recordings), augment, rng), lengths.tolist(), strict=True):
        torch.mm(power[start : start + length], torch.from_numpy(mel), out=energy[start : start + length])
        start += length
    levels = (10.0 * torch.log10(energy + 10.0 ** (spec.floor_db / 10.0))).numpy()
    emphasis_db = spec.emphasis_db() + augment.brighten_db_per_octave * spec.octaves()
    quiet_db = (spec.floor_db + emphasis_db).astype(np.float32)
    stacked = np.tile(quiet_db, (len(recordings), int(lengths.max()), 1))
    bands, knots = np.linspace(-1.0, 1.0, spec.bands), np.linspace(-1.0, 1.0, 6)
    start = 0
    for row, length in zip(stacked, lengths.tolist(), strict=True):
        colour_db = emphasis_db + rng.uniform(-augment.tilt_db, augment.tilt_db) * bands
        colour_db += np.interp(bands, knots, rng.normal(0.0, augment.ripple_db, knots.size))
        if augment.dynamics:
            loudness_db = levels[start : start + length].max(1, keepdims=True)
            levels[start : start + length] += np.float32(rng.uniform(-augment.dynamics, augment.dynamics)) * (
                loudness_db - loudness_db.max()
            )
        np.maximum(levels[start : start + length] + colour_db.astype(np.float32), quiet_db, out=row[:length])
        start += length
    return stacked, lengths


def augment_events(
    encoding: BatchEncoding, lengths: NDArray[np.int64], augment: AugmentSpec, rng: np.random.Generator
) -> Events:
    """Shift, mask and delete spikes at random, and drop those after a word's last step (``lengths``, int64 [b])."""
    bands, longest = encoding.spec.bands, int(lengths.max())
    low, width = _stripes(bands, augment.mask_bands, lengths.size, rng)
    band = np.arange(bands)
    kept_bands = (band < low[:, None]) | (band >= (low + width)[:, None])
    first, width = _stripes(lengths, augment.mask_steps, lengths.size, rng)
    step = np.arange(longest)
    kept_steps = ((step < first[:, None]) | (step >= (first + width)[:, None])) & (step < lengths[:, None])
    shift = rng.integers(-augment.shift_bands, augment.shift_bands + 1, lengths.size)
    events = encoding.events(kept_bands[:, None] & kept_steps[..., None], shift)
    rate = rng.uniform(0.0, augment.delete, lengths.size).astype(np.float32)
    of_stream = np.diff(events.row_splits.numpy()[::longest])
    return thinned(events, rng.random(events.units.numel(), np.float32) >= np.repeat(rate, of_stream))


def _stripes(
    size: int | NDArray[np.int64], widest: int, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a stripe for each stream: first index and width."""
    width = rng.integers(0, widest + 1, count)
    return rng.integers(0, np.maximum(1, size - width + 1)), width


def labels_of(recordings: Sequence[Recording]) -> Tensor:
    return torch.tensor([recording.label for recording in recordings], dtype=torch.int64)


def _factor(rng: np.random.Generator, largest: float) -> float:
    return float(np.exp(rng.uniform(-np.log(largest), np.log(largest))))


def _speed(audio: NDArray[np.float32], factor: float) -> NDArray[np.float64]:
    position = np.arange(0.0, audio.size - 1, factor)
    return np.asarray(np.interp(position, np.arange(audio.size), audio))


def _room(line: Levels, word: NDArray[np.float32], augment: AugmentSpec, rng: np.random.Generator) -> Levels:
    """Set the peak level and add noise to the whole line, including the silence around the word."""
    peak = max(float(np.abs(word).max()), 1e-4)
    level = 10 ** (rng.uniform(*augment.level_db) / 20)
    noise = _noise()[int(rng.integers(2))]  # white or pink
    if line.size >= noise.size:
        noise = np.resize(noise, line.size + 1)  # repeats
    start = int(rng.integers(noise.size - line.size))
    strength = 10 ** (rng.uniform(*augment.noise_db) / 20)
    heard = np.float32(level / peak) * line + np.float32(level * strength * 0.3) * noise[start : start + line.size]
    return np.clip(heard, -1.0, 1.0)  # as an overdriven microphone


def telephone_line(line: Levels, rate_hz: int, slopes_db: NDArray[np.float64]) -> Levels:
    """Filter samples [n] to a telephone's band; ``slopes_db``: lower and upper edge, in dB an octave."""
    low, high = slopes_db / (10.0 * np.log10(2.0))  # twice the order of a Butterworth filter
    hz = np.maximum(np.fft.rfftfreq(line.size, 1 / rate_hz), 1.0)
    power = 1.0 / ((1.0 + (TELEPHONE_HZ[0] / hz) ** low) * (1.0 + (hz / TELEPHONE_HZ[1]) ** high))
    return np.fft.irfft(np.fft.rfft(line) * np.sqrt(power), line.size).astype(np.float32)


@cache
def _noise() -> tuple[Levels, Levels]:
    """Make a minute of white and of pink noise, of variance 1: a stretch of it costs less than new noise."""
    white = np.random.default_rng(0).normal(size=1 << 19)
    spectrum = np.fft.rfft(white)
    pink = np.fft.irfft(spectrum / np.sqrt(np.arange(spectrum.size) + 1.0), white.size)
    return white.astype(np.float32), (pink / pink.std()).astype(np.float32)


def _trimmed(
    audio: NDArray[np.float32], hop: int, augment: AugmentSpec, rng: np.random.Generator
) -> NDArray[np.float32]:
    if not augment.trim_db:
        return audio
    energy = np.add.reduceat(audio * audio, np.arange(0, audio.size, hop))
    threshold = energy.max() * 10 ** (-rng.uniform(augment.trim_db, augment.trim_db + 20.0) / 10)
    loud = np.flatnonzero(energy >= threshold)
    before, after = rng.integers(0, 3, 2)
    return np.asarray(audio[max(0, int(loud[0] - before) * hop) : int(loud[-1] + 1 + after) * hop])


def _filters(spec: EncoderSpec, count: int, augment: AugmentSpec, rng: np.random.Generator) -> Levels:
    """Make Mel filters of other vocal tracts, [count, bins, bands]."""
    warp = rng.uniform(-np.log(augment.warp), np.log(augment.warp), (count, 1))
    edges = spec.mel_edges_hz()
    position = np.linspace(-1.0, 1.0, edges.size)
    if augment.bend:
        knots = rng.normal(0.0, augment.bend, (count, 4))
        at = np.linspace(-1.0, 1.0, 4)
        warp = warp + np.stack([np.interp(position, at, k) for k in knots])
    return np.asarray(spec.mel_filters(edges * np.exp(warp)), np.float32)
