"""Encodes examples as batches of spikes, as the server does or varied for training: one class a kind of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from hetsyn_model.encoders.encoder import Encoder, EncoderSpec
from hetsyn_model.encoders.level_crossing import AnyEncoderSpec, LevelCrossing, LevelCrossingSpec
from hetsyn_model.events import Events
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.datasets.data import Recording, collate
from hetsyn_model.training.datasets.examples import Series, SpikeStream, T_contra
from hetsyn_model.training.encoding.augment import (
    AugmentSpec,
    augment_batch,
    check_factors,
    check_not_negative,
    encode_batch,
)


@dataclass(frozen=True)
class SpikesAugmentSpec:
    """The ranges in which streams of spikes are varied; each draw is uniform.

    Attributes:
        delete: largest probability of a spike's deletion.
        lead_steps: most empty steps before the stream.
        shift_channels: largest shift of a whole stream, for channels in an order, as a cochlea's.
    """

    delete: float = 0.1
    lead_steps: int = 0
    shift_channels: int = 0

    def __post_init__(self) -> None:
        check_not_negative(self, "delete", "lead_steps", "shift_channels")


@dataclass(frozen=True)
class ValuesAugmentSpec:
    """The ranges in which series are varied before their encoding. A unit is half of a channel's usual range.

    Attributes:
        noise: standard deviation of noise on each value, in units.
        gain: largest factor on the distance from the middle of the range, both ways, log-uniform.
        shift: largest offset of a channel, in units.
        tempo: largest factor on the tempo, both ways, log-uniform.
        delete: largest probability of a spike's deletion.
    """

    noise: float = 0.02
    gain: float = 1.1
    shift: float = 0.05
    tempo: float = 1.1
    delete: float = 0.05

    def __post_init__(self) -> None:
        check_factors(self, "gain", "tempo")
        check_not_negative(self, "noise", "shift", "delete")


class Front(Protocol[T_contra]):
    """The encoder of a kind of data.

    Attributes:
        spec: the encoder's description; None if the data are spikes.
    """

    spec: AnyEncoderSpec | None
    channels: int
    step_s: float

    def encode(self, items: Sequence[T_contra], tail_steps: int) -> Batch:
        """Encode examples as the server does, then ``tail_steps`` of silence."""
        ...

    def vary(self, items: Sequence[T_contra], tail_steps: int, rng: np.random.Generator) -> Batch:
        """Vary and encode examples, then ``tail_steps`` of silence."""
        ...


class AudioFront:
    """Encodes recordings with the audio encoder."""

    def __init__(self, spec: EncoderSpec, augment: AugmentSpec) -> None:
        self.spec: AnyEncoderSpec | None = spec
        self.channels, self.step_s = spec.channels, spec.step_s
        self._encoder, self._augment = Encoder(spec), augment

    def encode(self, items: Sequence[Recording], tail_steps: int) -> Batch:
        return encode_batch(self._encoder, items, tail_steps)

    def vary(self, items: Sequence[Recording], tail_steps: int, rng: np.random.Generator) -> Batch:
        return augment_batch(self._encoder, items, tail_steps, self._augment, rng)


class SpikesFront:
    """Passes streams of spikes on."""

    def __init__(self, channels: int, step_s: float, augment: SpikesAugmentSpec) -> None:
        self.spec: AnyEncoderSpec | None = None
        self.channels, self.step_s, self._augment = channels, step_s, augment

    def encode(self, items: Sequence[SpikeStream], tail_steps: int) -> Batch:
        lengths = np.array([item.length for item in items], np.int64) + tail_steps
        return _batch(items, collate(items, self.channels, int(lengths.max())), lengths)

    def vary(self, items: Sequence[SpikeStream], tail_steps: int, rng: np.random.Generator) -> Batch:
        how, varied = self._augment, []
        for item in items:
            lead = int(rng.integers(0, how.lead_steps + 1))
            units = item.units + int(rng.integers(-how.shift_channels, how.shift_channels + 1))
            kept = rng.random(units.size) >= rng.uniform(0.0, how.delete)
            kept &= (units >= 0) & (units < self.channels)
            varied.append(SpikeStream(item.steps[kept] + lead, units[kept], item.length + lead, item.label, item.group))
        return self.encode(varied, tail_steps)


class ValuesFront:
    """Encodes series with the level-crossing encoder."""

    def __init__(self, spec: LevelCrossingSpec, augment: ValuesAugmentSpec) -> None:
        self.spec: AnyEncoderSpec | None = spec
        self.channels, self.step_s = spec.channels, spec.step_s
        self._encoder, self._augment = LevelCrossing(spec), augment
        self._offset, scale = np.array(spec.offset), np.array(spec.scale)
        self._unit = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)

    def encode(self, items: Sequence[Series], tail_steps: int) -> Batch:
        return self._encode(items, [item.values for item in items], tail_steps, None)

    def vary(self, items: Sequence[Series], tail_steps: int, rng: np.random.Generator) -> Batch:
        return self._encode(items, [self._changed(item.values, rng) for item in items], tail_steps, rng)

    def _encode(
        self,
        items: Sequence[Series],
        values: Sequence[NDArray[np.float32]],
        tail_steps: int,
        rng: np.random.Generator | None,
    ) -> Batch:
        lengths = np.array([len(rows) for rows in values], np.int64)
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(rows) for rows in values], batch_first=True)
        spikes, _ = self._encoder.step(padded, self._encoder.initial_state(len(values)))
        inside = torch.arange(spikes.shape[1]) < torch.from_numpy(lengths).unsqueeze(-1)
        spikes = spikes * inside.unsqueeze(-1)
        if rng is not None and self._augment.delete:
            rate = rng.uniform(0.0, self._augment.delete, (len(values), 1, 1)).astype(np.float32)
            spikes = spikes * torch.from_numpy(rng.random(tuple(spikes.shape), np.float32) >= rate)
        spikes = torch.nn.functional.pad(spikes, (0, 0, 0, tail_steps))
        return _batch(items, Events.of(spikes.to(torch.float32)), lengths + tail_steps)

    def _changed(self, values: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        how, channels = self._augment, values.shape[1]
        tempo = float(np.exp(rng.uniform(-np.log(how.tempo), np.log(how.tempo))))
        at = np.linspace(0, len(values) - 1, max(1, round(len(values) / tempo)))
        before = np.floor(at).astype(np.int64)
        after, part = np.minimum(before + 1, len(values) - 1), (at - before)[:, None]
        moved = (1.0 - part) * values[before] + part * values[after]
        gain = np.exp(rng.uniform(-np.log(how.gain), np.log(how.gain)))
        shift = rng.uniform(-how.shift, how.shift, channels) * self._unit
        noise = rng.normal(0.0, how.noise, moved.shape) * self._unit
        return np.asarray(self._offset + (moved - self._offset) * gain + shift + noise, np.float32)


def _batch(items: Sequence[SpikeStream] | Sequence[Series], events: Events, lengths: NDArray[np.int64]) -> Batch:
    target = torch.tensor([item.label for item in items], dtype=torch.int64)
    return Batch(events, torch.from_numpy(lengths), target)
