"""The graph of the level-crossing encoder gives torch's spikes, and an artifact with it can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.encoders import encoder_parts, verify_encoder, wandering_values
from export.evaluation import Evaluation, padded
from export.graphs.level_crossing_graph import LEVEL, level_crossing_graph, level_crossing_state
from export.own_network import Source, write_artifact
from export.parity import ParityError
from hetsyn_model import Network, NetworkSpec, NeuronSpec
from hetsyn_model.encoders.level_crossing import BELOW_ALL, LevelCrossing, LevelCrossingSpec
from hetsyn_model.training.checkpoint import Checkpoint
from service.contract.artifact import Artifact
from service.runtime.onnx import load_graph

SPEC = LevelCrossingSpec(levels=5, step_s=0.02, offset=(10.0, -1.0, 3.0), scale=(0.3, 2.1, 0.0))


def test_the_graph_gives_torchs_spikes() -> None:
    graph = load_graph(level_crossing_graph(SPEC), use_operators=False)
    values = wandering_values(SPEC)
    assert LevelCrossing(SPEC).step(values, torch.full((4, 3), BELOW_ALL, dtype=torch.float64))[0].sum() > 100
    verify_encoder(LevelCrossing(SPEC), graph, level_crossing_state(SPEC), values)
    other = replace(SPEC, scale=(0.31, 2.1, 0.0))
    with pytest.raises(ParityError, match="encoder: ONNX Runtime differs"):
        verify_encoder(LevelCrossing(other), graph, level_crossing_state(SPEC), values)


def test_streams_of_other_lengths_keep_their_state() -> None:
    graph, encoder = load_graph(level_crossing_graph(SPEC), use_operators=False), LevelCrossing(SPEC)
    values = wandering_values(SPEC, 12)
    steps = np.array([12, 5, 0, 1])
    state = np.random.default_rng(1).normal(size=(4, 3))
    feed = {"values": values.numpy(), "steps": steps, f"state.{LEVEL}": state}
    out = graph.run(feed, ["events.row", "events.unit", f"next.{LEVEL}"])
    got = np.zeros((4 * 12, SPEC.channels), np.uint8)
    got[out["events.row"], out["events.unit"]] = 1
    assert (np.diff(out["events.row"]) >= 0).all()
    for index, length in enumerate(steps):
        spikes, after = encoder.step(values[index : index + 1, :length], torch.from_numpy(state[index : index + 1]))
        own = got.reshape(4, 12, -1)[index]
        assert np.array_equal(own[:length], spikes[0].numpy())
        assert not own[length:].any()
        assert np.array_equal(out[f"next.{LEVEL}"][index], after[0].numpy())


def test_an_artifact_says_what_it_takes(tmp_path: Path) -> None:
    spec = NetworkSpec(
        channels=SPEC.channels, hidden=(6,), outputs=2, step_s=SPEC.step_s, neuron=NeuronSpec(decay_range=(0.0, 0.9))
    )
    encoder = LevelCrossing(SPEC)
    spikes, _ = encoder.step(wandering_values(SPEC, 20), encoder.initial_state(4))
    config = {"seed": 3}
    source = Source(
        Network(spec), "sensor", "1", "a sensor", ("up", "down"), "levels", SPEC, config=config, provenance={"epoch": 4}
    )
    write_artifact(source, Evaluation(padded(list(spikes))), tmp_path / "sensor/1", bank_size=3)
    described = Artifact.open(tmp_path / "sensor/1").manifest.encoder
    assert described == encoder_parts(SPEC).description
    assert described is not None
    assert (described.kind, described.channels, described.samples_per_step) == ("values", 3, 1)
    kept = Checkpoint.load(tmp_path / "sensor/1/network.pt")
    assert (kept.encoder, kept.labels, kept.description, kept.config) == (SPEC, ("up", "down"), "a sensor", config)
