"""What ``export`` writes is what the service reads: the same answers as torch, through the engine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch

from hetsyn_model import Network
from hetsyn_model.encoders.encoder import Encoder, EncoderSpec
from hetsyn_model.state import Form
from service.contract.artifact import Artifact
from service.engine.engine import Engine
from service.engine.raster import spikes_of
from service.engine.work import STEP_BYTES, Outcome, Work, initial_stream
from service.errors import ArtifactError
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.wire.chunk import AudioChunk, Chunk, spike_chunk

TAIL_STEPS = 7


@pytest.fixture
def model(models: Path) -> Model:
    return ModelCatalog(models).get(None, None)


def through(model: Model, chunks: Sequence[Chunk | None]) -> list[Outcome]:
    """One stream's chunks through the engine, the last one with the end."""
    engine, stream, outcomes = Engine(10_000, 64), initial_stream(model), []
    for index, chunk in enumerate(chunks):
        engine.check(model, stream, chunk)
        (outcome,) = engine.run(model, [Work(stream, chunk, index + 1 == len(chunks))])
        stream = outcome.stream
        outcomes.append(outcome)
    return outcomes


def sound(samples: int = 3333) -> np.ndarray:
    rng = np.random.default_rng(1)
    n = np.arange(samples)
    return (0.4 * np.sin(2 * np.pi * (300 + 0.2 * n) * n / 8000) + 0.01 * rng.normal(size=samples)).astype(np.float32)


