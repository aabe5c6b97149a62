"""Artifact folders: complete, verified, never half-written, never overwritten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.evaluation import Evaluation, seeded_streams
from export.folder import ArtifactPathError
from export.graphs.encoder_graph import encoder_graph
from export.graphs.torchscript import NetworkScript
from export.own_network import CHECKPOINT, Source, write_artifact
from export.parity import ParityError
from hetsyn_model import Compiled, DecisionSpec, Network, NetworkSpec
from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.training.checkpoint import Checkpoint
from service.contract.artifact import Artifact
from tests.support.paths import ROOT

ENCODER = EncoderSpec(bands=5, levels=3)


def source() -> Source:
    spec = NetworkSpec(channels=ENCODER.channels, hidden=(12,), outputs=3, step_s=0.01, decision=DecisionSpec())
    return Source(Network(spec, seed=1), "tiny", "1", "a test", ("a", "b", "c"), "bands", ENCODER, 4, {"seed": 1})


def evaluation() -> Evaluation:
    return Evaluation(seeded_streams(ENCODER.channels, 0.1, streams=40, steps=20), torch.arange(40) % 3)


def test_the_manifest_tells_all(tmp_path: Path) -> None:
    report = write_artifact(source(), evaluation(), tmp_path / "tiny/1", audio=torch.zeros(1, 800))
    manifest = Artifact.open(tmp_path / "tiny/1").manifest
    assert (manifest.name, manifest.version, manifest.labels, manifest.decision.tail_steps) == (
        "tiny",
        "1",
        ("a", "b", "c"),
        4,
    )
    assert manifest.encoder is not None
    assert manifest.encoder.samples_per_step == 80
    assert set(manifest.files) == {
        "encoder.onnx",
        "bank.onnx",
        "bank.pt",
        "golden.npz",
        "network.pt",
    }
    assert manifest.network.form == "bank"
    assert max(manifest.network.kernel_error.values()) <= 1e-3
    assert manifest.network.spike_mismatch == 0.0
    assert report.state_bytes == manifest.network.state_bytes
    assert report.accuracy == manifest.network.accuracy
    assert manifest.provenance["seed"] == 1
    golden = np.load(tmp_path / "tiny/1/golden.npz")
    assert golden["bank.readout"].shape == (4, int(golden["steps"].max()), 3)


def test_the_size_of_the_banks_can_be_given(tmp_path: Path) -> None:
    write_artifact(source(), evaluation(), tmp_path / "tiny/1", bank_size=3)
    assert set(Artifact.open(tmp_path / "tiny/1").manifest.network.bank_sizes.values()) == {3}


def test_no_file_names_the_machine_that_wrote_it(tmp_path: Path) -> None:
    write_artifact(source(), evaluation(), tmp_path / "tiny/1")
    for path in (tmp_path / "tiny/1").iterdir():
        assert str(ROOT).encode() not in path.read_bytes(), path.name


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "tiny/1").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="never overwritten"):
        write_artifact(source(), evaluation(), tmp_path / "tiny/1")


def test_a_refused_artifact_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(compiled: Compiled) -> NetworkScript:
        return NetworkScript(Network(source().network.spec, seed=2).compile(compiled.form))

    monkeypatch.setattr("export.own_network.NetworkScript", wrong)

    with pytest.raises(ParityError, match="TorchScript"):
        write_artifact(source(), evaluation(), tmp_path / "tiny/1")
    assert list(tmp_path.rglob("*")) == []


def test_a_killed_write_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Path, target: Path) -> Path:  # noqa: ARG001
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        write_artifact(source(), evaluation(), tmp_path / "tiny/1")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_name_that_no_server_reads_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ArtifactPathError, match="NAME/VERSION"):
        write_artifact(replace(source(), name="my model"), evaluation(), tmp_path / "my model/1")
    with pytest.raises(ArtifactPathError, match="version ''"):
        write_artifact(replace(source(), version=""), evaluation(), tmp_path / "tiny")


def test_the_encoder_is_verified_without_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(ENCODER, spacing_db=ENCODER.spacing_db + 1)
    monkeypatch.setattr("export.encoders.encoder_graph", lambda _: encoder_graph(other))
    with pytest.raises(ParityError, match="encoder"):
        write_artifact(source(), evaluation(), tmp_path / "tiny/1")


def test_a_network_of_double_precision_is_exported_in_single(tmp_path: Path) -> None:
    doubled = source()
    doubled.network.double()
    write_artifact(doubled, evaluation(), tmp_path / "tiny/1")
    assert doubled.network.dtype == torch.float64
    assert Checkpoint.load(tmp_path / "tiny/1" / CHECKPOINT).network.dtype == torch.float32
