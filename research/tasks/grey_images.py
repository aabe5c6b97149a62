"""Sequential MNIST as the paper has it: one grey value a step drives the network, and its output neurons spike.

arXiv 2508.11644, appendix E: 1-64-64-10, recurrent, 784 steps; the class is the output neuron with the most spikes, and
the loss is the cross entropy of the counts. ``vision.py`` has the same images in spikes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.events import Events
from hetsyn_model.spec import DecisionSpec, SurrogateSpec
from hetsyn_model.training.batch import Batch
from research.tasks.images import SIDE, Images, ImageTask
from research.tasks.task import Shape


@dataclass(frozen=True)
class GreyImageSpec:
    """The images, and the network for them.

    Attributes:
        images: the data set.
        hidden: neurons of each hidden layer.
        validation_images: number of validation images, the first ones.
        test_images: number of test images, the first ones.
    """

    images: Literal["mnist-5k", "fashion"] = "mnist-5k"
    hidden: tuple[int, ...] = (64, 64)
    validation_images: int = 5000
    test_images: int = 10000


def grey_values(images: Images) -> Tensor:
    """Images [n, 28, 28] pixel by pixel, line after line: float32 [n, 784, 1] in [0, 1]."""
    return torch.from_numpy(images.reshape(len(images), SIDE * SIDE, 1).astype(np.float32) / 255)


@dataclass(frozen=True)
class GreyImages(ImageTask[GreyImageSpec]):
    """Images as grey values; attributes as of :class:`research.tasks.images.ImageTask`."""

    spec: GreyImageSpec = field(default_factory=GreyImageSpec)

    @property
    def description(self) -> str:
        return f"{self.data_name}, a grey value a step"

    @property
    def input_description(self) -> str:
        return "Grey value of a pixel, 0 (black) to 1, line after line"

    @property
    def shape(self) -> Shape:
        return Shape(
            channels=1,
            hidden=self.spec.hidden,
            outputs=10,
            step_s=1e-3,
            decision=DecisionSpec("spike_count"),
            surrogate=SurrogateSpec("gaussian"),
            tau_reset_steps=20.0,
            tau_spread=0.35,  # the paper's U(5, 20) has 0.35
            tau_normal=False,
            adaptation_tau_steps=100.0,
            adaptation_strength=0.05,
            input_kind="values",
        )

    @property
    def channel_groups(self) -> dict[str, tuple[int, int]]:
        return {"grey value": (0, 1)}

    def _batch(self, images: Images, labels: NDArray[np.int64]) -> Batch:
        steps = torch.full((len(images),), SIDE * SIDE, dtype=torch.int64)
        return Batch(Events.of(grey_values(images)), steps, torch.from_numpy(labels))