@pytest.mark.parametrize("cut", [56, 800, 100_000])
def test_audio_gives_torchs_answer(
    model: Model, network: Network, encoder_spec: EncoderSpec, form: Form, cut: int
) -> None:
    audio = sound()
    encoder = Encoder(encoder_spec)
    steps = -(-audio.size // 80) + TAIL_STEPS
    whole = torch.zeros(1, steps * 80)
    whole[0, : audio.size] = torch.from_numpy(audio)
    spikes, _ = encoder.step(whole, encoder.initial_state(1))
    with torch.no_grad():
        expected = network.rollout(spikes.float(), form)
    assert expected.hidden_spikes[1].any()
    chunks: list[Chunk] = [AudioChunk(audio[start : start + cut], 8000) for start in range(0, audio.size, cut)]
    last = through(model, chunks)[-1]
    assert np.allclose(last.result.scores, expected.scores[0], atol=1e-5)
    assert np.allclose(last.result.probabilities, expected.probabilities[0], atol=1e-6)
    assert last.stream.step == steps


@pytest.mark.parametrize("cut", [56, 800, 100_000])
def test_the_spikes_of_a_session_are_torchs(
    model: Model, network: Network, encoder_spec: EncoderSpec, form: Form, cut: int
) -> None:
    audio = sound()
    encoder = Encoder(encoder_spec)
    whole = torch.zeros(1, (-(-audio.size // 80) + TAIL_STEPS) * 80)
    whole[0, : audio.size] = torch.from_numpy(audio)
    spikes, _ = encoder.step(whole, encoder.initial_state(1))
    with torch.no_grad():
        hidden = network.rollout(spikes.float(), form).hidden_spikes
    expected = {"input": spikes[0], "hidden1": hidden[0][0], "hidden2": hidden[1][0]}
    sound_chunks: list[Chunk] = [AudioChunk(audio[start : start + cut], 8000) for start in range(0, audio.size, cut)]
    seen = shown(model, sound_chunks)
    assert seen == {name: {(t, unit) for t, unit in layer.nonzero().tolist()} for name, layer in expected.items()}
    assert all(seen.values())


def test_the_spikes_of_a_session_are_those_in_its_state_after_each_step(model: Model) -> None:
    offsets, offset = {}, 0
    for tensor in model.manifest.network.state[:-1]:
        offsets[tensor.name] = slice(offset, offset := offset + prod(tensor.shape))
    audio, engine = sound(2400), Engine(10_000, 64)
    expected: dict[str, set[tuple[int, int]]] = {"hidden1": set(), "hidden2": set()}
    stream = initial_stream(model)
    for step in range(30):
        (outcome,) = engine.run(model, [Work(stream, AudioChunk(audio[80 * step : 80 * step + 80], 8000), False)])
        stream = outcome.stream
        for layer, seen in expected.items():
            seen |= {(step, int(unit)) for unit in np.flatnonzero(stream.network[offsets[f"{layer}.spikes"]])}
    (outcome,) = engine.run(model, [Work(initial_stream(model), AudioChunk(audio, 8000), False, spikes=True)])
    assert outcome.result.raster is not None
    layers = spikes_of(model, None, outcome.result.raster, 0, 30)["layers"]
    assert {layer["name"]: set(zip(layer["times"], layer["units"], strict=True)) for layer in layers[1:]} == expected
    assert all(expected.values())


def shown(model: Model, chunks: Sequence[Chunk]) -> dict[str, set[tuple[int, int]]]:
    """Step of the session and unit of all spikes of a session of chunks, by layer."""
    engine, stream, seen = Engine(10_000, 64), initial_stream(model), dict[str, set[tuple[int, int]]]()
    for index, chunk in enumerate(chunks):
        (outcome,) = engine.run(model, [Work(stream, chunk, index + 1 == len(chunks), spikes=True)])
        raster, before = outcome.result.raster, stream.step
        assert raster is not None
        stream = outcome.stream
        spikes = spikes_of(model, chunk, raster, before, stream.step)
        for layer in spikes["layers"]:
            times = [spikes["first_step"] + time for time in layer["times"]]
            seen.setdefault(layer["name"], set()).update(zip(times, layer["units"], strict=True))
    return seen


def test_spikes_give_torchs_answer(model: Model, network: Network, encoder_spec: EncoderSpec, form: Form) -> None:
    dense = torch.rand(30, encoder_spec.channels, generator=torch.Generator().manual_seed(0)) < 0.05
    chunks: list[Chunk] = [
        spike_chunk(10, *dense[start : start + 10].nonzero().T.numpy()) for start in range(0, 30, 10)
    ]
    padded = torch.cat([dense.float(), torch.zeros(TAIL_STEPS, encoder_spec.channels)])
    with torch.no_grad():
        expected = network.rollout(padded.unsqueeze(0), form)
    last = through(model, chunks)[-1]
    assert np.allclose(last.result.scores, expected.scores[0], atol=1e-5)


def test_a_state_has_the_manifests_size(model: Model) -> None:
    assert model.initial_row.nbytes + STEP_BYTES == model.manifest.network.state_bytes


def test_a_chunk_that_fills_no_step_answers_as_the_one_before(model: Model) -> None:
    first, second = through(model, [AudioChunk(sound(1600), 8000), AudioChunk(sound(10), 8000), None])[:2]
    assert second.result.steps == 0
    assert np.array_equal(first.result.scores, second.result.scores)
    assert np.array_equal(first.result.probabilities, second.result.probabilities)


def test_the_golden_file_is_what_the_graph_gives(models: Path, model: Model, form: Form) -> None:
    golden = np.load(models / "words/1/golden.npz")
    for index, steps in enumerate(golden["steps"].tolist()):
        t, unit = golden["spikes"][index, :steps].nonzero()
        work = Work(initial_stream(model), spike_chunk(steps, t, unit), end=False)
        (outcome,) = Engine(10_000, 64).run(model, [work])
        assert np.allclose(outcome.result.probabilities, golden[f"{form}.probabilities"][index], atol=1e-6)


def test_a_changed_file_is_noticed(models: Path, tmp_path: Path, form: Form) -> None:
    shutil.copytree(models / "words/1", tmp_path / "words/1")
    path = tmp_path / f"words/1/{form}.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ArtifactError, match="differs from its hash in the manifest"):
        Artifact.open(tmp_path / "words/1")
