"""Motion: which exercise somebody does, from a watch, in spikes; one person is left out.

Values become spikes by the encoder that is served (:mod:`hetsyn_model.encoders.level_crossing`), with levels from the
training people alone. A stream is a window of three seconds, a movement or two of some twenty in a recording, from the
initial state; the first half second does not count.

A seed leaves out one person to test on. The next person chooses the update, and eight others train.
Settings are searched for without the person that is left out: the search of an even seed has the five people that odd
seeds leave out, three to train and two to validate, and the search of an odd seed the five others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from hetsyn_model.encoders.level_crossing import LevelCrossingSpec
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.datasets.examples import Series
from hetsyn_model.training.encoding.front import ValuesAugmentSpec, ValuesFront
from hetsyn_model.training.loss import score_loss
from research.tasks.smartwatch import CHANNELS, EXERCISES, STEP_S, WINDOW_S, WatchRecording, people, read_watch, windows
from research.tasks.task import Figure, Shape

QUANTILE = 0.01  # of a channel's values beyond its levels, at either end
# people move at other speeds and in other sizes
VARIED = ValuesAugmentSpec(noise=0.02, gain=1.2, shift=0.1, tempo=1.3, delete=0.05)
SMOOTHING, SHARPNESS = 0.05, 10.0  # of the loss
PEOPLE = 10
HELD = 3  # people who train in a search; two validate


@dataclass(frozen=True)
class MotionSpec:
    """The encoder, the network, and the streams.

    Attributes:
        hidden: neurons of each layer.
        levels: number of levels of each channel.
        dropout: share of the spikes between layers that training drops.
        window_s: a stream, in seconds.
        skip_s: seconds at the start that do not count for the decision.
    """

    hidden: tuple[int, ...] = (64,)
    levels: int = 8
    dropout: float = 0.1
    window_s: float = WINDOW_S
    skip_s: float = 0.5

    @property
    def window_steps(self) -> int:
        return round(self.window_s / STEP_S)

    @property
    def channels(self) -> int:
        """Of the spikes."""
        return 2 * len(CHANNELS) * self.levels


@dataclass(frozen=True)
class Division:
    """Indices of people, by what their recordings are for; nobody tests in a search."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def division(seed: int) -> Division:
    """Divide the people by a seed; those from ``research.runs.plan.SEARCH_SEED`` on are of searches."""
    if seed < PEOPLE:
        out, next_one = seed, (seed + 1) % PEOPLE
        return Division(tuple(i for i in range(PEOPLE) if i not in (out, next_one)), (next_one,), (out,))
    # the seeds s that take this search leave out person s, and s % 2 is seed % 2
    heard = tuple(i for i in range(PEOPLE) if i % 2 != seed % 2)
    return Division(heard[:HELD], heard[HELD:], ())


@dataclass(frozen=True)
class Motion:
    """The task without one person, whom the seed chooses.

    ``folder`` has seglearn's file; None stands for the installed package.
    """

    spec: MotionSpec = field(default_factory=MotionSpec)
    folder: Path | None = None
    seed: int = 0
    figure: Figure = "accuracy"
    labels: tuple[str, ...] = EXERCISES
    description: str = "Shoulder exercises, from the accelerometer and the gyroscope of a watch"
    input_description: str = "Crossings of levels: direction (up, down), channel, level"

    @property
    def shape(self) -> Shape:
        return Shape(
            channels=self.spec.channels,
            hidden=self.spec.hidden,
            outputs=len(EXERCISES),
            step_s=STEP_S,
            decision=DecisionSpec("sum_softmax", skip_steps=round(self.spec.skip_s / STEP_S)),
            tau_reset_steps=10.0,
            dropout=self.spec.dropout,
            fixed_reset=True,
        )

    def recordings(self, indices: Sequence[int]) -> list[WatchRecording]:
        """Return the recordings of some people, by their index.

        Raises:
            MissingData: seglearn is not installed, or the folder does not have its file.
        """
        every = read_watch(self.folder)
        chosen = [people(every)[index] for index in indices]
        return [recording for recording in every if recording.person in chosen]

    @cached_property
    def _train(self) -> list[WatchRecording]:
        return self.recordings(division(self.seed).train)

    @cached_property
    def encoder(self) -> LevelCrossingSpec:
        series = [recording.values for recording in self._train]
        return LevelCrossingSpec.learn(series, levels=self.spec.levels, step_s=STEP_S, quantile=QUANTILE)

    @cached_property
    def _front(self) -> ValuesFront:
        return ValuesFront(self.encoder, VARIED)

    def training_batch(self, size: int, seed: int, update: int) -> Batch:
        rng = np.random.default_rng([seed, 3, update])
        steps, items = self.spec.window_steps, []
        for index in rng.integers(0, len(self._train), size):
            recording = self._train[int(index)]
            start = int(rng.integers(0, len(recording.values) - steps + 1))
            items.append(Series(recording.values[start : start + steps], recording.exercise))
        return self._front.vary(items, 0, rng)

    def _windows(self, indices: Sequence[int]) -> list[Batch]:
        items = windows(self.recordings(indices), self.spec.window_steps)
        starts = range(0, len(items), 256)
        return [self._front.encode(items[start : start + 256], 0) for start in starts]

    def validation(self) -> Sequence[Batch]:
        return self._windows(division(self.seed).validation)

    def test(self) -> Sequence[Batch]:
        return self._windows(division(self.seed).test)

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        return score_loss(rolled, batch.target, sharpness=SHARPNESS, smoothing=SMOOTHING)
