"""Sequential images: MNIST-5k and Fashion-MNIST, a pixel or a row at a time, in spikes.

The network takes spikes, a pixel has a grey value. Every pixel of a step gets channels with thresholds:

    levels      channel l fires while its grey value is above threshold l (a rate code over channels)
    crossings   one channel fires when the value rises above threshold l, another when it falls below,
                from one step to the next

Crossings are the code of the experiments, as they are the sound encoder's: nothing fires where nothing changes, and
adding up gives the levels back, so no more than the quantisation is lost. An image is few events for ``/infer`` and few
products for the network: with four levels a Fashion-MNIST image in rows is 211 events on average (881 as levels), with
eight an MNIST image pixel by pixel 410 (809). They were also the better code in short runs of HetSyn, once each:
Fashion-MNIST in rows 84.5% (83.3% with levels, 400 updates of 128), MNIST-5k in rows 89.7% (90.2%, 280 updates).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hetsyn_model.spec import DecisionSpec, SurrogateSpec
from hetsyn_model.training.batch import Batch, Spikes
from research.tasks.images import SIDE, Images, ImageTask
from research.tasks.task import Shape


@dataclass(frozen=True)
class ImageSpec:
    """How images become spikes, and the network for them.

    Attributes:
        images: the data set.
        scan: a ``pixel`` or a ``row`` a step.
        encoding: ``levels`` or ``crossings`` of grey thresholds.
        levels: number of thresholds, spread evenly over the grey values.
        hidden: neurons of each hidden layer.
        dropout: of spikes between layers, in training.
        rows_skipped: first rows of an image whose steps do not count for the decision.
        shift: largest displacement in training, in pixels, each way.
        validation_images: number of validation images, the first ones.
        test_images: number of test images, the first ones.
    """

    images: Literal["mnist-5k", "fashion"] = "mnist-5k"
    scan: Literal["pixel", "row"] = "row"
    encoding: Literal["levels", "crossings"] = "crossings"
    levels: int = 4
    hidden: tuple[int, ...] = (64, 64)
    dropout: float = 0.0
    rows_skipped: int = 14
    shift: int = 0
    validation_images: int = 5000
    test_images: int = 10000

    @property
    def columns(self) -> int:
        """Pixels of a step."""
        return SIDE if self.scan == "row" else 1

    @property
    def steps(self) -> int:
        return SIDE * SIDE // self.columns

    @property
    def channels(self) -> int:
        return self.columns * self.levels * (2 if self.encoding == "crossings" else 1)


def encode(spec: ImageSpec, images: Images) -> Spikes:
    """Spikes [n, steps, channels]; channels are ordered (direction, if any), column, level."""
    threshold = 256 * (np.arange(spec.levels) + 0.5) / spec.levels
    above = images.reshape(len(images), spec.steps, spec.columns, 1) > threshold
    if spec.encoding == "levels":
        return above.reshape(len(images), spec.steps, -1)
    before = np.concatenate([np.zeros_like(above[:, :1]), above[:, :-1]], 1)
    return np.stack([above & ~before, ~above & before], 2).reshape(len(images), spec.steps, -1)


def image_events(spec: ImageSpec, image: Images) -> tuple[list[int], list[int]]:
    """One image [28, 28] as ``times`` and ``units`` of the server's event input."""
    times, units = encode(spec, image[None])[0].nonzero()
    return times.tolist(), units.tolist()


def shifted(images: Images, largest: int, rng: np.random.Generator) -> Images:
    """Each image moved by up to so many pixels each way; what moves out is lost, black moves in."""
    moved = np.zeros_like(images)
    for image, into, (dy, dx) in zip(images, moved, rng.integers(-largest, largest + 1, (len(images), 2)), strict=True):
        into[max(dy, 0) : SIDE + min(dy, 0), max(dx, 0) : SIDE + min(dx, 0)] = image[
            max(-dy, 0) : SIDE - max(dy, 0), max(-dx, 0) : SIDE - max(dx, 0)
        ]
    return moved


@dataclass(frozen=True)
class SequentialImages(ImageTask[ImageSpec]):
    """Images in spikes; attributes as of :class:`research.tasks.images.ImageTask`."""

    spec: ImageSpec = field(default_factory=ImageSpec)

    @property
    def description(self) -> str:
        return f"{self.data_name}, a {self.spec.scan} a step"

    @property
    def input_description(self) -> str:
        order = "column, level" if self.spec.encoding == "levels" else "direction (up, down), column, level"
        return (
            f"{self.spec.encoding.capitalize()} of {self.spec.levels} grey thresholds, a {self.spec.scan} a step; "
            f"channels by {order if self.spec.columns > 1 else order.replace('column, ', '')}"
        )

    @property
    def shape(self) -> Shape:
        return Shape(
            channels=self.spec.channels,
            hidden=self.spec.hidden,
            outputs=10,
            step_s=1e-3,
            decision=DecisionSpec("sum_softmax", skip_steps=self.spec.rows_skipped * self.spec.steps // SIDE),
            surrogate=SurrogateSpec("gaussian"),
            tau_reset_steps=20.0,
            tau_spread=0.35,  # the paper's U(5, 20) has 0.35
            tau_normal=False,
            adaptation_tau_steps=100.0,
            adaptation_strength=0.05,
            dropout=self.spec.dropout,
            steady_rate=0.02 if self.spec.scan == "pixel" else 0.0,
            features=self.spec.columns,
        )

    @property
    def channel_groups(self) -> dict[str, tuple[int, int]]:
        if self.spec.encoding == "levels":
            return {"levels": (0, self.spec.channels)}
        half = self.spec.channels // 2
        return {"up": (0, half), "down": (half, self.spec.channels)}

    def _batch(self, images: Images, labels: NDArray[np.int64]) -> Batch:
        pixels = images.reshape(len(images), self.spec.steps, self.spec.columns).astype(np.float32) / 255
        return Batch.of(encode(self.spec, images), torch.from_numpy(labels), torch.from_numpy(pixels))

    def _varied(self, images: Images, seed: int, update: int) -> Images:
        if not self.spec.shift:
            return images
        return shifted(images, self.spec.shift, np.random.default_rng([seed, 4, update]))
