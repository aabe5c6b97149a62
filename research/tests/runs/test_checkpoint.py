"""A checkpoint of the paper's code on SHD's test file: figures, and what is refused; SHD's files at their full size."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from research.commands import experiment
from research.runs.checkpoint import read_checkpoint
from research.tasks.shd_file import read_shd

SIZES = (700, 128, 64, 20)
READER = CliRunner(env={"COLUMNS": "200"})


def weights() -> dict[str, torch.Tensor]:
    """The paper's network, which tells classes apart by one channel each, under the names of its code."""
    found: dict[str, torch.Tensor] = {}
    for index, (inputs, neurons) in enumerate(pairwise(SIZES), start=1):
        path = torch.zeros(neurons, inputs)
        path[torch.arange(20), torch.arange(20)] = 3.0
        decays = torch.linspace(0.82, 0.95, neurons * inputs).reshape(neurons, inputs)
        layer, suffix = (f"layer_hidden{index}", str(index)) if index < 3 else ("layer_out", "_out")
        if index < 3:
            found |= {f"{layer}.w_in": path, f"{layer}.rho_in": decays, f"{layer}.b_in": torch.zeros(neurons, inputs)}
            square = torch.zeros(neurons, neurons)
            found |= {f"w_rec{suffix}": square, f"rho_rec{suffix}": square + 0.9, f"b_rec{suffix}": square}
        else:
            found |= {"w_out": path, "rho_out": decays, "b_out": torch.zeros(neurons, inputs)}
    return found


def write_files(folder: Path, samples: int, spikes: int, wrong: int = 0) -> None:
    """Write a test file in SHD's layout.

    Args:
        folder: of the file.
        samples: number of recordings.
        spikes: of each.
        wrong: so many recordings have another label.
    """
    rng = np.random.default_rng(0)
    kinds = {"times": h5py.vlen_dtype(np.float16), "units": h5py.vlen_dtype(np.uint16)}
    with h5py.File(folder / "shd_test.h5", "w") as file:
        rows = {name: file.create_dataset(f"spikes/{name}", (samples,), dtype=kind) for name, kind in kinds.items()}
        labels = np.arange(samples) % 20
        for index, label in enumerate(labels):
            units = rng.integers(1, 680, spikes + index % 3).astype(np.uint16)
            units[: spikes // 2] = 700 - label
            rows["units"][index] = units
            rows["times"][index] = rng.random(len(units)).astype(np.float16)
        file["labels"] = np.where(np.arange(samples) < wrong, (labels + 1) % 20, labels)
        file["extra/speaker"] = rng.integers(0, 12, samples)


@pytest.mark.parametrize("nested", [False, True])
def test_a_checkpoint_is_judged_in_both_forms(tmp_path: Path, nested: bool) -> None:
    write_files(tmp_path, samples=40, spikes=60, wrong=4)
    saved = {"epoch": 93, "net": weights(), "optimizer": {"lr": 1e-3}} if nested else weights()
    torch.save(saved, tmp_path / "model.pth")
    done = READER.invoke(
        experiment, ["shd-recorded", "--checkpoint", str(tmp_path / "model.pth"), "--data", str(tmp_path)]
    )
    assert done.exit_code == 0, done.output
    first, bank, exact, paper = done.output.splitlines()
    assert first.endswith("on all recordings of SHD's test file")
    assert bank.startswith("bank of ")
    assert float(bank.split("worst kernel ")[1].split(":")[0]) <= 1e-3
    assert bank.endswith(": 90.00%")
    assert exact == "exact form: 90.00%"
    assert paper.startswith("the paper: 92.36%, the best of 100 epochs by this test")


def test_other_files_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "model.pth"

    def said(*arguments: str) -> str:
        done = READER.invoke(experiment, [*arguments, "--checkpoint", str(model)])
        assert done.exit_code == 2
        return " ".join(done.output.split())

    with_data = ("shd-recorded", "--data", str(tmp_path))
    assert "write shd-recorded --checkpoint FILE.pth --data DIR" in said("delayed-match", "--data", str(tmp_path))
    assert "write shd-recorded --checkpoint FILE.pth --data DIR" in said("shd-recorded")
    model.write_bytes(b"no")
    assert "not a file of tensors: write one with torch.save(network.state_dict(), FILE)" in said(*with_data)
    torch.save({"epoch": 3}, model)
    assert "0 sets of tensors: give the state_dict of the network alone" in said(*with_data)
    torch.save(weights() | {"w_in9": torch.zeros(2)}, model)
    assert "unknown entry 'w_in9'" in said(*with_data)
    smaller = weights()
    smaller["layer_hidden1.w_in"] = torch.zeros(128, 30)
    smaller["layer_hidden1.rho_in"] = smaller["layer_hidden1.b_in"] = torch.zeros(128, 30)
    torch.save(smaller, model)
    assert "a network of 30 channels and 20 classes; SHD has 700 and 20" in said(*with_data)
    torch.save(weights(), model)
    assert read_checkpoint(model).spec.hidden == (128, 64)
    assert "there is no file" in said(*with_data)


@pytest.mark.parametrize("samples", [2264, 8156])
def test_files_of_shds_size_are_read(tmp_path: Path, samples: int) -> None:
    write_files(tmp_path, samples, spikes=8000)
    recordings = read_shd(tmp_path / "shd_test.h5")
    assert len(recordings) == samples
    assert {recording.label for recording in recordings} == set(range(20))
    assert all(4000 < len(recording.steps) <= 8002 for recording in recordings)
