"""MNIST-1D: the parts do not overlap, and the levels come from what is trained on."""

from __future__ import annotations

import numpy as np
import pytest

from research.tasks import mnist1d
from research.tasks.mnist1d import VALIDATION, Mnist1d, SeriesSet
from research.tasks.task import MissingData
from tests.support.tools import NO_MNIST1D


@pytest.fixture
def series(monkeypatch: pytest.MonkeyPatch) -> SeriesSet:
    """Series that are all different, and so are their spikes."""
    values = np.random.default_rng(0).normal(size=(VALIDATION + 40, 40, 1)).astype(np.float32)
    labels = np.arange(len(values)) % 10
    made = SeriesSet((values, labels), (values[:30], labels[:30]))
    monkeypatch.setattr(mnist1d, "make_series", lambda: made)
    return made


@pytest.mark.usefixtures("series")
def test_no_series_trains_and_validates() -> None:
    task = Mnist1d(seed=4)
    (validation,) = task.validation()
    per_epoch = [task.training_batch(10, 4, update) for update in range(4)]
    validates = {stream.tobytes() for stream in validation.dense()}
    trained = {stream.tobytes() for batch in per_epoch for stream in batch.dense()}
    assert len(validates) == VALIDATION
    assert len(trained) == 40  # each once an epoch
    assert not validates & trained
    assert sum(len(batch.steps) for batch in task.test()) == 30


def test_the_levels_come_from_the_training_series_alone(series: SeriesSet, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Mnist1d(seed=1)
    before = task.encoder
    changed = series.train[0].copy()
    changed[task._order[:VALIDATION]] *= 50
    monkeypatch.setattr(mnist1d, "make_series", lambda: SeriesSet((changed, series.train[1]), series.test))
    assert Mnist1d(seed=1).encoder == before
    assert Mnist1d(seed=2).encoder != before


def test_the_package_makes_the_data_and_leaves_numpys_generator_alone() -> None:
    np.random.seed(7)
    wanted = np.random.random()
    np.random.seed(7)
    mnist1d.make_series.cache_clear()
    try:
        made = mnist1d.make_series()
    except MissingData:
        pytest.skip(NO_MNIST1D)
    assert np.random.random() == wanted
    assert made.train[0].shape == (4000, 40, 1)
    assert made.test[0].shape == (1000, 40, 1)
    assert sorted(np.unique(made.train[1])) == list(range(10))
