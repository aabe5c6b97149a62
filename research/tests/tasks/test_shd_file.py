"""Files in SHD's form, read and refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from hetsyn_model.training.datasets.data import DataError, collate
from research.tasks.shd_file import SHD_CHANNELS, SHD_STEPS, read_shd


def write_raw(path: Path, times: list[list[float]], units: list[list[int]], labels: list[int]) -> None:
    """A file in the layout of the Spiking Heidelberg Digits."""
    with h5py.File(path, "w") as file:
        spikes = file.create_group("spikes")
        for name, rows, dtype in (("times", times, "f2"), ("units", units, "u2")):
            data = spikes.create_dataset(name, (len(rows),), dtype=h5py.vlen_dtype(np.dtype(dtype)))
            for index, row in enumerate(rows):
                data[index] = np.array(row, dtype)
        file["labels"] = np.array(labels, "u2")
        file["extra/speaker"] = np.zeros(len(labels), "u2")


def test_shd_is_binned_as_the_reference_bins_it(tmp_path: Path) -> None:
    #   bin b holds ((b-1)*4 ms, b*4 ms]; repeats collapse; channel 700 - unit; unit 0 and late spikes dropped
    write_raw(
        tmp_path / "shd.h5", [[0.0, 0.003, 0.0031, 0.5, 0.9961, 1.2], [0.1]], [[699, 10, 10, 0, 1, 5], [1]], [3, 19]
    )
    first, second = read_shd(tmp_path / "shd.h5")
    assert list(zip(first.steps.tolist(), first.units.tolist(), strict=True))[:2] == [(0, 1), (1, 690)]
    assert first.label == 3
    assert (second.steps.tolist(), second.units.tolist(), second.label) == ([25], [699], 19)
    events = collate([first, second], SHD_CHANNELS, SHD_STEPS)
    dense = events.dense()
    assert tuple(dense.shape) == (2, 250, 700)
    assert dense.sum() == first.units.size + 1
    assert dense[0, 1, 690] == 1 and dense[1, 25, 699] == 1  # noqa: PT018
    assert torch.equal(events.values, torch.ones(events.units.numel()))


def test_a_unit_beyond_shds_is_refused(tmp_path: Path) -> None:
    write_raw(tmp_path / "shd.h5", [[0.1, 0.2]], [[3, 900]], [0])
    with pytest.raises(DataError, match=r"units from 3 to 900: SHD has 0 to 699$"):
        read_shd(tmp_path / "shd.h5")


def test_a_file_that_is_not_shd_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no")
    with pytest.raises(DataError, match="not an SHD file"):
        read_shd(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["labels"] = [1]
    with pytest.raises(DataError, match="not an SHD file"):
        read_shd(tmp_path / "b.h5")
    write_raw(tmp_path / "c.h5", [[0.1]], [[3]], [0])
    with h5py.File(tmp_path / "c.h5", "a") as file:
        file.attrs["source"] = "a synthesiser"
    with pytest.raises(DataError, match=r"not SHD, but made by a synthesiser: https://zenkelab\.org has SHD"):
        read_shd(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "a") as file:
        del file.attrs["source"], file["extra/speaker"]
    with pytest.raises(DataError, match="extra/speaker"):
        read_shd(tmp_path / "c.h5")
