"""Runs bring all that an export needs: names in ``best.pt``, and streams beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export.sources import Exported, from_checkpoint
from hetsyn_model.events import Events
from hetsyn_model.network import Network
from hetsyn_model.spec import NetworkSpec
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.config import Config
from hetsyn_model.training.datasets.data import DataError

STEPS = torch.tensor([3, 5])
RUN = {
    "experiment": "match",
    "condition": "base",
    "model": "hetsyn",
    "recurrent": True,
    "seed": 1,
    "training": {"bank_size": 6, "whole_range_banks": True},
}


def leave(folder: Path, *, streams: bool = True) -> tuple[Path, torch.Tensor]:
    """A run's checkpoint, and the streams that it has left."""
    network = Network(NetworkSpec(channels=4, hidden=(3,), outputs=2))
    best = folder / "best.pt"
    labels = ("same", "other")
    saved = Checkpoint(network, None, 0, 7, RUN, labels, "Two cues", input_description="Cues left and right")
    best.write_bytes(saved.to_bytes())
    dense = (torch.rand(2, 5, 4) < 0.5).float()
    dense[0, 3:] = 0
    events = Events.of(dense)
    kept = {"steps": STEPS, "row_splits": events.row_splits, "units": events.units, "channels": 4}
    if streams:
        torch.save(kept | {"target": torch.tensor([1, 0])}, folder / "validation.pt")
    return best, dense


def export(best: Path, data: Path | None = None) -> Exported:
    return from_checkpoint(best, Path("models/match/1"), data)


def test_an_experiments_run_is_verified_on_the_streams_that_it_left(tmp_path: Path) -> None:
    best, dense = leave(tmp_path)
    exported = export(best)
    assert torch.equal(exported.evaluation.streams.spikes, dense)
    assert torch.equal(exported.evaluation.streams.steps, STEPS)
    assert exported.evaluation.labels is not None
    assert exported.evaluation.labels.tolist() == [1, 0]
    assert (exported.bank_size, exported.whole_range_banks) == (6, True)
    source = exported.source
    assert (source.name, source.version) == ("match", "1")
    assert (source.description, source.input_description) == ("Two cues", "Cues left and right")
    assert source.labels == ("same", "other")
    assert source.provenance["experiment"] == "match"
    assert source.provenance["epoch"] == 7
    assert source.experiment == RUN


def test_without_its_streams_the_command_that_makes_them_is_named(tmp_path: Path) -> None:
    best, _ = leave(tmp_path, streams=False)
    with pytest.raises(DataError, match=r"python -m research\.runs\.for_export FILE FOLDER"):
        export(best)


def test_other_data_are_refused(tmp_path: Path) -> None:
    best, _ = leave(tmp_path)
    with pytest.raises(DataError, match="leave out --data"):
        export(best, tmp_path)


def test_a_trained_run_keeps_its_labels_in_the_order_of_its_outputs(tmp_path: Path) -> None:
    config = Config(description="of the configuration", names={"y": "yes", "n": "no", "m": "perhaps"}, rejected=("m",))
    network = Network(NetworkSpec(channels=4, hidden=(3,), outputs=3))
    saved = Checkpoint(network, None, 10, 2, labels=("perhaps", "no", "yes"), config=config.to_dict())
    (tmp_path / "best.pt").write_bytes(saved.to_bytes())
    source = export(tmp_path / "best.pt").source
    assert (source.labels, source.rejected_labels) == (("perhaps", "no", "yes"), ("perhaps",))
    assert (source.description, source.tail_steps) == ("of the configuration", 10)
