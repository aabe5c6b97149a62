"""Training of a run, with the loop that every data set shares (``hetsyn_model/training/loop.py``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hetsyn_model.network import Network
from hetsyn_model.rollout import Rollout
from hetsyn_model.training import loop
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.history import History, ValidationResult
from hetsyn_model.training.schedule import cosine_factor
from research.runs.for_export import described
from research.runs.run import AnyNetwork, RunSpec, build, evaluate, run_batch
from research.tasks.task import Task

TEST_FIGURE = "test"  # in the history of a run that tests at each evaluation


class TaskData:
    """A run's task as a :class:`hetsyn_model.training.loop.DataSet`."""

    def __init__(self, run: RunSpec, task: Task) -> None:
        self.run, self.task = run, task

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        for update in range(first, last):
            # dropout too depends on seed and update alone, so that a resumed run repeats what was lost
            torch.manual_seed(self.run.seed * 1_000_003 + update)
            yield self.task.training_batch(self.run.training.batch, self.run.seed, update)

    def forward(self, model: AnyNetwork, batch: Batch) -> Rollout:
        return run_batch(model, batch)

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        return self.task.loss(rolled, batch)

    def measure(self, rolled: Rollout, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002
        """Measure ``firing_rate`` [1]: spikes a neuron and step, mean over all hidden neurons."""
        rates = torch.cat([z.detach().mean((0, 1)) for z in rolled.hidden_spikes])
        return {"firing_rate": rates.mean().view(1)}

    @cached_property
    def _validation(self) -> list[Batch]:
        return list(self.task.validation())

    @cached_property
    def _test(self) -> list[Batch]:
        return list(self.task.test())

    def evaluate(self, model: AnyNetwork) -> ValidationResult:
        result = evaluate(model, self.task, self._validation)
        if not self.run.training.test_each:
            return result
        test = evaluate(model, self.task, self._test)
        return replace(result, measures={TEST_FIGURE: test.figure})

    def better(self, a: ValidationResult, b: ValidationResult) -> bool:
        if self.run.training.choose == "last":
            return True
        sign = 1 if self.task.figure == "accuracy" else -1
        return (sign * a.figure, -a.loss) > (sign * b.figure, -b.loss)

    def checkpoint(self, model: AnyNetwork, update: int) -> bytes:
        if isinstance(model, Network):
            return described(self.run, self.task, model, update).to_bytes()
        buffer = BytesIO()
        torch.save(model.save(), buffer)
        return buffer.getvalue()


def train(
    run: RunSpec, task: Task, folder: Path, on_evaluation: Callable[[RunSpec, History], None] | None = None
) -> History:
    """Train, or go on training, the run in a folder; ``best.pt`` holds the chosen network.

    Returns:
        The history of the whole run.

    Raises:
        RunError: the folder holds another run.
    """
    training = run.training
    network = build(run, task)

    def schedule(update: int) -> float:
        if training.schedule == "cosine":
            return cosine_factor((update + 1) / training.updates)
        if training.schedule == "held-cosine":
            return _held_cosine_factor((update + 1) / training.cosine_updates)
        return _step_factor(update, training.updates)

    return loop.train(
        folder,
        run.to_dict(),
        network,
        TaskData(run, task),
        loop.Optimisation(
            updates=training.updates,
            evaluate_every=training.evaluate_every,
            learning_rate=run.learning_rate,
            schedule=schedule,
            bank_size=training.bank_size,
            whole_range_banks=training.whole_range_banks,
            decay_rate_factor=training.decay_rate_factor,
            weight_decay=training.weight_decay,
            decay_weight_decay=training.decay_weight_decay,
            clip=training.clip,
        ),
        masks=masks(run, network),
        callbacks=loop.Callbacks(
            on_evaluation=None if on_evaluation is None else lambda history: on_evaluation(run, history)
        ),
    )


def masks(run: RunSpec, network: AnyNetwork) -> dict[str, Tensor]:
    """Draw the decays that training leaves alone: a share of each layer's, by the seed.

    Returns:
        By the parameter's name: bool, shaped as the parameter, True for a decay that stays.
    """
    if not run.masked_share or not isinstance(network, Network):
        return {}
    generator = torch.Generator().manual_seed(run.seed + 2_000_003)
    return {
        name: torch.rand(decay.shape, generator=generator) < run.masked_share
        for name, decay in network.decays().items()
    }


def load_best(run: RunSpec, task: Task, folder: Path) -> AnyNetwork:
    """Load the network that the run chose, in evaluation mode."""
    if run.model == "free-bank":
        network = build(run, task)
        network.restore(torch.load(folder / loop.BEST, weights_only=True))
        return network.eval()
    return Checkpoint.load(folder / loop.BEST).network.eval()


def learning_curve(history: History, points: int = 40) -> list[list[float]]:
    """List [update, loss, validation figure] of at most ``points`` evaluations, the last among them."""
    count = len(history.update)
    chosen = sorted({round(i) for i in np.linspace(0, count - 1, min(points, count))})
    return [[history.update[i], round(history.loss[i], 5), round(history.validation[i], 5)] for i in chosen]


def tested_curve(history: History) -> list[list[float]]:
    """List [update, test figure] of every evaluation; none if the run did not test at each."""
    figures = history.measures.get(TEST_FIGURE, [])
    return [[update, round(figure, 5)] for update, figure in zip(history.update, figures, strict=bool(figures))]


def _held_cosine_factor(progress: float, warmup: float = 0.05, held: float = 0.95) -> float:
    """Compute the paper's factor on SHD: linear warm-up, then a cosine that stays at its value near zero.

    Args:
        progress: number of updates over those of the cosine; above 1 where training goes on.
        warmup: share of the cosine's updates with a rising rate.
        held: share of the cosine's updates from which on the rate stays (0.7% with the paper's numbers).
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (min(progress, held) - warmup) / (1.0 - warmup)))


def _step_factor(update: int, updates: int) -> float:
    """Compute the factor of 0.8 after every tenth of the updates; the paper has it after 100 of 1,000."""
    return float(0.8 ** (10 * update // updates))
