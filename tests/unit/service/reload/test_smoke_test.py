from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.contract.artifact import Artifact
from service.errors import ArtifactError
from service.models.catalog import ModelCatalog
from service.models.model import Model
from tests.support.artifact import Takes, write_artifact
from tests.support.fake_graph import load_fake
from tests.support.gate import Gate
from tests.support.smoke_tested import smoke_tested


def test_the_smoke_test_runs_every_kind(model: Model, gate: Gate) -> None:
    smoke_tested(model)
    # spikes and sound, two chunks each; sound takes the encoder as well
    assert gate.calls == 2 + 2 * 2
    gate.failure = ArtifactError("no")
    with pytest.raises(ArtifactError, match="no"):
        smoke_tested(model)


@pytest.mark.parametrize(
    ("takes", "calls"),
    [
        ("spikes", 2),
        ("values", 2 + 2),  # spikes, and values
        ("rows", 2 + 2 * 2),  # spikes, and values through the encoder
        ("frames", 2 + 2 + 2),  # spikes, values, and sound
    ],
)
def test_the_smoke_test_runs_what_the_model_takes(tmp_path: Path, gate: Gate, takes: Takes, calls: int) -> None:
    write_artifact(tmp_path, takes=takes)
    smoke_tested(ModelCatalog(tmp_path, load=gate.load).get())
    assert gate.calls == calls


def test_a_state_that_no_session_can_begin_with_is_the_model_s_fault(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["network"]["state"][-2]["initial"] = 5.0  # of the score, which begins with 0
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=f"{folder}: the state that it begins with has"):
        smoke_tested(Model(Artifact.open(folder), load_fake))
