"""One run: a network of one neuron model trained on one task with one seed; resumable after a kill.

A run is a folder: ``run.json`` (what it is; another one is refused), ``checkpoint.pt`` (all that going on needs,
replaced atomically at every evaluation), ``best.pt`` (the network of the evaluation with the best validation figure)
and ``result.json``, which is there when the run is finished.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from experiments.delayed_match import DelayedMatch, DelayedMatchSpec
from experiments.lstm import SequenceLSTM
from experiments.neurons import build_network, network_spec
from experiments.pattern_generation import PatternGeneration, PatternGenerationSpec
from experiments.shd import Shd, ShdSpec
from experiments.speech import Speech, SpeechSpec
from experiments.task import Batch, Shape, Task, better, stream_figures
from experiments.vision import ImageSpec, SequentialImages
from hetsyn_model.network import Network
from hetsyn_model.rollout import Rollout
from hetsyn_model.run_folder import RunError, claim, replace_file, save_tensors
from hetsyn_model.spec import Variant
from hetsyn_model.state import Form
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.loop import TrainSpec, rate_at

Model = Literal["hetsyn", "hetneu", "homneu", "alif", "lstm"]
TaskSpec = PatternGenerationSpec | DelayedMatchSpec | ImageSpec | SpeechSpec | ShdSpec
TASKS: dict[str, type[TaskSpec]] = {
    "pattern-generation": PatternGenerationSpec,
    "delayed-match": DelayedMatchSpec,
    "vision": ImageSpec,
    "speech": SpeechSpec,
    "shd": ShdSpec,
}


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    updates: optimiser steps. batch: streams of one. schedule: ``step``, times 0.8 after every tenth of the updates, or
    ``cosine`` with warm-up. decay_rate_factor: learning rate of the decays over that of the weights. weight_decay: of
    the weights. evaluate_every: updates between two evaluations on validation data, which also refit the banks.
    bank_size: decays of each bank in training (a bank takes fewer where fewer are exact). clip: of the gradient's norm.
    """

    updates: int
    batch: int
    schedule: Literal["step", "cosine"]
    decay_rate_factor: float = 1.0
    weight_decay: float = 0.0
    evaluate_every: int = 25
    bank_size: int = 8
    clip: float = 5.0


@dataclass(frozen=True)
class RunSpec:
    """One run. tau_steps: see :func:`network_spec`. masked_share: of the decays, which training does not change."""

    experiment: str
    condition: str
    task: str
    task_spec: TaskSpec
    model: Model
    recurrent: bool
    seed: int
    learning_rate: float
    tau_steps: float
    training: Training
    masked_share: float = 0.0

    @property
    def name(self) -> str:
        """Where the run's folder is, below the experiment's."""
        kind = "recurrent" if self.recurrent else "feedforward"
        chosen = f"rate-{self.learning_rate:g}-tau-{self.tau_steps:g}/" if self.searching else ""
        return f"{self.condition}/{self.model}-{kind}/{chosen}seed-{self.seed}"

    @property
    def searching(self) -> bool:
        """Whether it is a candidate of a search, which no test data judges."""
        return is_search(self.condition)

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @staticmethod
    def from_dict(values: dict[str, Any]) -> RunSpec:
        """Inverse of :meth:`to_dict`.

        Raises:
            RunError: it is no description of a run.
        """
        try:
            parts = dict(values)
            task_type: Any = TASKS[parts["task"]]
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in parts.pop("task_spec").items()}
            return RunSpec(task_spec=task_type(**fields), training=Training(**parts.pop("training")), **parts)
        except (KeyError, TypeError) as error:
            raise RunError(f"not the description of an experiment's run: {error}") from error


def is_search(condition: str) -> bool:
    return condition.startswith("search")


def open_task(run: RunSpec, data: Path | None = None) -> Task:
    """The task of a run. data: folder of the recordings (speech), of SHD's or of Fashion-MNIST's files."""
    spec = run.task_spec
    if isinstance(spec, PatternGenerationSpec):
        return PatternGeneration(spec, run.seed)
    if isinstance(spec, DelayedMatchSpec):
        return DelayedMatch(spec, run.seed)
    if isinstance(spec, ImageSpec):
        return SequentialImages(spec, data)
    if isinstance(spec, ShdSpec):
        return Shd(spec, data, run.seed)
    return Speech(spec, data, run.seed)


