"""Trains a network on data: reads them, divides them, trains, and tests once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hetsyn_model.network import Network
from hetsyn_model.run_folder import replace_file, save_tensors
from hetsyn_model.spec import NetworkSpec
from hetsyn_model.spec.errors import ModelError
from hetsyn_model.state import Form
from hetsyn_model.synapses.bank import BankError
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.config import Config, load_config, to_toml
from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.examples import Examples, Kind, digest_of
from hetsyn_model.training.datasets.read_arrays import Arrays, as_arrays, examples_of
from hetsyn_model.training.datasets.readers import kind_of, read
from hetsyn_model.training.history import History
from hetsyn_model.training.labelled import RunOptions, accuracy, classify, train_labelled
from hetsyn_model.training.loop import BEST, Callbacks
from hetsyn_model.training.prepared import Prepared, prepare

CONFIG, TEST, VALIDATION = "config.toml", "test.json", "validation.pt"
KEPT_STREAMS = 256  # validation streams in the run's folder, for the verification of an export

Data = str | Path | Examples | Arrays | NDArray[Any] | torch.Tensor | Sequence[NDArray[Any] | torch.Tensor]


class DeviceError(ModelError):
    """A device that torch cannot train on; the message lists those that it can."""

    code = "no-device"


def torch_device(name: str) -> torch.device:
    """Find a device by its name, or raise a DeviceError."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device {name!r} is none that torch knows: give cpu or cuda") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(
            f"device {name!r}: torch {torch.__version__} finds {torch.cuda.device_count()} GPUs here: "
            "install a torch with CUDA and a driver, or give --device cpu"
        )
    return device


@dataclass(frozen=True)
class TestResult:
    """The figures on examples that had no part in training or choice.

    Attributes:
        bank: accuracy in the bank form, with the bank of an export; None if no bank is exact enough.
        exact: accuracy in the exact form; None for an older run without one.
        by_class: accuracy for each class by name, in the exact form, else in the bank's.
        epoch: epoch of the chosen network, from 1.
    """

    __test__ = False  # not a class of tests for pytest

    examples: int
    bank: float | None
    exact: float | None
    by_class: dict[str, float]
    epoch: int


@dataclass(frozen=True)
class Fitted:
    """A trained network; ``network, history = fit(…)`` takes the first two.

    Attributes:
        network: the network of the best epoch, on the CPU; takes the encoder's spikes.
        checkpoint: the content of ``best.pt``: network, encoder, labels and configuration.
        test: figures on the test examples; None without any.
    """

    network: Network
    history: History
    checkpoint: Checkpoint
    test: TestResult | None

    def __iter__(self) -> Any:
        return iter((self.network, self.history))


def train_prepared(
    prepared: Prepared,
    out: Path,
    *,
    network: Network | None = None,
    device: str = "cpu",
    callbacks: Callbacks | None = None,
) -> Fitted:
    """Train, or go on training, the run in the folder ``out``, and test its network once. Errors as of :func:`fit`.

    Args:
        network: training starts from its weights and changes them; None: random weights.
        callbacks: called as training goes on; an epoch ends with each evaluation.
    """
    config, target, shown = prepared.config, torch_device(device), callbacks or Callbacks()

    def on_evaluation(history: History) -> None:
        _keep(prepared, out)
        if shown.on_evaluation is not None:
            shown.on_evaluation(history)

    options = RunOptions(
        asdict(getattr(config.augmentation, prepared.kind)),
        config.seed,
        target,
        prepared.names,
        prepared.description,
        config.to_dict(),
        replace(shown, on_evaluation=on_evaluation),
        config.delays.training,
    )
    history = train_labelled(out, network or prepared.spec, prepared.front, config.training, prepared.data, options)
    _keep(prepared, out)  # a kill may have prevented it
    checkpoint = Checkpoint.load(out / BEST)
    return Fitted(checkpoint.network, history, checkpoint, _tested(prepared, checkpoint, out, target))


def _keep(prepared: Prepared, out: Path) -> None:
    """Write the configuration, and validation streams for the verification of an export, into the folder."""
    if (out / VALIDATION).exists():
        return
    replace_file(out / CONFIG, to_toml(prepared.config).encode())
    items = prepared.data.validation
    order = np.random.default_rng(prepared.config.seed).permutation(len(items))[:KEPT_STREAMS]
    chosen = [items[int(index)] for index in sorted(order)]
    keep_streams(out, prepared.front.encode(chosen, prepared.config.training.served_tail_steps))


def keep_streams(out: Path, batch: Batch) -> None:
    """Write streams, with their classes if they have any, for an export to verify the network on."""
    events = batch.events
    saved = {"steps": batch.steps, "row_splits": events.row_splits, "units": events.units, "channels": events.channels}
    if batch.target.dim() == 1:
        saved["target"] = batch.target
    save_tensors(out / VALIDATION, saved)


