"""A stream of an artifact that was exported with a quiet start begins in the state that silence leaves behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from export.evaluation import Evaluation, seeded_streams
from export.folder import ExportError
from export.own_network import Source, write_artifact
from hetsyn_model import Network
from hetsyn_model.encoder import Encoder, EncoderSpec
from hetsyn_model.events import Events
from hetsyn_model.level_crossing import LevelCrossingSpec
from hetsyn_model.state import Form
from hetsyn_model.training.checkpoint import Checkpoint
from service.contract.initial import InitialState
from service.engine.endpointing_choice import with_manual_ends
from service.engine.engine import Engine
from service.engine.stream import StreamState, initial_stream
from service.engine.work import Outcome, Work
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.reload.golden_test import golden_test
from service.runtime.onnx import load_graph
from service.session.protocol import Answered, Known, Progress
from service.session.session import Kept, Session
from service.store.record import Packing, read
from service.wire.chunk import AudioChunk, Chunk
from tests.support.replies import Reply

QUIET_STEPS = 30
HOP = 80
ENGINE = Engine(10_000, 64)


def source_of(network: Network, encoder: EncoderSpec | LevelCrossingSpec | None, quiet_steps: int) -> Source:
    labels = ("a", "b", "c")
    return Source(network, "words", "1", "three words", labels, "bands", encoder, 7, quiet_steps=quiet_steps)


@pytest.fixture(scope="module")
def folder(network: Network, encoder_spec: EncoderSpec, form: Form, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of models with a quiet start."""
    models = tmp_path_factory.mktemp("quiet")
    evaluation = Evaluation(seeded_streams(encoder_spec.channels, 0.05, streams=4, steps=20))
    write_artifact(source_of(network, encoder_spec, QUIET_STEPS), evaluation, models / "words/1", form=form)
    return models


@pytest.fixture(scope="module")
def quiet(folder: Path) -> Model:
    return ModelCatalog(folder, None).get()


def sound(samples: int = 3333) -> np.ndarray:
    rng = np.random.default_rng(1)
    n = np.arange(samples)
    return (0.4 * np.sin(2 * np.pi * (300 + 0.2 * n) * n / 8000) + 0.01 * rng.normal(size=samples)).astype(np.float32)


def run(model: Model, stream: StreamState, chunks: Sequence[Chunk | None], *, end: bool) -> Outcome:
    outcome = None
    for index, chunk in enumerate(chunks):
        (outcome,) = ENGINE.run(model, [Work(stream, chunk, end and index + 1 == len(chunks))])
        stream = outcome.stream
    assert outcome is not None
    return outcome


def pieces(audio: np.ndarray, cut: int) -> list[Chunk]:
    return [AudioChunk(audio[start : start + cut], 8000) for start in range(0, audio.size, cut)]


def bits(outcome: Outcome) -> tuple[bytes, ...]:
    return outcome.stream.network.tobytes(), outcome.result.scores.tobytes(), outcome.result.probabilities.tobytes()