def open_task_shape(run: dict[str, Any]) -> Shape:
    """What a described run asks of its network; needs none of its data."""
    return open_task(RunSpec.from_dict(run)).shape


def build(run: RunSpec, task: Task) -> Network | SequenceLSTM:
    """The untrained network of a run."""
    if run.model == "lstm":
        assert isinstance(run.task_spec, ImageSpec)
        return SequenceLSTM.of(task.shape, run.task_spec.columns, seed=run.seed)
    assert run.model in get_args(Variant)
    spec = network_spec(task.shape, run.model, recurrent=run.recurrent, tau_steps=run.tau_steps)
    return build_network(task.shape, spec, tau_steps=run.tau_steps, seed=run.seed)


def run_batch(network: Network | SequenceLSTM, batch: Batch, form: Form = "bank") -> Rollout:
    if isinstance(network, SequenceLSTM):
        return network.run(batch)
    return network.rollout(batch.spikes, form, batch.steps)


@torch.no_grad()
def evaluate(
    network: Network | SequenceLSTM, task: Task, batches: Sequence[Batch], form: Form = "bank"
) -> tuple[float, float]:
    """Figure and loss, means over all streams."""
    network.eval()
    figures, losses, streams = 0.0, 0.0, 0
    for batch in batches:
        rolled = run_batch(network, batch, form)
        figures += float(stream_figures(task.figure, rolled, batch).sum())
        losses += float(task.loss(rolled, batch)) * len(batch.steps)
        streams += len(batch.steps)
    return figures / streams, losses / streams


@dataclass
class Progress:
    """A run so far, one entry an evaluation. chosen: index of the best on validation data."""

    update: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    firing_hz: list[float] = field(default_factory=list)
    seconds: float = 0.0
    chosen: int = -1


