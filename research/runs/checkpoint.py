"""A checkpoint of the paper's reference code, judged on SHD's test file: in the exact form and in the bank."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hetsyn_model import CheckpointError, Network, from_reference
from hetsyn_model.run_folder import RunError
from hetsyn_model.state import Form
from research.runs.run import evaluate
from research.tasks.shd import Shd
from research.tasks.task import first_streams

ERROR_BOUND = 1e-3  # of a kernel, as in exports


@dataclass(frozen=True)
class JudgedForm:
    """The accuracy of a network in one form, and its decays a layer and worst kernel where the form is a bank."""

    form: Form
    accuracy: float
    decays: tuple[int, ...] = ()
    kernel_error: float = 0.0


def read_checkpoint(path: Path) -> Network:
    """Read the network of a file of ``torch.save``: tensors by the reference's names, or a mapping with such.

    Raises:
        RunError: it is no such file, or its network does not have SHD's form.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RunError(
            f"{path}: not a file of tensors: write one with torch.save(network.state_dict(), FILE) ({error})"
        ) from error
    parts = [found, *(found.values() if isinstance(found, Mapping) else ())]
    weights = [part for part in parts if isinstance(part, Mapping) and part and all(map(_is_tensor, part.values()))]
    if len(weights) != 1:
        raise RunError(f"{path}: {len(weights)} sets of tensors: give the state_dict of the network alone")
    try:
        network = from_reference(weights[0])
    except CheckpointError as error:
        raise RunError(f"{path}: {error}") from error
    shape = Shd().shape
    if (network.spec.channels, network.spec.outputs) != (shape.channels, shape.outputs):
        raise RunError(
            f"{path}: a network of {network.spec.channels} channels and {network.spec.outputs} classes; "
            f"SHD has {shape.channels} and {shape.outputs}"
        )
    return network


def judge_checkpoint(path: Path, data: Path, streams: int | None = None) -> Iterator[JudgedForm]:
    """Judge a checkpoint in the bank, and then in the exact form, which takes much longer.

    Args:
        path: of the checkpoint.
        data: folder with SHD's test file.
        streams: of the test; None: all.

    Raises:
        RunError: the file has no network for SHD.
        MissingData: there is no test file.
    """
    network, task = read_checkpoint(path), Shd(folder=data)
    test = task.test() if streams is None else first_streams(task.test(), streams)
    errors = network.fit_banks(error_bound=ERROR_BOUND)
    sizes = tuple(bank.size for bank in network.banks.values())
    yield JudgedForm("bank", evaluate(network, task, test, "bank").figure, sizes, max(errors.values()))
    yield JudgedForm("exact", evaluate(network, task, test, "exact").figure)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)
