"""The training loop of every data set: seeded, resumable after a kill, with its history and the best network on disk.

A run is a folder: ``run.json`` (the configuration; another one is refused), ``checkpoint.pt`` (all that a resumed run
needs, replaced atomically at every evaluation), ``best.pt`` (the network of the best evaluation) and ``metrics.json``
(the history).
"""

from __future__ import annotations

import copy
import ctypes
import json
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from hetsyn_model.network import Network
from hetsyn_model.rollout import Rollout
from hetsyn_model.run_folder import RunError, record_configuration, replace_file, save_tensors
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.history import History, ValidationResult
from hetsyn_model.training.schedule import DelayTraining

CHECKPOINT, BEST, METRICS = "checkpoint.pt", "best.pt", "metrics.json"
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h
_MOST = 2**31 - 1


class Trainee(Protocol):
    """A :class:`Network`, or another ``nn.Module`` that saves and restores itself."""

    def train(self, mode: bool = True) -> Any: ...

    def to(self, device: torch.device | str) -> Any: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def save(self) -> Mapping[str, object]: ...

    def restore(self, saved: Mapping[str, object]) -> None: ...


T = TypeVar("T", bound=Trainee)
T_contra = TypeVar("T_contra", bound=Trainee, contravariant=True)


class DataSet(Protocol[T_contra]):
    """Batches for the training, and the evaluation of a model."""

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of the updates ``first`` to ``last`` (excluded).

        They depend on the arguments alone, so that a resumed run repeats what was lost. The method may seed torch's
        generator before a batch, for dropout.
        """
        ...

    def forward(self, model: T_contra, batch: Batch) -> Rollout: ...

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor: ...

    def measure(self, rolled: Rollout, batch: Batch) -> Mapping[str, Tensor]:
        """Return further values of a training batch by name, each [n]; the history keeps their means."""
        ...

    def evaluate(self, model: T_contra) -> ValidationResult: ...

    def better(self, a: ValidationResult, b: ValidationResult) -> bool:
        """Return whether the later evaluation ``a`` is chosen over ``b``."""
        ...

    def checkpoint(self, model: T_contra, update: int) -> bytes:
        """Return the content of ``best.pt`` for a model after ``update`` updates."""
        ...


@dataclass(frozen=True)
class Optimisation:
    """The settings of AdamW and its schedule.

    Attributes:
        evaluate_every: updates between two evaluations, which also refit the banks. The last update ends with one.
        learning_rate: learning rate of the weights, at a schedule of 1.
        schedule: factor on the learning rates at an update, counted from 0.
        bank_size: decays of each bank in training (fewer if fewer are exact); 0: no banks, training in the exact form.
        refit_every: updates between two fits of the banks besides those at evaluations; 0: at evaluations alone.
        whole_range_banks: fit the banks to all decays that training may reach. False: to the present decays, so the
            banks become worse as these change.
        decay_rate_factor: learning rate of the decays over that of the weights.
        decay_weight_decay: weight decay of the synapses' decays: AdamW pulls them towards 0, a time constant of 0.
        clip: largest norm of the gradient; None: any.
        average: decay of the running mean of the weights, which is evaluated and kept; None: no mean.
    """

    updates: int
    evaluate_every: int
    learning_rate: float
    schedule: Callable[[int], float]
    bank_size: int
    decay_rate_factor: float = 1.0
    refit_every: int = 0
    whole_range_banks: bool = False
    weight_decay: float = 0.0
    decay_weight_decay: float = 0.0
    clip: float | None = 5.0
    average: float | None = None
    delays: DelayTraining = field(default_factory=DelayTraining)


@dataclass(frozen=True)
class Callbacks:
    """Functions that the training calls.

    Attributes:
        on_update: takes the index of the update since the last evaluation, their number, and the loss.
        on_evaluation: takes the history, after an evaluation is on disk.
    """

    on_update: Callable[[int, int, float], None] | None = None
    on_evaluation: Callable[[History], None] | None = None


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for the rest of the process, and return whether it can (glibc).

    By default it returns large arrays to the system, and each update asks for the same pages again: a sixth to a fifth
    of an update's CPU time. The process then stays as large as its largest update.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; TypeError on Windows
        return False
    return all(mallopt(which, _MOST) == 1 for which in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))


def train(
    folder: Path,
    config: dict[str, Any],
    model: T,
    data: DataSet[T],
    how: Optimisation,
    *,
    masks: Mapping[str, Tensor] | None = None,
    callbacks: Callbacks | None = None,
    device: torch.device | str = "cpu",
) -> History:
    """Train, or go on training, the run in a folder. Returns the history of the whole run.

    Args:
        config: identifies the run, for ``run.json``.
        model: untrained. It is changed, and restored from the folder's checkpoint if there is one.
        masks: by the name of a learned decay, bool of its shape; True for values that training leaves alone.

    Raises:
        RunError: the folder holds a run of another configuration, or a damaged one; or a parameter is not finite any
            more.
    """
    record_configuration(folder, config)
    callbacks = callbacks or Callbacks()
    model.to(device)
    _fit_banks(model, how)
    mean = model if how.average is None else copy.deepcopy(model)
    optimiser = _optimiser(model, how)
    history = History()
    if (folder / CHECKPOINT).exists():
        saved = _load(folder / CHECKPOINT)
        history = History(**saved["history"])
        model.restore(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        if mean is not model:
            mean.restore(saved["mean"])
        _write_history(folder, history)  # a kill may have prevented it
    frozen = [
        (parameter, masks[name].to(device), parameter.detach().clone())
        for name, parameter in model.named_parameters()
        if masks and name in masks
    ]
    completed = history.update[-1] if history.update else 0
    while completed < how.updates:
        started, processor_started = time.monotonic(), time.process_time()
        last = min((completed // how.evaluate_every + 1) * how.evaluate_every, how.updates)
        model.train()
        losses: list[Tensor] = []
        measured: dict[str, list[Tensor]] = {}
        for update, batch in enumerate(data.batches(completed, last), completed):
            batch = batch.to(device)
            if how.refit_every and update % how.refit_every == 0:
                _fit_banks(model, how)
            if isinstance(model, Network):
                model.delay_spread = how.delays.spread(update / how.updates)
            rolled = data.forward(model, batch)
            loss = data.loss(rolled, batch)
            _update(model, optimiser, loss, how.learning_rate, how.schedule(update), how.clip, frozen)
            if how.average is not None:
                _follow(mean, model, min(how.average, update / (update + 10)))
            losses.append(loss.detach())
            for name, values in data.measure(rolled, batch).items():
                measured.setdefault(name, []).append(values.detach())
            if callbacks.on_update is not None:
                callbacks.on_update(update - completed, last - completed, float(losses[-1]))
        completed = last
        _check_finite(model, completed)
        _fit_banks(model, how)  # the grid follows the learned decays
        if mean is not model:
            _fit_banks(mean, how)
        evaluation = data.evaluate(mean)
        chosen = history.best is None or data.better(evaluation, history.best)
        means = {name: float(torch.cat(values).mean()) for name, values in measured.items()}
        history.append(completed, float(torch.stack(losses).mean()), evaluation, means)
        if chosen:
            history.chosen = len(history.update) - 1
            replace_file(folder / BEST, data.checkpoint(mean, completed))
        history.seconds.append(time.monotonic() - started)
        history.processor_seconds.append(time.process_time() - processor_started)
        state = {"network": model.save(), "optimiser": optimiser.state_dict(), "history": asdict(history)}
        save_tensors(folder / CHECKPOINT, state if mean is model else state | {"mean": mean.save()})
        _write_history(folder, history)
        if callbacks.on_evaluation is not None:
            callbacks.on_evaluation(history)
    return history


def _load(path: Path) -> dict[str, Any]:
    try:
        return dict(torch.load(path, weights_only=True, map_location="cpu"))
    except (OSError, ValueError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise RunError(
            f"{path}: cannot be continued from ({reason}): choose another folder for the run, or delete this one"
        ) from error


def _write_history(folder: Path, history: History) -> None:
    replace_file(folder / METRICS, json.dumps(asdict(history), indent=1).encode())


def _check_finite(model: Trainee, updates: int) -> None:
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise RunError(
                f"after {updates} updates {name} is not finite: train in another folder with a lower "
                "training.learning_rate, or an end of neuron.decay_range further below 1"
            )


def _fit_banks(model: Trainee, how: Optimisation) -> None:
    if isinstance(model, Network) and how.bank_size:
        # held until the next evaluation
        model.fit_banks(size=how.bank_size, hold=True, whole_range=how.whole_range_banks)


def _optimiser(model: Trainee, how: Optimisation) -> torch.optim.AdamW:
    """Make AdamW for weights, decays, neurons' own values and delays, each with its factor on the rate."""
    decays = model.decays() if isinstance(model, Network) else {}
    own_values = model.own_values() if isinstance(model, Network) else {}
    delays = model.delays() if isinstance(model, Network) else {}
    apart = decays | own_values | delays
    weights = [p for name, p in model.named_parameters() if p.requires_grad and name not in apart]
    rate = how.learning_rate
    groups: list[dict[str, Any]] = [{"params": weights, "lr": rate, "weight_decay": how.weight_decay, "factor": 1.0}]
    for own, weight_decay, factor in (
        (decays, how.decay_weight_decay, how.decay_rate_factor),
        (own_values, 0.0, 1.0),
        (delays, 0.0, how.delays.rate / rate),
    ):
        if own:
            groups.append({"params": list(own.values()), "lr": rate, "weight_decay": weight_decay, "factor": factor})
    return torch.optim.AdamW(groups)


def _update(
    model: Trainee,
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    rate: float,
    factor: float,
    clip: float | None,
    frozen: list[tuple[nn.Parameter, Tensor, Tensor]],
) -> None:
    """Run one optimiser step, and clamp the decays to their range."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"] * factor
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    for parameter, mask, _ in frozen:
        if parameter.grad is not None:
            parameter.grad.masked_fill_(mask, 0.0)  # does not count in the clipping
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    for parameter, mask, kept in frozen:  # weight decay has moved them
        parameter.data.copy_(torch.where(mask, kept, parameter.data))
    if isinstance(model, Network):
        model.clamp_decays_()


@torch.no_grad()
def _follow(mean: Trainee, model: Trainee, decay: float) -> None:
    for slow, fast in zip(mean.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1.0 - decay)
