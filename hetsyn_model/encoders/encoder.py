"""Encodes audio as spikes: causal, streaming, with the same spikes however the audio is cut.

Every ``step_samples`` samples the latest ``window_samples`` make one frame:

    energy_m(t)  = sum_f mel_fm |DFT(window * frame)|_f^2      Mel bands m
    level_m(t)   = 10 log10(energy_m(t) + floor) + emphasis_m  dB
    gain(t)      = max(gain(t-1) - release, max_m level_m(t), quietest)
    y_m(t)       = level_m(t) - (1 - c) gain(t) - c around_m(t)
    up_ml(t)     = y_m(t) >  theta_l and y_m(t-1) <= theta_l   one channel a band, level and direction
    down_ml(t)   = y_m(t) <= theta_l and y_m(t-1) >  theta_l

``around`` is the level's smooth mean over neighbouring bands, so that a contrast c above 0 brings out
formants and removes part of a microphone's colour, without memory. The scheme resembles Guetig and Sompolinsky's, which
arXiv 2508.11644 uses for TiDigits and Ti46 (appendix E): threshold crossings of log Mel bands. All is float64: a
crossing is a comparison, and the rounding of float32, which differs between runtimes, would move some.

Channels are ordered direction (up, down), band, level. Index letters: b stream, t step, m band, l level.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hetsyn_model.spec import SpecError
from hetsyn_model.spec.errors import ModelError

EMPHASIS_FROM_HZ = 300.0
Float64Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class EncoderSpec:
    """The encoder's settings.

    Attributes:
        window_samples: samples of a frame, the latest step's included.
        low_hz, high_hz: edges of the Mel bank.
        levels: thresholds of a band, below the gain.
        spacing_db: distance of neighbouring thresholds.
        top_db: the highest threshold is at -top_db.
        floor_db: energy added to every band (dB of full scale) so that silence has a level.
        quietest_db: the gain's initial and lowest value, in dB of full scale.
        release_db_per_s: fall of the gain after a loud sound.
        emphasis_db_per_octave: fixed rise of the bands above EMPHASIS_FROM_HZ, against the fall of voices.
        contrast: share c of the normalisation that comes from neighbouring bands instead of the gain.
        contrast_bands: standard deviation of the neighbourhood, in bands.
    """

    sample_rate_hz: int = 8000
    step_samples: int = 80
    window_samples: int = 200
    bands: int = 32
    low_hz: float = 100.0
    high_hz: float = 3800.0
    levels: int = 15
    spacing_db: float = 3.0
    top_db: float = 1.5
    floor_db: float = -90.0
    quietest_db: float = -60.0
    release_db_per_s: float = 20.0
    emphasis_db_per_octave: float = 0.0
    contrast: float = 0.0
    contrast_bands: float = 5.0

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "step_samples", "bands", "levels"):
            if getattr(self, name) < 1:
                raise SpecError(f"encoder.{name}: {getattr(self, name)} is below 1")
        for name in ("spacing_db", "contrast_bands"):
            if not getattr(self, name) > 0:
                raise SpecError(f"encoder.{name}: {getattr(self, name)} is not above 0")
        if self.window_samples < self.step_samples:
            raise SpecError(
                f"encoder.window_samples: {self.window_samples} is shorter than a step, {self.step_samples}"
            )
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate_hz / 2:
            raise SpecError(
                f"encoder.low_hz, high_hz: {self.low_hz}-{self.high_hz} is not within 0-{self.sample_rate_hz / 2}"
            )

    @property
    def channels(self) -> int:
        return 2 * self.bands * self.levels

    @property
    def step_s(self) -> float:
        return self.step_samples / self.sample_rate_hz

    @property
    def history_samples(self) -> int:
        """Count the samples of earlier steps in a frame."""
        return self.window_samples - self.step_samples

    @property
    def release_db(self) -> float:
        return self.release_db_per_s * self.step_s

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def thresholds_db(self) -> Float64Array:
        """Return the thresholds [levels], from the highest down."""
        return -(self.top_db + self.spacing_db * np.arange(self.levels, dtype=np.float64))

    @property
    def spectrum_samples(self) -> int:
        """Return the length of the DFT: a frame and zeros after it."""
        return 1 << math.ceil(math.log2(self.window_samples))

    def window(self) -> Float64Array:
        """Return a Hann window, [window_samples]."""
        n = np.arange(self.window_samples)
        return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * (n + 0.5) / self.window_samples))

    def spectrum_matrix(self) -> Float64Array:
        """Make the windowed DFT, [window_samples, 2 * bins]: real parts, then imaginary parts."""
        size, window = self.spectrum_samples, self.window()
        n, f = np.arange(self.window_samples), np.arange(size // 2 + 1)
        angle = 2 * np.pi * np.outer(n, f) / size
        # a full-scale sine in the middle of a bin has energy 1/2
        scale = math.sqrt(2.0) / window.sum()
        matrix: Float64Array = np.concatenate([np.cos(angle), -np.sin(angle)], 1) * window[:, None] * scale
        return matrix

    def mel_matrix(self) -> Float64Array:
        """Compute triangular Mel filters, [2 * bins, bands], once for each half of the spectrum."""
        bank = self.mel_filters(self.mel_edges_hz())
        return np.concatenate([bank, bank])

    def mel_edges_hz(self) -> Float64Array:
        """Return the frequencies where each filter starts, peaks and ends, [bands + 2], ascending."""
        mel = np.linspace(_mel(self.low_hz), _mel(self.high_hz), self.bands + 2)
        return np.asarray(700.0 * (10 ** (mel / 2595.0) - 1.0))

    def mel_filters(self, edges_hz: Float64Array) -> Float64Array:
        """Make triangular filters between edges [..., bands + 2], as [..., bins, bands]."""
        f = np.arange(self.spectrum_samples // 2 + 1) * self.sample_rate_hz / self.spectrum_samples
        mel = np.linspace(_mel(self.low_hz), _mel(self.high_hz), self.bands + 2)
        edges = np.minimum(edges_hz, self.sample_rate_hz / 2 * (1 + mel * 1e-9))[..., None, :]
        width = np.maximum(np.diff(edges), 1e-3)
        rising = (f[:, None] - edges[..., :-2]) / width[..., :-1]
        falling = (edges[..., 2:] - f[:, None]) / width[..., 1:]
        bank = np.maximum(0.0, np.minimum(rising, falling))
        narrow = bank.sum(-2, keepdims=True) < 1.0  # a filter narrower than a bin takes the bins around its centre
        distance = np.abs(f[:, None] - edges[..., 1:-1])
        nearest = distance == distance.min(-2, keepdims=True)
        return np.asarray(np.where(narrow & nearest, 1.0, bank))

    def emphasis_db(self) -> Float64Array:
        """Return the dB that are added to each band's level, [bands]."""
        return np.asarray(self.emphasis_db_per_octave * self.octaves())

    def octaves(self) -> Float64Array:
        """Return the octaves of each band's centre above EMPHASIS_FROM_HZ, at least 0, [bands]."""
        mel = np.linspace(_mel(self.low_hz), _mel(self.high_hz), self.bands + 2)[1:-1]
        centre_hz = 700.0 * (10 ** (mel / 2595.0) - 1.0)
        return np.asarray(np.log2(np.maximum(centre_hz / EMPHASIS_FROM_HZ, 1.0)))

    def contrast_matrix(self) -> Float64Array:
        """Make the matrix [bands, bands]: ``levels @ matrix`` is the level less a share of its neighbourhood's mean."""
        band = np.arange(self.bands)
        near = np.exp(-0.5 * ((band[:, None] - band) / self.contrast_bands) ** 2)
        return np.asarray(np.eye(self.bands) - self.contrast * near / near.sum(0))


