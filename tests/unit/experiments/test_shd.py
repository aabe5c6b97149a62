"""Twenty digits in spikes: whose files are taken, how speakers are left out, and how bins become steps."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from experiments.catalog import EXPERIMENTS, smoke
from experiments.plan import BASE
from experiments.shd import Shd, ShdSpec, coarser
from experiments.task import MissingData
from hetsyn_model.training.data import ShdSample, SpikeRecording, write_shd
from hetsyn_model.training.voices.digits import KEYS

SPEAKERS = 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every speaker of a file says every class once; a class has a unit of its own, a speaker a time."""
    for name, speakers in (("shd_train.h5", range(SPEAKERS)), ("shd_test.h5", range(SPEAKERS, SPEAKERS + 2))):
        samples = [
            ShdSample(np.array([0.002 + 0.004 * s, 0.1]), np.array([1 + label, 699]), label, s)
            for s in speakers
            for label in range(20)
        ]
        write_shd(tmp_path / name, samples, KEYS, [f"v{n}" for n in range(SPEAKERS + 2)], "a test")
    return tmp_path


def test_the_seed_chooses_speakers_that_validate_and_no_others_do(folder: Path) -> None:
    left_out = []
    for seed in range(6):
        train, validation = Shd(ShdSpec(), folder, seed).split()
        trained, judged = ({r.speaker for r in part} for part in (train, validation))
        assert trained | judged == set(range(SPEAKERS))
        assert not trained & judged
        left_out.append(judged)
    assert left_out == [{0, 6}, {1, 7}, {2}, {3}, {4}, {5}]


def test_batches_have_shds_shape(folder: Path) -> None:
    task = Shd(ShdSpec(), folder)
    batch = task.training_batch(16, 0, 3)
    assert batch.dense().shape == (16, 250, 700)
    assert batch.steps.tolist() == [250] * 16
    again = task.training_batch(16, 0, 3)
    assert torch.equal(batch.target, again.target)
    assert torch.equal(batch.events.units, again.events.units)
    assert sum(len(each.steps) for each in task.test()) == 40
    for stream, label in zip(batch.dense(), batch.target.tolist(), strict=True):
        assert stream[:, 700 - 1 - label].any()


def test_bins_are_put_together_into_steps(folder: Path) -> None:
    sample = SpikeRecording(np.array([0, 1, 1, 249], np.int32), np.array([5, 5, 6, 0], np.int32), 3, 4)
    merged = coarser(sample, 2)
    assert (merged.steps.tolist(), merged.units.tolist()) == ([0, 0, 124], [5, 6, 0])
    assert (merged.label, merged.speaker) == (3, 4)
    task = Shd(ShdSpec(bins_a_step=2), folder)
    assert task.training_batch(4, 0, 0).dense().shape == (4, 125, 700)
    assert task.shape.step_s == pytest.approx(0.008)


def test_the_files_of_the_other_data_set_are_refused(folder: Path) -> None:
    with pytest.raises(MissingData, match=r"belongs to the synthesised set: use hetsyn experiment shd$"):
        Shd(ShdSpec("recorded"), folder).test()
    for name in ("shd_train.h5", "shd_test.h5"):
        with h5py.File(folder / name, "a") as file:
            del file.attrs["source"]  # as SHD has none
    assert Shd(ShdSpec("recorded"), folder).test()
    with pytest.raises(MissingData, match=r"belongs to the recorded set: use hetsyn experiment shd-recorded$"):
        Shd(ShdSpec(), folder).test()


def test_each_experiment_says_which_data_set_its_results_are_of() -> None:
    found = {name: EXPERIMENTS[name]().condition(BASE).task_spec for name in ("shd", "shd-recorded")}
    assert [getattr(spec, "data_set", None) for spec in found.values()] == ["synthesised", "recorded"]


def test_missing_files_are_reported_with_what_makes_them(folder: Path) -> None:
    with pytest.raises(MissingData, match=r"give --data .*hetsyn train shd-voices"):
        Shd().test()
    (folder / "shd_test.h5").unlink()
    with pytest.raises(MissingData, match=r"there is no file .*shd_test\.h5; `hetsyn train shd-voices"):
        Shd(ShdSpec(), folder).test()
    (folder / "shd_test.h5").write_bytes(b"no")
    with pytest.raises(MissingData, match="not an SHD file"):
        Shd(ShdSpec(), folder).test()


def test_a_file_without_speakers_is_refused(folder: Path) -> None:
    with h5py.File(folder / "shd_train.h5", "a") as file:
        del file["extra/speaker"]
    with pytest.raises(MissingData, match="no extra/speaker"):
        Shd(ShdSpec(), folder).split()


def test_the_smoke_version_needs_no_files() -> None:
    for name in ("shd", "shd-recorded"):
        spec = smoke(EXPERIMENTS[name]()).condition(BASE).task_spec
        assert isinstance(spec, ShdSpec)
        assert spec.data_set == "drawn"
        task = Shd(spec)
        assert {r.speaker for r in task.read("shd_test.h5")}.isdisjoint(r.speaker for r in task.read("shd_train.h5"))
        assert len(task.test()[0].steps) == 40
