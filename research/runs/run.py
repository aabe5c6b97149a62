"""Describes a run: one neuron model on one task with one seed. It makes the run's task and its network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch

from hetsyn_model.network import Network
from hetsyn_model.rollout import Rollout
from hetsyn_model.run_folder import RunError
from hetsyn_model.state import Form
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.history import ValidationResult
from research.tasks.delayed_match import DelayedMatch, DelayedMatchSpec
from research.tasks.dendrites import tie_branches
from research.tasks.free_bank import FreeBank, spread_bank
from research.tasks.mnist1d import Mnist1d, Mnist1dSpec
from research.tasks.motion import Motion, MotionSpec
from research.tasks.neurons import NeuronModel as NeuronModel
from research.tasks.neurons import build_network, network_spec
from research.tasks.pattern_generation import PatternGeneration, PatternGenerationSpec
from research.tasks.shd import Shd, ShdSpec
from research.tasks.task import LATER, Task, in_batches, stream_figures
from research.tasks.vision import ImageSpec, SequentialImages

EXACT_BATCH = 25  # streams at a time in the exact form: a current a synapse and stream must fit the cache
TaskSpec = PatternGenerationSpec | DelayedMatchSpec | ImageSpec | ShdSpec | MotionSpec | Mnist1dSpec
# of each task its settings, and what opens it with settings, the folder of its data, and a seed
TASKS: dict[str, tuple[Callable[..., TaskSpec], Callable[[Any, Path | None, int], Task]]] = {
    "pattern-generation": (PatternGenerationSpec, lambda spec, _, seed: PatternGeneration(spec, seed)),
    "delayed-match": (DelayedMatchSpec, lambda spec, _, seed: DelayedMatch(spec, seed)),
    "vision": (ImageSpec, lambda spec, data, _: SequentialImages(spec, data)),
    "shd": (ShdSpec, Shd),
    "motion": (MotionSpec, Motion),
    "mnist1d": (Mnist1dSpec, lambda spec, _, seed: Mnist1d(spec, seed)),
}


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        updates: optimiser steps.
        batch: streams of an update.
        schedule: ``step``, times 0.8 after every tenth of the updates; ``cosine`` with warm-up; or ``held-cosine``,
            over ``cosine_updates``, then constant.
        decay_rate_factor: learning rate of the decays over that of the weights.
        weight_decay: AdamW's, of the weights.
        evaluate_every: updates between two evaluations on validation data, which also refit the banks.
        bank_size: decays of each bank in training (a bank takes fewer where fewer are exact).
        clip: largest norm of the gradient; None: any.
        whole_range_banks: whether these banks are fitted to every decay that training may reach, see
            :class:`hetsyn_model.training.loop.Optimisation`.
        decay_weight_decay: AdamW's, of the synapses' decays.
        cosine_updates: of the schedule ``held-cosine``.
        choose: which evaluation's network is kept: the best on ``validation`` data, or the ``last``.
        test_each: whether each evaluation judges the network on test data too, for the history; that chooses nothing.
    """

    updates: int
    batch: int
    schedule: Literal["step", "cosine", "held-cosine"]
    decay_rate_factor: float = 1.0
    weight_decay: float = 0.0
    evaluate_every: int = 25
    bank_size: int = 8
    clip: float | None = 5.0
    whole_range_banks: bool = field(default=False, metadata=LATER)
    decay_weight_decay: float = field(default=0.0, metadata=LATER)
    cosine_updates: int = field(default=0, metadata=LATER)
    choose: Literal["validation", "last"] = field(default="validation", metadata=LATER)
    test_each: bool = field(default=False, metadata=LATER)


@dataclass(frozen=True)
class RunSpec:
    """One run of an experiment.

    Attributes:
        experiment: its name.
        condition: name of the condition, or of a search.
        task: key of TASKS.
        task_spec: settings of the task.
        model: the neuron model.
        recurrent: whether hidden layers have synapses from their own neurons.
        seed: seed of weights and data.
        learning_rate: rate of the weights, where the schedule's factor is 1.
        tau_steps: time constant, see :func:`research.tasks.neurons.network_spec`.
        training: the rest of the training's settings.
        masked_share: share of the decays that training does not change.
        filters: branches of DH-SNN, or decays of the free bank; 0 for other models.
    """

    experiment: str
    condition: str
    task: str
    task_spec: TaskSpec
    model: NeuronModel
    recurrent: bool
    seed: int
    learning_rate: float
    tau_steps: float
    training: Training
    masked_share: float = 0.0
    filters: int = field(default=0, metadata=LATER)

    @property
    def name(self) -> str:
        """The run's folder, below the experiment's."""
        kind = "recurrent" if self.recurrent else "feedforward"
        chosen = f"rate-{self.learning_rate:g}-tau-{self.tau_steps:g}/" if self.searching else ""
        return f"{self.condition}/{self.model}-{kind}/{chosen}seed-{self.seed}"

    @property
    def searching(self) -> bool:
        """Whether it is a candidate of a search, which no test data judges."""
        return self.condition.startswith("search")

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for own, part in ((values, self), (values["task_spec"], self.task_spec), (values["training"], self.training)):
            for each in fields(part):
                if each.metadata.get("later") and getattr(part, each.name) == each.default:
                    del own[each.name]
        return values

    @staticmethod
    def from_dict(values: dict[str, Any]) -> RunSpec:
        """Make a run of what :meth:`to_dict` gave.

        Raises:
            RunError: it is no description of a run.
        """
        try:
            parts = dict(values)
            make_spec, _ = TASKS[parts["task"]]
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in parts.pop("task_spec").items()}
            return RunSpec(task_spec=make_spec(**fields), training=Training(**parts.pop("training")), **parts)
        except (KeyError, TypeError) as error:
            raise RunError(f"not the description of an experiment's run: {error}") from error


def open_task(run: RunSpec, data: Path | None = None) -> Task:
    """Open the task of a run; ``data`` is the folder of SHD's, Fashion-MNIST's or the watch's files."""
    _, make = TASKS[run.task]
    return make(run.task_spec, data, run.seed)


AnyNetwork = Network | FreeBank


def build(run: RunSpec, task: Task) -> AnyNetwork:
    """Make the untrained network of a run."""
    spec = network_spec(task.shape, run.model, recurrent=run.recurrent, tau_steps=run.tau_steps)
    network = build_network(task.shape, spec, tau_steps=run.tau_steps, seed=run.seed)
    if run.model == "free-bank":
        return FreeBank(network, spread_bank(run.tau_steps, run.filters))
    if run.model == "dh-snn":
        tie_branches(network, run.filters, run.seed)
    return network


def run_batch(network: AnyNetwork, batch: Batch, form: Form = "bank") -> Rollout:
    """Run a batch from the initial state."""
    return network.rollout(batch.events, form, batch.steps)


@torch.no_grad()
def evaluate(network: AnyNetwork, task: Task, batches: Iterable[Batch], form: Form = "bank") -> ValidationResult:
    """Judge a network by figure and loss, means over all streams."""
    network.eval()
    figures, losses, streams = 0.0, 0.0, 0
    if form == "exact" and isinstance(network, Network):
        batches = in_batches(batches, EXACT_BATCH)
    for batch in batches:
        rolled = run_batch(network, batch, form)
        figures += float(stream_figures(task.figure, rolled, batch).sum())
        losses += float(task.loss(rolled, batch)) * len(batch.steps)
        streams += len(batch.steps)
    return ValidationResult(figures / streams, losses / streams)
