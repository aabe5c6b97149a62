"""Spoken digits: the Free Spoken Digit Dataset, one speaker left out, through the project's own encoder.

Encoder, variation of the recordings, silence at the end and loss are those that ``hetsyn train speech-digits`` had when
the experiment was made. They stay as they are, so that its results can be compared, while the shipped model's training
moves on. All four neuron models get the same, smaller, training. The seed chooses the speaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor

from experiments.task import Batch, Figure, MissingData, Shape
from hetsyn_model.encoder import Encoder, EncoderSpec
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec, SurrogateSpec
from hetsyn_model.training import augment
from hetsyn_model.training.data import DataError, Recording, read_folder, split_takes
from hetsyn_model.training.loop import TrainSpec, word_loss
from hetsyn_model.training.speech import LABELS, VALIDATION_EVERY, WORDS

ENCODER = EncoderSpec(emphasis_db_per_octave=4.0, contrast=0.5, top_db=-9.0, spacing_db=2.0)
TRAIN = TrainSpec(  # of which only the loss, the silence and the variation count here
    tail_steps=15,
    served_tail_steps=10,
    smoothing=0.05,
    sharpness=10.0,
    augment=augment.AugmentSpec(
        tempo=1.35,
        noise_db=(-60.0, -18.0),
        tilt_db=8.0,
        ripple_db=4.0,
        brighten_db_per_octave=2.0,
        delete=0.05,
        mask_bands=2,
        mask_steps=2,
    ),
)


@dataclass(frozen=True)
class SpeechSpec:
    """hidden: neurons of each layer. augmented: whether training hears varied recordings."""

    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.2
    augmented: bool = True


@cache
def _read(folder: Path) -> tuple[Recording, ...]:
    return tuple(read_folder(folder, LABELS, ENCODER.sample_rate_hz))


@dataclass(frozen=True)
class Speech:
    """The task that leaves out the speaker whose turn the seed is."""

    spec: SpeechSpec = field(default_factory=SpeechSpec)
    folder: Path | None = None
    seed: int = 0
    figure: Figure = "accuracy"
    labels: tuple[str, ...] = WORDS
    description: str = "Ten spoken English digits, 8 kHz audio"
    input_description: str = "Crossings of log Mel band levels: direction (up, down), band, level"
    encoder: EncoderSpec = ENCODER
    tail_steps: int = TRAIN.served_tail_steps

    @property
    def recordings(self) -> tuple[Recording, ...]:
        try:
            if self.folder is None:
                raise DataError("no folder was given")
            return _read(self.folder)
        except DataError as error:
            raise MissingData(
                f"spoken digits: {error}; give --data with the Free Spoken Digit Dataset's recordings "
                "(digit_speaker_take.wav, docs/explanation/training.md)"
            ) from error

    @property
    def left_out(self) -> str:
        speakers = sorted({recording.speaker for recording in self.recordings})
        return speakers[self.seed % len(speakers)]

    @property
    def shape(self) -> Shape:
        return Shape(
            channels=ENCODER.channels,
            hidden=self.spec.hidden,
            outputs=len(LABELS),
            step_s=ENCODER.step_s,
            decision=DecisionSpec("sum_softmax"),
            surrogate=SurrogateSpec("gaussian"),
            tau_reset_steps=10.0,
            tau_spread=0.35,
            tau_normal=False,
            adaptation_tau_steps=100.0,
            adaptation_strength=0.05,
            dropout=self.spec.dropout,
        )

    @property
    def channel_groups(self) -> dict[str, tuple[int, int]]:
        half = ENCODER.channels // 2
        return {"up": (0, half), "down": (half, ENCODER.channels)}

    def _split(self) -> tuple[list[Recording], list[Recording]]:
        return split_takes([r for r in self.recordings if r.speaker != self.left_out], VALIDATION_EVERY)

    # the neuron models of a seed are trained one after the other on the same batches, and each takes longer to encode
    # than to learn
    @lru_cache(maxsize=512)  # noqa: B019 - few tasks, and all live as long as the process
    def training_batch(self, size: int, seed: int, update: int) -> Batch:
        train, _ = self._split()
        per_epoch = max(1, len(train) // size)
        order = np.random.default_rng([seed, 3, update // per_epoch]).permutation(len(train))
        chosen = [train[int(index)] for index in order[update % per_epoch * size :][:size]]
        if not self.spec.augmented:
            return _of(augment.encode_batch(Encoder(ENCODER), chosen, TRAIN.tail_steps))
        rng = np.random.default_rng([seed, 4, update])
        return _of(augment.augment_batch(Encoder(ENCODER), chosen, TRAIN.tail_steps, TRAIN.augment, rng))

    def _encoded(self, recordings: Sequence[Recording]) -> Sequence[Batch]:
        encoder = Encoder(ENCODER)
        return [
            _of(augment.encode_batch(encoder, recordings[start : start + 128], TRAIN.served_tail_steps))
            for start in range(0, len(recordings), 128)
        ]

    def validation(self) -> Sequence[Batch]:
        return self._encoded(self._split()[1])

    def test(self) -> Sequence[Batch]:
        return self._encoded([r for r in self.recordings if r.speaker == self.left_out])

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        return word_loss(
            rolled.scores, augment.Batch(batch.spikes, batch.steps, batch.target), rolled.decision.rule, TRAIN
        )


def _of(encoded: augment.Batch) -> Batch:
    return Batch(encoded.events, encoded.steps, encoded.labels)
