"""MNIST-1D: ten digits as noisy series of 40 values, made by the generator of the package ``mnist1d``, in spikes.

Greydanus and Kobak, *Scaling down deep learning with MNIST-1D* (ICML 2024, arXiv 2011.14439; Apache-2.0): 4,000 series
to train on, 1,000 to test. They report 32% for logistic regression, 68% for a multilayer perceptron, 91% for a GRU, 94%
for a convolutional network, 96% for people. The generator runs with its own settings and its own seed, so the data are
the same for everybody; nothing is downloaded.

A value is a step, and becomes spikes by the encoder that is served. The seed chooses the series that choose the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.encoders.level_crossing import LevelCrossingSpec
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.datasets.examples import Series
from hetsyn_model.training.encoding.front import ValuesAugmentSpec, ValuesFront
from hetsyn_model.training.loss import score_loss
from research.tasks.task import INSTALL, Figure, MissingData, Shape, epoch_indices

STEPS, CLASSES, STEP_S = 40, 10, 0.01  # the series have no unit of time
VALIDATION = 500  # of the 4,000
QUANTILE = 0.01  # of the values beyond the levels, at either end


@dataclass(frozen=True)
class SeriesSet:
    """Series float32 [n, 40, 1] and digits int64 [n]; those of ``train`` validate, too."""

    train: tuple[NDArray[np.float32], NDArray[np.int64]]
    test: tuple[NDArray[np.float32], NDArray[np.int64]]


@cache
def make_series() -> SeriesSet:
    """Make the data set.

    Raises:
        MissingData: mnist1d is not installed.
    """
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ModuleNotFoundError as error:
        raise MissingData(f"MNIST-1D comes with mnist1d: {INSTALL}") from error
    state = np.random.get_state()  # the package seeds numpy's own generator
    try:
        made = make_dataset(get_dataset_args())
    finally:
        np.random.set_state(state)
    parts = [
        (np.asarray(made[x], np.float32)[..., None], np.asarray(made[y], np.int64))
        for x, y in (("x", "y"), ("x_test", "y_test"))
    ]
    return SeriesSet(*parts)


@dataclass(frozen=True)
class Mnist1dSpec:
    """The encoder and the network.

    Attributes:
        hidden: neurons of each layer.
        levels: of the encoder.
        counted_steps: last steps, which count for the decision.
    """

    hidden: tuple[int, ...] = (64,)
    levels: int = 16
    counted_steps: int = 10


@dataclass(frozen=True)
class Mnist1d:
    """The task. Its seed chooses the validation series."""

    spec: Mnist1dSpec = field(default_factory=Mnist1dSpec)
    seed: int = 0
    figure: Figure = "accuracy"
    labels: tuple[str, ...] = tuple(map(str, range(CLASSES)))
    description: str = "Digits as series of 40 values (MNIST-1D)"
    input_description: str = "Crossings of levels: direction (up, down), level"

    @property
    def shape(self) -> Shape:
        return Shape(
            channels=2 * self.spec.levels,
            hidden=self.spec.hidden,
            outputs=CLASSES,
            step_s=STEP_S,
            decision=DecisionSpec("sum_softmax", skip_steps=STEPS - self.spec.counted_steps),
            tau_reset_steps=10.0,
            fixed_reset=True,
        )

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """Of the training series; the first validate."""
        return np.random.default_rng([self.seed, 1]).permutation(len(make_series().train[1]))

    @cached_property
    def encoder(self) -> LevelCrossingSpec:
        series = list(make_series().train[0][self._order[VALIDATION:]])
        return LevelCrossingSpec.learn(series, levels=self.spec.levels, step_s=STEP_S, quantile=QUANTILE)

    @cached_property
    def _front(self) -> ValuesFront:
        return ValuesFront(self.encoder, ValuesAugmentSpec())

    def _batch(self, part: tuple[NDArray[np.float32], NDArray[np.int64]], indices: Sequence[int]) -> Batch:
        values, digits = part
        return self._front.encode([Series(values[index], int(digits[index])) for index in indices], 0)

    def training_batch(self, size: int, seed: int, update: int) -> Batch:
        train = self._order[VALIDATION:]
        return self._batch(make_series().train, train[epoch_indices(len(train), size, seed, update)].tolist())

    def validation(self) -> Sequence[Batch]:
        return [self._batch(make_series().train, self._order[:VALIDATION].tolist())]

    def test(self) -> Sequence[Batch]:
        test = make_series().test
        every = range(len(test[1]))
        return [self._batch(test, every[start : start + 250]) for start in every[::250]]

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        return score_loss(rolled, batch.target)
