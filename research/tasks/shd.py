"""Spoken digits as 700 channels of spikes, German and English: SHD's files, or a synthesised set in their form.

``python -m recipes.speech shd-voices`` makes the synthesised set on any machine; the recorded one is the Spiking
Heidelberg Digits.
They are two experiments, ``shd`` and ``shd-recorded``, whose results cannot be mixed: each refuses the other's files.
Both have a test file of their own. The seed chooses speakers of the training file, who are left out and choose the
update.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec, SurrogateSpec
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.data import DataError, collate
from hetsyn_model.training.loss import score_loss
from recipes.speech.voices.digits import KEYS
from recipes.speech.voices.shd import TEST_FILE, TRAIN_FILE
from recipes.speech.voices.shd_file import (
    SHD_BIN_S,
    SHD_CHANNELS,
    SHD_STEPS,
    SpikeRecording,
    read_shd,
    shd_source,
)
from research.tasks.task import LATER, Figure, MissingData, Shape, epoch_indices

VALIDATION_TURNS = 6  # every sixth speaker validates, another sixth with the next seed
ShdSource = Literal["synthesised", "recorded", "drawn"]


@dataclass(frozen=True)
class ShdSpec:
    """The data set and the network.

    Attributes:
        data_set: the files that are read; others are refused. ``drawn`` needs none, and its figures mean nothing (for
            --smoke).
        hidden: neurons of each hidden layer.
        dropout: of spikes between layers, in training.
        bins_a_step: bins of 4 ms that are one step.
        as_paper: whether weights, time constants and loss are the paper's: N(0, 1/n) for n inputs, U(0.4, 1.6) times
            the mean (5 to 20 steps), and the cross entropy of the sum of softmax.
        whole_file: whether the network is trained on all speakers of the training file; every tenth recording of these
            then "validates", so it must not choose the update.
    """

    data_set: ShdSource = "synthesised"
    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.2
    bins_a_step: int = 1
    as_paper: bool = field(default=False, metadata=LATER)
    whole_file: bool = field(default=False, metadata=LATER)

    @property
    def steps(self) -> int:
        return SHD_STEPS // self.bins_a_step


@cache
def _read(path: Path, data_set: ShdSource, bins_a_step: int) -> tuple[SpikeRecording, ...]:
    actual = "recorded" if shd_source(path) is None else "synthesised"
    if actual != data_set:
        other = "shd" if actual == "synthesised" else "shd-recorded"
        raise MissingData(f"{path} belongs to the {actual} set: use python -m research {other}")
    recordings = tuple(coarser(sample, bins_a_step) for sample in read_shd(path))
    if any(recording.speaker < 0 for recording in recordings):
        raise MissingData(f"{path} has no extra/speaker, which is needed to choose validation data")
    return recordings


def coarser(sample: SpikeRecording, bins_a_step: int) -> SpikeRecording:
    """Several bins as one step, in which a channel fires at most once."""
    if bins_a_step == 1:
        return sample
    cells = np.unique(sample.steps.astype(np.int64) // bins_a_step * SHD_CHANNELS + sample.units)
    steps, units = (part.astype(np.int32) for part in np.divmod(cells, SHD_CHANNELS))
    return SpikeRecording(steps, units, sample.label, sample.speaker)


@cache
def drawn(name: str, bins_a_step: int) -> tuple[SpikeRecording, ...]:
    """Spikes at random, more of them in the channels of the class; four speakers, two of them the test's."""
    rng = np.random.default_rng([1, name == TEST_FILE])
    recordings = []
    for speaker in (2, 3) if name == TEST_FILE else (0, 1):
        for label in range(len(KEYS)):
            units = np.concatenate([rng.integers(0, SHD_CHANNELS, 100), 35 * label + rng.integers(0, 35, 100)])
            cells = np.unique(rng.integers(0, SHD_STEPS, units.size) * SHD_CHANNELS + units)
            steps, channels = (part.astype(np.int32) for part in np.divmod(cells, SHD_CHANNELS))
            recordings.append(coarser(SpikeRecording(steps, channels, label, speaker), bins_a_step))
    return tuple(recordings)


