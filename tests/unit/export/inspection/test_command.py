"""``hetsyn inspect`` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.inspection.commands import inspect
from service.errors import ArtifactError
from tests.support.artifacts.artifact import Takes, write_artifact
from tests.support.artifacts.fake_graph import LABELS, OUTPUTS


@pytest.mark.parametrize("path", ["digits", "digits/1"])
def test_inspect_prints_json(tmp_path: Path, path: str) -> None:
    write_artifact(tmp_path)
    done = CliRunner().invoke(inspect, [str(tmp_path / path), "--json"])
    assert done.exit_code == 0, done.output
    described = json.loads(done.output)
    assert described["network"]["state_bytes"] == 8 * OUTPUTS + 8
    assert described["labels"] == list(LABELS)


@pytest.mark.parametrize("takes_audio", [True, False])
def test_inspect_prints_tables(tmp_path: Path, takes_audio: bool) -> None:
    write_artifact(tmp_path, takes_audio=takes_audio, form="bank", change={"description": "[bold]a fake"})
    done = CliRunner().invoke(inspect, [str(tmp_path / "digits")], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    for expected in (
        "bank",
        "0.001",
        "1.00%",
        "90.00%",
        "6-4-3",
        "[bold]a fake",
        "sum_softmax",
        "same bits",
    ):
        assert expected in done.output
    assert ("audio at 8000 Hz" in done.output) is takes_audio


@pytest.mark.parametrize(
    ("takes", "encoder"),
    [
        ("spikes", "none: takes spikes"),
        ("values", "none: takes values"),
        ("rows", "values, 3 a step, 12 bytes of state"),
        ("frames", "none: takes audio at 8000 Hz, 6 samples a step, as they are"),
    ],
)
def test_inspect_says_what_a_model_takes(tmp_path: Path, takes: Takes, encoder: str) -> None:
    folder = write_artifact(tmp_path, takes=takes)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["network"] |= {"tolerance": 1e-5, "exactness": "C"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = CliRunner().invoke(inspect, [str(tmp_path / "digits")], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    assert encoder in done.output
    assert "within 1e-05" in done.output


@pytest.mark.parametrize(
    ("provenance", "row"), [({"epoch": 11}, "epoch 12"), ({"epoch": 300, "experiment": "shd"}, "update 300")]
)
def test_inspect_counts_epochs_as_training_does(tmp_path: Path, provenance: dict[str, object], row: str) -> None:
    write_artifact(tmp_path, change={"provenance": provenance})
    done = CliRunner().invoke(inspect, [str(tmp_path / "digits")])
    assert row in re.sub(r"[\s│|]+", " ", done.output)


def test_inspect_explains_a_damaged_artifact(tmp_path: Path) -> None:
    (write_artifact(tmp_path) / "exact.pt").write_bytes(b"")
    done = CliRunner().invoke(inspect, [str(tmp_path / "digits")])
    assert isinstance(done.exception, ArtifactError)
