"""A checkpoint of the paper's reference code, judged on SHD's test file: in the exact form and in the bank."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from hetsyn_model import CheckpointError, Network, from_reference
from hetsyn_model.run_folder import RunError
from research.runs.run import evaluate
from research.tasks.shd import Shd

ERROR_BOUND = 1e-3  # of a kernel, as in exports


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
    mappings = [part for part in parts if isinstance(part, Mapping) and part]
    weights = [part for part in mappings if all(isinstance(value, Tensor) for value in part.values())]
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


def judge_checkpoint(path: Path, data: Path) -> Iterator[str]:
    """Say what a checkpoint gets right in the bank, and then in the exact form, which takes much longer.

    Args:
        data: folder with SHD's test file.

    Raises:
        RunError: the file has no network for SHD.
        MissingData: there is no test file.
    """
    network, task = read_checkpoint(path), Shd(folder=data)
    test = task.test()
    yield f"{path} on all recordings of SHD's test file"
    worst = max(network.fit_banks(error_bound=ERROR_BOUND).values())
    sizes = ", ".join(str(bank.size) for bank in network.banks.values())
    yield f"bank of {sizes} decays, worst kernel {worst:.1e}: {evaluate(network, task, test, 'bank').figure:.2%}"
    yield f"exact form: {evaluate(network, task, test, 'exact').figure:.2%}"
    yield "the paper: 92.36%, the best of 100 epochs by this test; epochs 40 to 99 of its log: 91.54%"