def _mel(hz: float) -> float:
    return 2595.0 * math.log10(1.0 + hz / 700.0)


@dataclass(frozen=True)
class EncoderState:
    """The encoder's state between two calls, all float64.

    Attributes:
        history: [b, history_samples], latest samples, in [-1, 1].
        gain_db: [b], gain(t).
        level_db: [b, bands], y(t).
    """

    history: Tensor
    gain_db: Tensor
    level_db: Tensor


class Encoder:
    """The encoder, in torch; the exported graph computes the same (``export/graphs/encoder_graph.py``)."""

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec
        self._spectrum = torch.from_numpy(spec.spectrum_matrix())
        self._mel = torch.from_numpy(spec.mel_matrix())
        self._emphasis = torch.from_numpy(spec.emphasis_db())
        self._contrast = torch.from_numpy(spec.contrast_matrix())
        self._thresholds = torch.from_numpy(spec.thresholds_db())

    def initial_state(self, batch: int) -> EncoderState:
        """Return the state before any sound: silence."""
        return EncoderState(
            torch.zeros(batch, self.spec.history_samples, dtype=torch.float64),
            torch.full((batch,), self.spec.quietest_db, dtype=torch.float64),
            torch.full((batch, self.spec.bands), SILENCE_DB, dtype=torch.float64),
        )

    def step(self, audio: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """Encode whole steps of audio to spikes, uint8 [b, steps, channels]. Returns these, and the state after them.

        Args:
            audio: [b, steps * step_samples] in [-1, 1].

        Raises:
            ModelError: the audio is not a whole number of steps.
        """
        if audio.shape[1] % self.spec.step_samples:
            raise ModelError(f"{audio.shape[1]} samples are not a whole number of steps of {self.spec.step_samples}")
        if not audio.shape[1]:
            return torch.zeros(audio.shape[0], 0, self.spec.channels, dtype=torch.uint8), state
        samples = torch.cat([state.history, audio.to(torch.float64)], 1)
        levels = self.levels_db(samples.unfold(1, self.spec.window_samples, self.spec.step_samples))
        spikes, gain, last = self.crossings(levels, state.gain_db, state.level_db)
        history = samples[:, samples.shape[1] - self.spec.history_samples :]
        return spikes, EncoderState(history, gain, last)

    def levels_db(self, frames: Tensor) -> Tensor:
        """Compute level_m(t) in dB of full scale, [..., bands], of frames, float64 [..., window_samples]."""
        energy = (frames @ self._spectrum).square() @ self._mel
        return 10.0 * torch.log10(energy + 10.0 ** (self.spec.floor_db / 10.0)) + self._emphasis

    def crossings(self, levels_db: Tensor, gain_db: Tensor, last_db: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute up_ml(t) and down_ml(t), uint8 [b, steps, channels], and gain and y after the last step.

        Args:
            levels_db: [b, steps, bands], level_m(t).
            gain_db: [b], gain before the first step.
            last_db: [b, bands], y before the first step.
        """
        batch, steps, _ = levels_db.shape
        loudest = levels_db.amax(-1)
        shaped = levels_db @ self._contrast
        share = 1.0 - self.spec.contrast
        normalised = []
        for t in range(steps):
            gain_db = torch.maximum(gain_db - self.spec.release_db, loudest[:, t].clamp_min(self.spec.quietest_db))
            normalised.append(shaped[:, t] - share * gain_db.unsqueeze(-1))
        y = torch.stack(normalised, 1)
        above = y.unsqueeze(-1) > self._thresholds
        before = torch.cat([last_db.unsqueeze(1), y[:, :-1]], 1).unsqueeze(-1) > self._thresholds
        spikes = torch.stack([above & ~before, ~above & before], 2)
        return spikes.reshape(batch, steps, -1).to(torch.uint8), gain_db, y[:, -1]


SILENCE_DB = -200.0  # a level that no threshold lies below