@dataclass(frozen=True)
class Shd:
    """The task whose validation speakers the seed chooses.

    Attributes:
        spec: data and network.
        folder: of the two files; None if there is none.
        seed: chooses the validation speakers.
        figure: see :class:`research.tasks.task.Task`, as the following.
        labels: of the classes.
        encoder: None; the input is spikes.
    """

    spec: ShdSpec = field(default_factory=ShdSpec)
    folder: Path | None = None
    seed: int = 0
    figure: Figure = "accuracy"
    labels: tuple[str, ...] = KEYS
    encoder: None = None

    @property
    def description(self) -> str:
        what = {"synthesised": "synthesised voices in SHD's form", "recorded": "SHD", "drawn": "spikes at random"}
        return f"Twenty spoken digits, German and English: {what[self.spec.data_set]}"

    @property
    def input_description(self) -> str:
        what = "crossings of log Mel bands" if self.spec.data_set == "synthesised" else "SHD's cochlea"
        return f"700 channels, {what}: 700 - unit of SHD's form; {SHD_BIN_S * self.spec.bins_a_step * 1e3:g} ms a step"

    def read(self, name: str) -> tuple[SpikeRecording, ...]:
        """The recordings of one of the two files.

        Raises:
            MissingData: it is not there, or is of the other data set.
        """
        if self.spec.data_set == "drawn":
            return drawn(name, self.spec.bins_a_step)
        made = "https://zenkelab.org has them"
        if self.spec.data_set == "synthesised":
            made = "`python -m recipes.speech shd-voices --out DIR` makes them"
        if self.folder is None:
            raise MissingData(f"spoken digits in spikes: give --data with {TRAIN_FILE} and {TEST_FILE}; {made}")
        path = self.folder / name
        if not path.exists():
            raise MissingData(f"spoken digits in spikes: there is no file {path}; {made}")
        try:
            return _read(path, self.spec.data_set, self.spec.bins_a_step)
        except DataError as error:
            raise MissingData(f"spoken digits in spikes: {error}") from error

    @property
    def shape(self) -> Shape:
        return Shape(
            channels=SHD_CHANNELS,
            hidden=self.spec.hidden,
            outputs=len(KEYS),
            step_s=SHD_BIN_S * self.spec.bins_a_step,
            decision=DecisionSpec("sum_softmax", skip_steps=11 // self.spec.bins_a_step),
            surrogate=SurrogateSpec("gaussian"),
            tau_reset_steps=20.0 / self.spec.bins_a_step,
            tau_spread=0.6 / math.sqrt(3.0) if self.spec.as_paper else 0.35,
            tau_normal=False,
            adaptation_tau_steps=100.0 / self.spec.bins_a_step,
            adaptation_strength=0.05,
            dropout=self.spec.dropout,
            fixed_reset=self.spec.as_paper,
            weights="fan-in" if self.spec.as_paper else "network",
        )

    @property
    def channel_groups(self) -> dict[str, tuple[int, int]]:
        return {"channels": (0, SHD_CHANNELS)}

    def split(self) -> tuple[list[SpikeRecording], list[SpikeRecording]]:
        """Training and validation recordings."""
        recordings = self.read(TRAIN_FILE)
        if self.spec.whole_file:
            return list(recordings), list(recordings[::10])
        speakers = sorted({recording.speaker for recording in recordings})
        turn = self.seed % min(VALIDATION_TURNS, len(speakers))
        chosen = set(speakers[turn :: min(VALIDATION_TURNS, len(speakers))])
        return (
            [recording for recording in recordings if recording.speaker not in chosen],
            [recording for recording in recordings if recording.speaker in chosen],
        )

    def training_batch(self, size: int, seed: int, update: int) -> Batch:
        train, _ = self.split()
        return self._batch([train[int(index)] for index in epoch_indices(len(train), size, seed, update)])

    def _batch(self, recordings: Sequence[SpikeRecording]) -> Batch:
        steps = self.spec.steps
        return Batch(
            collate(recordings, SHD_CHANNELS, steps),
            torch.full((len(recordings),), steps, dtype=torch.int64),
            torch.tensor([recording.label for recording in recordings]),
        )

    def _batches(self, recordings: Sequence[SpikeRecording]) -> Sequence[Batch]:
        return [self._batch(recordings[start : start + 128]) for start in range(0, len(recordings), 128)]

    def validation(self) -> Sequence[Batch]:
        return self._batches(self.split()[1])

    def test(self) -> Sequence[Batch]:
        """In an order that mixes classes and speakers: the claims look at the first ones."""
        recordings = self.read(TEST_FILE)
        order = np.random.default_rng(0).permutation(len(recordings))
        return self._batches([recordings[int(index)] for index in order])

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        return score_loss(rolled, batch.target, sharpness=None if self.spec.as_paper else 10.0)
