"""The Spiking Heidelberg Digits, German and English, as 700 channels of spikes, with the paper's settings.

The seed chooses speakers of the training file, who are left out and choose the update; the test file judges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.examples import SpikeStream
from hetsyn_model.training.encoding.front import SpikesAugmentSpec, SpikesFront
from hetsyn_model.training.loss import score_loss
from research.tasks.shd_file import KEYS, SHD_BIN_S, SHD_CHANNELS, SHD_STEPS, TEST_FILE, TRAIN_FILE, read_shd
from research.tasks.task import LATER, Figure, MissingData, Shape, epoch_indices

FRONT = SpikesFront(SHD_CHANNELS, SHD_BIN_S, SpikesAugmentSpec())
VALIDATION_TURNS = 6  # every sixth speaker validates, another sixth with the next seed
# the shipped ``shd-words`` is of a ``synthesised`` set, which commit cb8245b2 makes; nothing here reads it
ShdSource = Literal["recorded", "drawn", "synthesised"]


@dataclass(frozen=True)
class ShdSpec:
    """The data set and the network.

    Attributes:
        data_set: SHD's files; or ``drawn`` for --smoke: it needs no files, and its figures mean nothing.
        hidden: neurons of each hidden layer.
        dropout: share of the spikes between layers that training drops.
        bins_a_step: always 1; kept results name it.
        whole_file: whether the network is trained on all speakers of the training file; every tenth recording of these
            then "validates", so it must not choose the update.
    """

    data_set: ShdSource = "recorded"
    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.2
    bins_a_step: Literal[1] = 1
    whole_file: bool = field(default=False, metadata=LATER)


@cache
def _read(path: Path) -> tuple[SpikeStream, ...]:
    return tuple(read_shd(path))


@cache
def drawn(name: str) -> tuple[SpikeStream, ...]:
    """Draw spikes at random, more of them in the channels of the class; four speakers, two of them the test's."""
    rng = np.random.default_rng([1, name == TEST_FILE])
    recordings = []
    for speaker in "23" if name == TEST_FILE else "01":
        for label in range(len(KEYS)):
            units = np.concatenate([rng.integers(0, SHD_CHANNELS, 100), 35 * label + rng.integers(0, 35, 100)])
            steps = rng.integers(0, SHD_STEPS, units.size)
            recordings.append(SpikeStream.of(steps, units, SHD_STEPS, label, speaker))
    return tuple(recordings)


@dataclass(frozen=True)
class Shd:
    """The task. The seed chooses the validation speakers; ``folder`` has the two files."""

    spec: ShdSpec = field(default_factory=ShdSpec)
    folder: Path | None = None
    seed: int = 0
    figure: Figure = "accuracy"
    labels: tuple[str, ...] = KEYS
    encoder: None = None

    @property
    def description(self) -> str:
        what = "SHD" if self.spec.data_set == "recorded" else "spikes at random"
        return f"Twenty spoken digits, German and English: {what}"

    @property
    def input_description(self) -> str:
        return "700 channels, SHD's cochlea: 700 - unit of SHD's form; 4 ms a step"

    def read(self, name: str) -> tuple[SpikeStream, ...]:
        """Read the recordings of one of the two files.

        Raises:
            MissingData: it is not there, or is no such file.
        """
        if self.spec.data_set == "drawn":
            return drawn(name)
        made = "https://zenkelab.org has them"
        if self.folder is None:
            raise MissingData(f"spoken digits in spikes: give --data with {TRAIN_FILE} and {TEST_FILE}; {made}")
        path = self.folder / name
        if not path.exists():
            raise MissingData(f"spoken digits in spikes: there is no file {path}; {made}")
        try:
            return _read(path)
        except DataError as error:
            raise MissingData(f"spoken digits in spikes: {error}") from error

    @property
    def shape(self) -> Shape:
        return Shape(
            channels=SHD_CHANNELS,
            hidden=self.spec.hidden,
            outputs=len(KEYS),
            step_s=SHD_BIN_S,
            decision=DecisionSpec("sum_softmax", skip_steps=11),
            tau_reset_steps=20.0,
            tau_spread=0.6 / math.sqrt(3.0),  # U(0.4, 1.6) times the mean
            dropout=self.spec.dropout,
            fixed_reset=True,
            weights="fan-in",
        )

    @property
    def channel_groups(self) -> dict[str, tuple[int, int]]:
        return {"channels": (0, SHD_CHANNELS)}

    def split(self) -> tuple[list[SpikeStream], list[SpikeStream]]:
        """Divide the training file into training and validation recordings."""
        recordings = self.read(TRAIN_FILE)
        if self.spec.whole_file:
            return list(recordings), list(recordings[::10])
        speakers = sorted({recording.group for recording in recordings}, key=int)
        turns = min(VALIDATION_TURNS, len(speakers))
        chosen = speakers[self.seed % turns :: turns]
        return (
            [recording for recording in recordings if recording.group not in chosen],
            [recording for recording in recordings if recording.group in chosen],
        )

    def training_batch(self, size: int, seed: int, update: int) -> Batch:
        train, _ = self.split()
        return FRONT.encode([train[int(index)] for index in epoch_indices(len(train), size, seed, update)], 0)

    def _batches(self, recordings: Sequence[SpikeStream]) -> Sequence[Batch]:
        return [FRONT.encode(recordings[start : start + 128], 0) for start in range(0, len(recordings), 128)]

    def validation(self) -> Sequence[Batch]:
        return self._batches(self.split()[1])

    def test(self) -> Sequence[Batch]:
        """Give the test file in an order that mixes classes and speakers."""
        recordings = self.read(TEST_FILE)
        order = np.random.default_rng(0).permutation(len(recordings))
        return self._batches([recordings[int(index)] for index in order])

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        return score_loss(rolled, batch.target, sharpness=None)
