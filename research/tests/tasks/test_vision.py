"""Images as spikes, and Fashion-MNIST where it is installed."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from research.tasks.task import MissingData
from research.tasks.vision import (
    DEBIAN_FASHION,
    Images,
    ImageSpec,
    SequentialImages,
    encode,
    read_fashion_mnist,
)
from tests.support.tools import NO_FASHION_MNIST


@pytest.fixture
def image() -> Images:
    return np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)


def test_crossings_add_up_to_the_levels_of_each_row(image: Images) -> None:
    spec = ImageSpec(levels=8)
    spikes = encode(spec, image[None])
    assert spikes.shape == (1, 28, spec.channels)
    crossings = spikes[0].reshape(28, 2, 28, 8).astype(int)
    height = (crossings[:, 0] - crossings[:, 1]).cumsum(0).sum(-1)
    assert np.abs(height * 32 - image.astype(int)).max() <= 16


def test_nothing_fires_where_nothing_is() -> None:
    assert not encode(ImageSpec(), np.zeros((1, 28, 28), np.uint8)).any()


def test_fashion_mnist_is_read_from_idx_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 5003), ("t10k", 2)):
        images = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        head = {3: b"\x00\x00\x08\x03", 1: b"\x00\x00\x08\x01"}
        for array, name in ((images, "images-idx3"), (labels, "labels-idx1")):
            shape = np.array(array.shape, ">u4").tobytes()
            content = gzip.compress(head[array.ndim] + shape + array.tobytes(), 1)
            (tmp_path / f"{part}-{name}-ubyte.gz").write_bytes(content)
    data = read_fashion_mnist(tmp_path)
    assert [len(part[1]) for part in (data.train, data.validation, data.test)] == [3, 5000, 2]
    assert np.array_equal(data.test[0], images)
    assert data.test[1].tolist() == [0, 1]


def test_debian_has_fashion_mnist() -> None:
    if not DEBIAN_FASHION.is_dir():
        pytest.skip(NO_FASHION_MNIST)
    data = read_fashion_mnist()
    assert len(data.train[1]) == 55_000
    assert np.bincount(data.test[1]).tolist() == [1000] * 10


def test_data_that_is_not_there_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="apt-get install dataset-fashion-mnist"):
        read_fashion_mnist(tmp_path)


def test_an_epoch_shows_every_image_once() -> None:
    task = SequentialImages(ImageSpec("drawn"))
    every = sorted(task.data.train[1].tolist())
    for epoch in range(2):
        seen = [label for part in range(3) for label in task.training_batch(20, 0, 3 * epoch + part).target.tolist()]
        assert sorted(seen) == every
    assert task.training_batch(4, 0, 0).target.tolist() == task.training_batch(4, 0, 0).target.tolist()
