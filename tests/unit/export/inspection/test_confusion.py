"""What an export counts of its labelled examples, and the page of an artifact that has it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from export.evaluation import Evaluation, seeded_streams
from export.inspection.page import as_html, read_confusion
from export.own_network import Source, write_artifact
from export.parity import run_torch
from hetsyn_model import DecisionSpec, Network, NetworkSpec
from service.contract.artifact import Artifact

LABELS = ("left & right", "<up>", "down")


def test_an_export_counts_what_each_label_was_taken_for(tmp_path: Path) -> None:
    network = Network(NetworkSpec(channels=8, hidden=(12,), outputs=3, step_s=0.01, decision=DecisionSpec()), seed=1)
    streams, truth = seeded_streams(8, 0.2, streams=40, steps=20), torch.arange(40) % 3
    source = Source(network, "tiny", "1", "a test", LABELS, "bands")
    write_artifact(source, Evaluation(streams, truth), tmp_path / "tiny/1", form="exact")
    artifact = Artifact.open(tmp_path / "tiny/1")
    counts = read_confusion(artifact)
    assert counts is not None
    heard = run_torch(network.compile("exact"), streams).probabilities.argmax(-1)
    assert counts.tolist() == [[int(((truth.numpy() == i) & (heard == j)).sum()) for j in range(3)] for i in range(3)]
    assert artifact.manifest.network.accuracy == np.trace(counts) / 40
    page = as_html(artifact, {})
    assert f"{np.trace(counts)} of 40 examples of the export right" in page
    assert page.count('<th scope="row">') == 3
    assert '<th scope="row">&lt;up&gt;</th>' in page
    assert "<h2>Kernels</h2>" not in page  # there is no bank


def test_an_export_without_labels_counts_nothing(tmp_path: Path) -> None:
    network = Network(NetworkSpec(channels=8, hidden=(12,), outputs=3, decision=DecisionSpec()), seed=1)
    source = Source(network, "tiny", "1", "a test", LABELS, "bands")
    write_artifact(source, Evaluation(seeded_streams(8, 0.2, streams=4, steps=20)), tmp_path / "tiny/1", form="exact")
    artifact = Artifact.open(tmp_path / "tiny/1")
    assert read_confusion(artifact) is None
    assert "Confusion" not in as_html(artifact, {})


def test_of_many_labels_the_most_frequent_confusions_are_listed(tmp_path: Path) -> None:
    labels = tuple(f"word {index}" for index in range(45))
    network = Network(NetworkSpec(channels=8, hidden=(6,), outputs=45, decision=DecisionSpec()), seed=1)
    streams, truth = seeded_streams(8, 0.2, streams=90, steps=20), torch.arange(90) % 45
    write_artifact(
        Source(network, "tiny", "1", "a test", labels, "bands"),
        Evaluation(streams, truth),
        tmp_path / "tiny/1",
        form="exact",
    )
    artifact = Artifact.open(tmp_path / "tiny/1")
    counts = read_confusion(artifact)
    assert counts is not None
    np.fill_diagonal(counts, 0)
    page = as_html(artifact, {})
    rows = re.findall(r"<tr><td>word (\d+)</td><td>word (\d+)</td><td>(\d+)</td></tr>", page)
    assert [int(count) for *_, count in rows] == sorted(counts.ravel().tolist(), reverse=True)[:20]
    assert all(counts[int(i), int(j)] == int(count) for i, j, count in rows)
    assert 'scope="row"' not in page
