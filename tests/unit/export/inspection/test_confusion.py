"""What an export counts of its labelled examples, and how ``hetsyn inspect`` shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from export.evaluation import Evaluation, seeded_streams
from export.inspection.commands import inspect
from export.own_network import Source, write_artifact
from export.parity import run_torch
from hetsyn_model import DecisionSpec, Network, NetworkSpec
from service.contract.artifact import Artifact
from tests.support.artifacts.artifact_file import npz, rewrite
from tests.support.artifacts.leaky_values import write_leaky

LABELS = ("left & right", "[up]", "down")
STREAMS = seeded_streams(8, 0.2, streams=40, steps=20)


def shown(folder: Path, *options: str) -> str:
    done = CliRunner().invoke(inspect, [str(folder), *options], env={"COLUMNS": "120"})
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def exported(folder: Path, labels: tuple[str, ...], truth: torch.Tensor | None) -> Network:
    network = Network(
        NetworkSpec(channels=8, hidden=(12,), outputs=len(labels), step_s=0.01, decision=DecisionSpec()), seed=1
    )
    source = Source(network, "tiny", "1", "a test", labels, "bands")
    write_artifact(source, Evaluation(STREAMS, truth), folder, form="exact", with_torchscript=False)
    return network


def test_an_export_counts_what_each_label_was_taken_for(tmp_path: Path) -> None:
    truth = torch.arange(40) % 3
    network = exported(tmp_path / "tiny/1", LABELS, truth)
    answers = run_torch(network.compile("exact"), STREAMS).probabilities.argmax(-1)
    counts = [[int(((truth.numpy() == i) & (answers == j)).sum()) for j in range(3)] for i in range(3)]
    assert json.loads(shown(tmp_path / "tiny/1", "--json"))["confusion"] == counts
    assert Artifact.open(tmp_path / "tiny/1").manifest.network.accuracy == np.trace(counts) / 40
    table = shown(tmp_path / "tiny/1").partition("confusions")[2]
    for i, label in enumerate(LABELS):
        for j, answer in enumerate(LABELS):
            row = re.search(rf"{re.escape(label)} +{re.escape(answer)} +(\d+)", table)
            assert (int(row[1]) if row else 0) == (0 if i == j else counts[i][j])


def test_an_export_without_labels_counts_nothing(tmp_path: Path) -> None:
    exported(tmp_path / "tiny/1", LABELS, None)
    assert json.loads(shown(tmp_path / "tiny/1", "--json"))["confusion"] is None
    assert "answered as" not in shown(tmp_path / "tiny/1")


def test_of_a_network_that_is_always_right_inspect_says_only_that(tmp_path: Path) -> None:
    network = exported(tmp_path / "any/tiny/1", LABELS, None)
    answers = run_torch(network.compile("exact"), STREAMS).probabilities.argmax(-1)
    exported(tmp_path / "right/tiny/1", LABELS, torch.from_numpy(answers))
    assert shown(tmp_path / "right/tiny/1").endswith("\nno confusions\n")


def test_of_many_labels_the_most_frequent_confusions_are_listed(tmp_path: Path) -> None:
    exported(tmp_path / "tiny/1", tuple(f"word {index}" for index in range(20)), torch.arange(40) % 20)
    counts = np.array(json.loads(shown(tmp_path / "tiny/1", "--json"))["confusion"])
    np.fill_diagonal(counts, 0)
    rows = re.findall(r"word (\d+) +word (\d+) +(\d+)", shown(tmp_path / "tiny/1"))
    assert [int(count) for *_, count in rows] == sorted(counts.ravel().tolist(), reverse=True)[:10]
    assert all(counts[int(i), int(j)] == int(count) for i, j, count in rows)


def packed(counts: NDArray[Any]) -> bytes:
    return npz(**{"bank.confusion": counts, "exact.confusion": counts})


@pytest.mark.parametrize("counts", ["<b>", np.nan, 1j, None], ids=["texts", "floats", "complex", "flat"])
def test_confusions_that_are_no_counts_are_left_out(tmp_path: Path, counts: object) -> None:
    write_leaky(tmp_path / "models", "sensor", channels=3)
    folder = tmp_path / "models/sensor/1"
    labels = len(json.loads((folder / "manifest.json").read_text())["labels"])
    rewrite(folder, "golden.npz", packed(np.ones((labels, labels), int)))
    assert "answered as" in shown(folder)
    rewrite(folder, "golden.npz", packed(np.ones(labels, int) if counts is None else np.full((labels, labels), counts)))
    assert "answered as" not in shown(folder)
    rewrite(folder, "golden.npz", b"PK\x03\x04 damaged")
    assert "answered as" not in shown(folder)