@torch.no_grad()
def _tested(prepared: Prepared, checkpoint: Checkpoint, out: Path, device: torch.device) -> TestResult | None:
    """Test the network, or read the figures from the folder if they are of the same network and examples."""
    if not prepared.test:
        return None
    path, data, epoch = out / TEST, digest_of(prepared.test), (checkpoint.epoch or 0) + 1
    if path.exists():
        known = json.loads(path.read_text())
        if known.pop("data", None) == data:  # else the figures are of other examples
            return TestResult(**known | {"epoch": epoch})  # earlier versions counted from 0
    network = checkpoint.network.to(device)
    try:
        network.fit_banks()  # as an export does: test the artifact's bank, not the smaller one of the training
        forms: tuple[Form, ...] = ("bank", "exact")
    except BankError:
        forms = ("exact",)
    figures: dict[str, float] = {}
    for form in forms:
        found, _ = classify(
            network, prepared.front, prepared.test, checkpoint.tail_steps, form, 32 if form == "exact" else 128
        )
        figures[form] = accuracy(found, prepared.test)
    truth = torch.tensor([item.label for item in prepared.test])
    by_class = {
        name: float((found == truth)[truth == label].double().mean())
        for label, name in enumerate(prepared.names)
        if bool((truth == label).any())
    }
    network.to("cpu")
    result = TestResult(len(prepared.test), figures.get("bank"), figures.get("exact"), by_class, epoch)
    replace_file(path, (json.dumps(asdict(result) | {"data": data}, indent=1, ensure_ascii=False) + "\n").encode())
    return result


def fit(
    data: Data,
    labels: Sequence[object] | NDArray[Any] | torch.Tensor | None = None,
    *,
    groups: Sequence[object] | NDArray[Any] | None = None,
    network: Network | NetworkSpec | None = None,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    test: Data | None = None,
    extra: Data | None = None,
    leave_out: Sequence[str] = (),
    out: str | Path | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    device: str = "cpu",
    on_epoch: Callable[[History], None] | None = None,
) -> Fitted:
    """Train a network on labelled data.

    Args:
        data: a path as ``hetsyn train`` takes it; or arrays by name as in a ``.npz`` file; or spikes (0 and 1) or
            values, [examples, steps, channels] or a list of [steps, channels].
        labels: numbers or texts, one an example, if ``data`` has none.
        groups: for example speakers, one an example, if ``data`` has none.
        network: your own network, or its description; None: as the configuration says. Training starts from a network's
            weights and changes them. Its step applies to spikes with times and rows of values.
        config: name or path of a configuration, or its values; None for the shipped one of the kind of data.
        test: data that judge the network, instead of a part of ``data``.
        extra: further data for training alone.
        leave_out: groups that judge the network and are not trained on.
        out: folder of the run; an interrupted run goes on in it. None: a temporary folder.
        epochs, seed: instead of the configuration's.
        device: ``cpu`` or ``cuda``.
        on_epoch: called with the history after each epoch.

    Raises:
        DataError: the data cannot be read or do not suffice.
        ConfigError: there is no such configuration, or it does not fit the data.
        SpecError: no network can have this description.
        RunError: the folder holds a run of another configuration, or a parameter is not finite any more.
        DeviceError: there is no such device.
    """
    named = data if isinstance(data, str | Path | Examples) else as_arrays(data, labels, groups)
    if named is data and (labels is not None or groups is not None):
        raise DataError("labels and groups come from the data at a path: leave the arguments out")
    settings = resolved(config, _kind_of(named), epochs=epochs, seed=seed)
    spec = network.spec if isinstance(network, Network) else network
    if spec is not None:
        settings = _as_of(settings, spec, _kind_of(named))
    prepared = prepare(
        _examples(named, settings),
        settings,
        test=None if test is None else _examples(test, settings),
        extra=None if extra is None else _examples(extra, settings),
        leave_out=leave_out,
        spec=spec,
    )
    own = network if isinstance(network, Network) else None
    callbacks = Callbacks(on_evaluation=on_epoch)
    if out is not None:
        return train_prepared(prepared, Path(out), network=own, device=device, callbacks=callbacks)
    with tempfile.TemporaryDirectory(prefix="hetsyn-fit-") as folder:
        return train_prepared(prepared, Path(folder), network=own, device=device, callbacks=callbacks)


def resolved(
    config: str | Path | Mapping[str, Any] | Config | None,
    kind: Kind,
    *,
    epochs: int | None = None,
    seed: int | None = None,
) -> Config:
    """Load a configuration for a kind of data, and change its epochs and seed."""
    settings = config if isinstance(config, Config) else load_config(config, kind)
    if epochs is not None:
        settings = replace(settings, training=replace(settings.training, epochs=epochs))
    return settings if seed is None else replace(settings, seed=seed)


def _as_of(config: Config, spec: NetworkSpec, kind: Kind) -> Config:
    """Return a copy with a network's step and, for spikes, its channels."""
    encoder, step_s = config.encoder, spec.step_s
    spikes, values = replace(encoder.spikes, step_s=step_s), replace(encoder.values, step_s=step_s)
    channels = spec.channels if kind == "spikes" else config.network.channels
    network = replace(config.network, channels=channels)
    return replace(config, network=network, encoder=replace(encoder, spikes=spikes, values=values))


def _kind_of(data: str | Path | Examples | Arrays) -> Kind:
    if isinstance(data, Examples):
        return data.kind
    if isinstance(data, str | Path):
        return kind_of(Path(data))
    return "values" if "values" in data else "spikes"


def _examples(data: Data, config: Config) -> Examples:
    if isinstance(data, Examples):
        return data
    if isinstance(data, str | Path):
        return read(Path(data), config)
    return examples_of(as_arrays(data, None, None), config, "the arrays")