@pytest.mark.parametrize("cut", [56, 800, 100_000])
def test_a_session_gives_torchs_answer_after_silence(
    quiet: Model, network: Network, encoder_spec: EncoderSpec, form: Form, cut: int
) -> None:
    audio, encoder = sound(), Encoder(encoder_spec)
    steps = -(-audio.size // HOP) + 7
    whole = torch.zeros(1, (QUIET_STEPS + steps) * HOP)
    whole[0, QUIET_STEPS * HOP :][: audio.size] = torch.from_numpy(audio)
    spikes = encoder.step(whole, encoder.initial_state(1))[0].float()
    silence, heard = spikes[:, :QUIET_STEPS], spikes[:, QUIET_STEPS:]
    with torch.no_grad():
        expected = network.rollout(heard, form, before=Events.of(silence))
        cold = network.rollout(heard, form)
    assert silence.any()
    assert not torch.equal(expected.scores, cold.scores)
    last = run(quiet, initial_stream(quiet), pieces(audio, cut), end=True)
    assert np.allclose(last.result.scores, expected.scores[0], atol=1e-5)
    assert last.stream.step == steps


def test_it_is_the_state_of_the_same_network_that_has_heard_silence(models: Path, quiet: Model) -> None:
    cold = ModelCatalog(models, None).get()
    silence: list[Chunk] = [AudioChunk(np.zeros(QUIET_STEPS * HOP, np.float32), 8000)]
    heard = run(cold, initial_stream(cold), silence, end=False).stream
    decision = 2 * quiet.manifest.outputs
    row, begun = heard.network, initial_stream(quiet)
    assert isinstance(row, np.ndarray)
    np.testing.assert_allclose(quiet.initial_row[:-decision], row[:-decision], rtol=1e-6, atol=1e-7)
    assert not quiet.initial_row[-decision:].any()
    assert begun.step == 0
    for name, array in heard.encoder.items():
        np.testing.assert_allclose(begun.encoder[name], array, rtol=1e-12)


@settings(max_examples=25)
@given(data=st.data())
def test_a_session_may_be_cut_anywhere(quiet: Model, data: st.DataObject) -> None:
    audio = sound(1600)
    cuts = data.draw(st.lists(st.integers(1, audio.size - 1), max_size=4, unique=True))
    parts: list[Chunk] = [AudioChunk(part, 8000) for part in np.split(audio, sorted(cuts))]
    found = run(quiet, initial_stream(quiet), parts, end=True)
    assert bits(found) == bits(run(quiet, initial_stream(quiet), pieces(audio, audio.size), end=True))


def test_the_operator_and_plain_onnx_begin_alike(folder: Path, quiet: Model) -> None:
    plain = ModelCatalog(folder, None, lambda content: load_graph(content, use_operators=False)).get()
    operator, onnx = (
        run(model, initial_stream(model), pieces(sound(), 800), end=True).result.scores for model in (quiet, plain)
    )
    assert np.allclose(operator, onnx, atol=1e-5)


@pytest.mark.parametrize("heard", [10, 810])
def test_a_session_goes_on_from_its_record(quiet: Model, heard: int) -> None:
    """Also one that has filled no step yet."""
    audio, packing = sound(1600), Packing()
    before = run(quiet, initial_stream(quiet), [AudioChunk(audio[:heard], 8000)], end=False)
    steps = before.stream.step
    reply = Reply(
        session="abc", model="words", version="1", seq=0, steps=steps, total_steps=steps, label="a",
        labels=("a", "b", "c"), probabilities=(1.0, 0.0, 0.0), end=False,
    )  # fmt: skip
    progress: Progress[Kept] = Progress(1, steps, False, Answered(0, b"d" * 16, reply.to_json()))
    known = Known(progress, 1.0, 1.0)
    record = packing.pack("abc", Session(quiet, known, before.stream))
    kept = packing.unpack(read(record), quiet).stream
    assert kept is not None
    found = run(quiet, kept, [AudioChunk(audio[heard:], 8000)], end=True)
    expected = run(quiet, initial_stream(quiet), [AudioChunk(audio, 8000)], end=True)
    assert bits(found) == bits(expected)


def test_each_utterance_begins_after_silence(quiet: Model) -> None:
    chunk = AudioChunk(sound(1600), 8000)
    stream, answers = with_manual_ends(quiet, initial_stream(quiet)), []
    for _ in range(2):
        (outcome,) = ENGINE.run(quiet, [Work(stream, chunk, False, finalize=True)])
        stream = outcome.stream
        answers += [heard["probabilities"] for heard in outcome.result.heard if heard["type"] == "UtteranceEnd"]
    alone = run(quiet, initial_stream(quiet), [chunk], end=True).result.probabilities.tolist()
    assert answers == [alone, alone]


def test_the_golden_streams_begin_after_silence(quiet: Model) -> None:
    golden_test(quiet, ENGINE)


def test_sessions_that_have_heard_nothing_share_one_row(quiet: Model) -> None:
    assert initial_stream(quiet).network is initial_stream(quiet).network


def test_an_artifact_with_a_quiet_start_has_a_file_of_states(folder: Path, models: Path) -> None:
    cold, quiet = (json.loads((path / "words/1/manifest.json").read_text()) for path in (models, folder))
    assert (cold["initial_file"], quiet["initial_file"]) == (None, "initial.npz")
    assert quiet["provenance"]["quiet_s"] == 0.3
    assert "initial.npz" in quiet["files"]
    assert Checkpoint.load(folder / "words/1/network.pt").quiet_steps == QUIET_STEPS


def test_a_network_of_spikes_begins_after_steps_without_a_spike(network: Network, tmp_path: Path) -> None:
    evaluation = Evaluation(seeded_streams(network.spec.channels, 0.05, streams=2, steps=20))
    write_artifact(source_of(network, None, QUIET_STEPS), evaluation, tmp_path / "words/1", form="bank")
    model = ModelCatalog(tmp_path, None).get()
    # without biases, such steps leave a network that has heard nothing as it is
    assert not InitialState(model.artifact).network().any()


def test_rows_of_values_have_no_silence(tmp_path: Path, network: Network) -> None:
    encoder = LevelCrossingSpec(24, 0.01, (0.0,) * 4, (1.0,) * 4)
    evaluation = Evaluation(seeded_streams(network.spec.channels, 0.05, streams=2, steps=20))
    with pytest.raises(ExportError, match=r"values have no silence .* leave --quiet-s out"):
        write_artifact(source_of(network, encoder, QUIET_STEPS), evaluation, tmp_path / "words/1")
    assert not (tmp_path / "words").exists()
