"""Spoken digits: the Free Spoken Digit Dataset, one speaker left out, through the project's own encoder.

The encoder is that of the shipped speech model (``hetsyn train --config speech-digits``). The results that are kept
depend on it, and on the variation, the silence and the loss below. All four neuron models get the same training,
shorter than that of the shipped model. The seed chooses the speaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor

from hetsyn_model.encoder import Encoder, EncoderSpec
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec, SurrogateSpec
from hetsyn_model.training.augment import AugmentSpec, augment_batch, encode_batch
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.config import load_config
from hetsyn_model.training.data import DataError, Recording, read_folder, split_takes
from hetsyn_model.training.loss import score_loss
from research.tasks.task import Figure, MissingData, Shape, epoch_indices

_SHIPPED = load_config("speech-digits")
ENCODER = _SHIPPED.encoder.audio
LABELS, WORDS = tuple(_SHIPPED.names), tuple(_SHIPPED.names.values())
VALIDATION_EVERY = _SHIPPED.split.every  # of each speaker and digit, takes 0, 10, 20, … choose the update
# how rooms, lines and tempo vary a recording
ROOM_AND_LINE = AugmentSpec(
    tempo=1.35,
    noise_db=(-60.0, -18.0),
    tilt_db=8.0,
    ripple_db=4.0,
    brighten_db_per_octave=2.0,
    delete=0.05,
    mask_bands=2,
    mask_steps=2,
)
TAIL_STEPS, SERVED_TAIL_STEPS = 15, 10  # of silence after a word, in training and afterwards
SMOOTHING, SHARPNESS = 0.05, 10.0  # of the loss


@dataclass(frozen=True)
class SpeechSpec:
    """The network, and how recordings are used.

    Attributes:
        hidden: neurons of each layer.
        dropout: of spikes between layers, in training.
        augmented: whether recordings are varied in training.
    """

    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.2
    augmented: bool = True


@cache
def _read(folder: Path) -> tuple[Recording, ...]:
    return tuple(read_folder(folder, LABELS, ENCODER.sample_rate_hz))


@dataclass(frozen=True)
class Speech:
    """The task that leaves out the speaker whose turn the seed is.

    Attributes:
        spec: network and variation.
        folder: of the recordings; None if there is none.
        seed: chooses the speaker.
        figure: see :class:`research.tasks.task.Task`, as the following.
        labels: of the classes.
        description: for the artifact.
        input_description: for the artifact.
        encoder: of the audio.
        tail_steps: steps of silence that end a stream.
    """

    spec: SpeechSpec = field(default_factory=SpeechSpec)
    folder: Path | None = None
    seed: int = 0
    figure: Figure = "accuracy"
    labels: tuple[str, ...] = WORDS
    description: str = _SHIPPED.description
    input_description: str = "Crossings of log Mel band levels: direction (up, down), band, level"
    encoder: EncoderSpec = ENCODER
    tail_steps: int = SERVED_TAIL_STEPS

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """All recordings of the folder.

        Raises:
            MissingData: there is no folder, or it cannot be used.
        """
        try:
            if self.folder is None:
                raise DataError("no folder of recordings")
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
        chosen = [train[int(index)] for index in epoch_indices(len(train), size, seed, update)]
        if not self.spec.augmented:
            return encode_batch(Encoder(ENCODER), chosen, TAIL_STEPS)
        rng = np.random.default_rng([seed, 4, update])
        return augment_batch(Encoder(ENCODER), chosen, TAIL_STEPS, ROOM_AND_LINE, rng)

    def _encoded(self, recordings: Sequence[Recording]) -> Sequence[Batch]:
        encoder = Encoder(ENCODER)
        return [
            encode_batch(encoder, recordings[start : start + 128], SERVED_TAIL_STEPS)
            for start in range(0, len(recordings), 128)
        ]

    def validation(self) -> Sequence[Batch]:
        return self._encoded(self._split()[1])

    def test(self) -> Sequence[Batch]:
        return self._encoded([r for r in self.recordings if r.speaker == self.left_out])

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        return score_loss(rolled, batch.target, sharpness=SHARPNESS, smoothing=SMOOTHING)
