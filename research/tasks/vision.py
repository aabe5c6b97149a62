"""Fashion-MNIST, a row of 28 pixels a step, in spikes.

The network takes spikes, a pixel has a grey value. Every pixel of a step gets channels with thresholds: one fires when
the value rises above the threshold from one row to the next, another when it falls below. Nothing fires where nothing
changes, and adding up gives the levels back, so no more than the quantisation is lost. With four thresholds an image is
211 events on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.training.batch import Batch, Spikes
from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.read_idx import read_idx_images
from hetsyn_model.training.loss import score_loss
from research.tasks.task import Figure, MissingData, Shape, epoch_indices

Images = NDArray[np.uint8]  # [n, 28, 28]
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
SIDE = 28
CLOTHES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


@dataclass(frozen=True)
class ImageSet:
    """Images uint8 [n, 28, 28] and classes int64 [n]."""

    train: tuple[Images, NDArray[np.int64]]
    validation: tuple[Images, NDArray[np.int64]]
    test: tuple[Images, NDArray[np.int64]]


@cache
def read_fashion_mnist(folder: Path = DEBIAN_FASHION) -> ImageSet:
    """Fashion-MNIST from its four IDX files, compressed or not; the last 5,000 training images validate.

    Raises:
        MissingData: a file is not there, or is none.
    """
    try:
        (images, labels), test = read_idx_images(folder, "train"), read_idx_images(folder, "test")
    except DataError as error:
        raise MissingData(f"Fashion-MNIST: {error}: apt-get install dataset-fashion-mnist, or give --data") from error
    return ImageSet((images[:-5000], labels[:-5000]), (images[-5000:], labels[-5000:]), test)


@cache
def drawn() -> ImageSet:
    """Bars, at a place of its own for each class."""
    labels = np.arange(60) % len(CLOTHES)
    column = np.arange(SIDE) - 2 * labels[:, None]
    bars = ((column >= 0) & (column < 4)) * np.uint8(200)
    part = np.repeat(bars[:, None], SIDE, 1), labels
    return ImageSet(part, part, part)


@dataclass(frozen=True)
class ImageSpec:
    """How images become spikes, and the network for them.

    Attributes:
        images: the data set; ``drawn`` needs no files, and its figures mean nothing (for --smoke).
        scan: a row a step.
        encoding: crossings of grey thresholds.
        levels: number of thresholds, spread evenly over the grey values.
        hidden: neurons of each hidden layer.
        dropout: share of the spikes between layers that training drops.
        rows_skipped: first rows of an image, which do not count for the decision.
        shift: always 0; kept results name it, as scan and encoding.
        validation_images: number of validation images, the first ones.
        test_images: number of test images, the first ones.
    """

    images: Literal["fashion", "drawn"] = "fashion"
    scan: Literal["row"] = "row"
    encoding: Literal["crossings"] = "crossings"
    levels: int = 4
    hidden: tuple[int, ...] = (64, 64)
    dropout: float = 0.0
    rows_skipped: int = 14
    shift: Literal[0] = 0
    validation_images: int = 5000
    test_images: int = 10000

    @property
    def channels(self) -> int:
        return 2 * SIDE * self.levels


def encode(spec: ImageSpec, images: Images) -> Spikes:
    """Spikes [n, 28, channels]; channels are ordered (direction, column, level)."""
    threshold = 256 * (np.arange(spec.levels) + 0.5) / spec.levels
    above = images[..., None] > threshold
    before = np.concatenate([np.zeros_like(above[:, :1]), above[:, :-1]], 1)
    return np.stack([above & ~before, ~above & before], 2).reshape(len(images), SIDE, -1)


@dataclass(frozen=True)
class SequentialImages:
    """The task. Its data do not depend on a seed.

    ``folder`` has Fashion-MNIST's files; None stands for that of Debian's package.
    """

    spec: ImageSpec = field(default_factory=ImageSpec)
    folder: Path | None = None
    figure: Figure = "accuracy"
    labels: tuple[str, ...] = CLOTHES
    description: str = "Clothes (Fashion-MNIST), 28 x 28, a row a step"
    encoder: None = None

    @property
    def data(self) -> ImageSet:
        return drawn() if self.spec.images == "drawn" else read_fashion_mnist(self.folder or DEBIAN_FASHION)

    @property
    def input_description(self) -> str:
        return (
            f"Crossings of {self.spec.levels} grey thresholds, a row a step; channels by direction (up, down), "
            "column, level"
        )

    @property
    def shape(self) -> Shape:
        return Shape(
            channels=self.spec.channels,
            hidden=self.spec.hidden,
            outputs=len(CLOTHES),
            step_s=1e-3,
            decision=DecisionSpec("sum_softmax", skip_steps=self.spec.rows_skipped),
            tau_reset_steps=20.0,
            dropout=self.spec.dropout,
        )

    def _batch(self, images: Images, labels: NDArray[np.int64]) -> Batch:
        return Batch.of(encode(self.spec, images), torch.from_numpy(labels))

    def training_batch(self, size: int, seed: int, update: int) -> Batch:
        images, labels = self.data.train
        chosen = epoch_indices(len(labels), size, seed, update)
        return self._batch(images[chosen], labels[chosen])

    def _batches(self, images: Images, labels: NDArray[np.int64], count: int) -> Sequence[Batch]:
        images, labels = images[:count], labels[:count]
        parts = [slice(start, start + 250) for start in range(0, len(labels), 250)]
        return [self._batch(images[part], labels[part]) for part in parts]

    def validation(self) -> Sequence[Batch]:
        return self._batches(*self.data.validation, self.spec.validation_images)

    def test(self) -> Sequence[Batch]:
        return self._batches(*self.data.test, self.spec.test_images)

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        return score_loss(rolled, batch.target)