def train(
    run: RunSpec, task: Task, folder: Path, on_evaluation: Callable[[RunSpec, Progress], None] | None = None
) -> Progress:
    """Train, or go on training, the run in a folder; ``best.pt`` holds the chosen network.

    Raises:
        RunError: the folder holds another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    claim(folder, run.to_dict())
    training = run.training
    network = build(run, task)
    progress = Progress()
    if (folder / "checkpoint.pt").exists():
        saved = torch.load(folder / "checkpoint.pt", weights_only=True)
        network = _restored(saved["network"], network)
        progress = Progress(**saved["progress"])
    else:
        saved = None
        _fit(network, training.bank_size)
    optimiser = _optimiser(run, network)
    if saved is not None:
        optimiser.load_state_dict(saved["optimiser"])
    frozen = masks(run, network)
    done = progress.update[-1] if progress.update else 0
    losses: list[Tensor] = []
    rates: list[Tensor] = []
    started = time.process_time()
    validation = task.validation()
    for update in range(done, training.updates):
        network.train()
        # dropout too depends on seed and update alone, so that a resumed run repeats what was lost
        torch.manual_seed(run.seed * 1_000_003 + update)
        batch = task.training_batch(training.batch, run.seed, update)
        rolled = run_batch(network, batch)
        loss = task.loss(rolled, batch)
        for group in optimiser.param_groups:
            group["lr"] = run.learning_rate * group["factor"] * _rate(update, training)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter, mask in frozen:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(mask, 0.0)
        torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip)
        optimiser.step()
        if isinstance(network, Network):
            network.clamp_decays_()
        losses.append(loss.detach())
        rates.append(torch.cat([z.detach().mean((0, 1)) for z in rolled.hidden_spikes] or [torch.zeros(1)]).mean())
        if (update + 1) % training.evaluate_every and update + 1 < training.updates:
            continue
        _fit(network, training.bank_size)  # the grid follows the decays that were learned
        figure, validation_loss = evaluate(network, task, validation)
        first = progress.chosen < 0
        best = (math.nan, math.nan) if first else _at(progress, progress.chosen)
        progress.update.append(update + 1)
        progress.loss.append(float(torch.stack(losses).mean()))
        progress.validation.append(figure)
        progress.validation_loss.append(validation_loss)
        progress.firing_hz.append(float(torch.stack(rates).mean()) / task.shape.step_s)
        losses, rates = [], []
        if first or better(task.figure, figure, best[0]) or (figure == best[0] and validation_loss < best[1]):
            progress.chosen = len(progress.update) - 1
            replace_file(folder / "best.pt", _best(network, run, task, update + 1))
        now = time.process_time()
        progress.seconds += now - started
        started = now
        save_tensors(
            folder / "checkpoint.pt",
            {"network": network.save(), "optimiser": optimiser.state_dict(), "progress": asdict(progress)},
        )
        if on_evaluation is not None:
            on_evaluation(run, progress)
    return progress


def _at(progress: Progress, index: int) -> tuple[float, float]:
    return progress.validation[index], progress.validation_loss[index]


def _rate(update: int, training: Training) -> float:
    if training.schedule == "cosine":
        return rate_at((update + 1) / training.updates, TrainSpec())
    return float(0.8 ** (10 * update // training.updates))


def _fit(network: Network | SequenceLSTM, bank_size: int) -> None:
    if isinstance(network, Network):
        network.fit_banks(size=bank_size)


def _restored(saved: Any, fresh: Network | SequenceLSTM) -> Network | SequenceLSTM:
    if isinstance(fresh, SequenceLSTM):
        fresh.load_state_dict(saved["tensors"])
        return fresh
    network = Network.load(saved)
    # whether a decay is learned is the description's, the file has only values
    for parameter, like in zip(network.parameters(), fresh.parameters(), strict=True):
        parameter.requires_grad_(like.requires_grad)
    return network


def _optimiser(run: RunSpec, network: Network | SequenceLSTM) -> torch.optim.AdamW:
    """Adam where weight_decay is 0."""
    learned = network.decays() if isinstance(network, Network) else {}
    weights = [p for name, p in network.named_parameters() if p.requires_grad and name not in learned]
    groups: list[dict[str, Any]] = [
        {"params": weights, "lr": run.learning_rate, "weight_decay": run.training.weight_decay, "factor": 1.0}
    ]
    if learned:
        factor = run.training.decay_rate_factor
        groups.append(
            {"params": list(learned.values()), "lr": run.learning_rate, "weight_decay": 0.0, "factor": factor}
        )
    return torch.optim.AdamW(groups)


def masks(run: RunSpec, network: Network | SequenceLSTM) -> list[tuple[torch.nn.Parameter, Tensor]]:
    """The decays that training leaves alone: a seeded share of each layer's, True where it is left alone."""
    if not run.masked_share or not isinstance(network, Network):
        return []
    generator = torch.Generator().manual_seed(run.seed + 2_000_003)
    return [(r, torch.rand(r.shape, generator=generator) < run.masked_share) for r in network.decays().values()]


def _best(network: Network | SequenceLSTM, run: RunSpec, task: Task, update: int) -> bytes:
    if isinstance(network, Network):
        return Checkpoint(network, task.encoder, task.tail_steps, update, run.to_dict()).to_bytes()
    buffer = BytesIO()
    torch.save(network.save(), buffer)
    return buffer.getvalue()


def load_best(run: RunSpec, task: Task, folder: Path) -> Network | SequenceLSTM:
    """The network that the run chose, in evaluation mode."""
    if run.model == "lstm":
        saved = torch.load(folder / "best.pt", weights_only=True)
        return _restored(saved, build(run, task)).eval()
    return Checkpoint.load(folder / "best.pt").network.eval()


def thinned(progress: Progress, points: int = 40) -> list[list[float]]:
    """[update, loss, validation figure] of at most so many evaluations, the last among them."""
    count = len(progress.update)
    chosen = sorted({round(i) for i in np.linspace(0, count - 1, min(points, count))})
    return [[progress.update[i], round(progress.loss[i], 5), round(progress.validation[i], 5)] for i in chosen]


def shortened(run: RunSpec, **changes: Any) -> RunSpec:
    """The same run with another training."""
    return replace(run, training=replace(run.training, **changes))
