"""An experiment's task: batches of spikes with targets, a loss and a figure of merit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.encoders.level_crossing import LevelCrossingSpec
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec, SurrogateSpec
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.datasets.data import DataError

Figure = Literal["accuracy", "mse"]
# of a field of a run's description that came after the first results: left out where it has its default, so that runs
# of before have the description that they had
LATER: Final = {"later": True}


GAUSSIAN: Final = SurrogateSpec("gaussian")
INSTALL: Final = "pip install ./research in the checkout of hetsyn"


class MissingData(DataError):
    """A data set is not on this machine; the message names the command that installs it."""

    code = "missing-data"


@dataclass(frozen=True)
class Shape:
    """What a task needs of a network, apart from its neuron model.

    Attributes:
        hidden: neurons of each hidden layer, as the paper has them or scaled down.
        outputs: classes or traces.
        step_s: duration of a step in seconds.
        decision: the decision rule.
        tau_reset_steps: time constant of the reset current.
        surrogate: derivative of the threshold in training.
        fixed_reset: whether every model's reset has it, as in the paper's experiments. Otherwise only HetSyn's has it;
            with the others the reset decays as the neuron does (Propositions 1 to 3).
        tau_spread: deviation of the initial time constants as a share of their mean.
        tau_normal: whether they are normally distributed; else uniformly.
        adaptation_tau_steps: time constant of the adaptation (ALIF).
        adaptation_strength: rise of the threshold at a spike (ALIF).
        dropout: share of the spikes between layers that training drops.
        weights: the initial ones: the ``network``'s own; or ``fan-in``, N(0, 1/n) for n synapses a neuron and path,
            as in the paper's reference code.
    """

    channels: int
    hidden: tuple[int, ...]
    outputs: int
    step_s: float
    decision: DecisionSpec
    tau_reset_steps: float
    surrogate: SurrogateSpec = GAUSSIAN
    tau_spread: float = 0.35  # as U(5, 20) has, the paper's
    tau_normal: bool = False
    adaptation_tau_steps: float = 100.0
    adaptation_strength: float = 0.05
    dropout: float = 0.0
    fixed_reset: bool = False
    weights: Literal["network", "fan-in"] = "network"


class Task(Protocol):
    """Data, loss and figure of a task; every batch is a function of its arguments alone."""

    @property
    def shape(self) -> Shape: ...

    @property
    def figure(self) -> Figure: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def description(self) -> str: ...

    @property
    def input_description(self) -> str: ...

    @property
    def encoder(self) -> LevelCrossingSpec | None:
        """The encoder of values; None where a stream is spikes."""
        ...

    def training_batch(self, size: int, seed: int, update: int) -> Batch: ...

    def validation(self) -> Sequence[Batch]: ...

    def test(self) -> Sequence[Batch]: ...

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor: ...


def rate_loss(hidden_spikes: Sequence[Tensor], step_s: float, rate_hz: float) -> Tensor:
    """Mean over all hidden neurons of ((rate - rate_hz) / rate_hz)^2 (appendices B and C of the paper).

    Args:
        hidden_spikes: one [batch, steps, neurons] a layer; a neuron's rate is that over the whole batch.
        step_s: duration of a step.
        rate_hz: goal.
    """
    rates = [(z.mean((0, 1)) / step_s - rate_hz) / rate_hz for z in hidden_spikes]
    return (torch.cat(rates) ** 2).mean()


def stream_figures(figure: Figure, rolled: Rollout, batch: Batch) -> Tensor:
    """Compute each stream's figure, float64 [b]: 1 or 0 for its class, or the mean squared error of its trace."""
    if figure == "accuracy":
        return (rolled.scores.argmax(-1) == batch.target).double()
    return ((rolled.readout - batch.target) ** 2).double().mean((1, 2))


def epoch_indices(count: int, size: int, seed: int, update: int) -> NDArray[np.int64]:
    """Choose the streams that an update of a seed trains on. Each comes once an epoch, in an order of its own."""
    per_epoch = max(1, count // size)
    order = np.random.default_rng([seed, 3, update // per_epoch]).permutation(count)
    return order[update % per_epoch * size :][:size]


def in_batches(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Cut streams into batches of at most this size."""
    for batch in batches:
        for start in range(0, len(batch.steps), size):
            yield batch.streams(start, start + size)


def first_streams(batches: Sequence[Batch], count: int) -> list[Batch]:
    """Return the first ``count`` streams."""
    chosen: list[Batch] = []
    for batch in batches:
        if count > 0:
            chosen.append(batch.streams(0, count))
            count -= len(batch.steps)
    return chosen
