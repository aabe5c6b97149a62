"""A stream of an artifact with a file of initial values begins with them: formats 5 and 6 may have one."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.contract.initial import ENCODER, array_name
from service.engine.endpointing_choice import with_manual_ends
from service.engine.engine import Engine
from service.engine.work import Outcome, StreamState, Work, initial_stream
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime.onnx import load_graph
from service.session.protocol import Answered, Known, Progress
from service.session.session import Kept, Session
from service.store.record import Packing, read
from service.wire.chunk import AudioChunk, Chunk
from tests.support.artifacts.artifact_file import npz, rewrite
from tests.support.clients.replies import Reply

HOP = 80
ENGINE = Engine(10_000, 64)


@pytest.fixture(scope="module")
def folder(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models whose file has the state after some silence."""
    warm = tmp_path_factory.mktemp("warm")
    shutil.copytree(models, warm, dirs_exist_ok=True)
    artifact, heard = warm / "words/1", after_silence(models)
    manifest = json.loads((artifact / "manifest.json").read_text())
    arrays, begin = dict[str, NDArray[Any]](), 0
    for tensor in manifest["network"]["state"][:-1]:
        values = np.asarray(heard.network)[begin : begin + math.prod(tensor["shape"])]
        begin += values.size
        if not tensor["name"].startswith("decision."):
            arrays[array_name(manifest["network"]["form"], tensor["name"])] = values.reshape(tensor["shape"])
    arrays |= {array_name(ENCODER, name): array for name, array in heard.encoder.items()}
    rewrite(artifact, "initial.npz", npz(**arrays))
    manifest = json.loads((artifact / "manifest.json").read_text())
    (artifact / "manifest.json").write_text(json.dumps(manifest | {"initial_file": "initial.npz"}))
    return warm


@pytest.fixture(scope="module")
def warm(folder: Path) -> Model:
    return ModelCatalog(folder).get()


def after_silence(models: Path) -> StreamState:
    cold = ModelCatalog(models).get()
    return run(cold, initial_stream(cold), [AudioChunk(np.zeros(30 * HOP, np.float32), 8000)], end=False).stream


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
def test_a_session_begins_with_the_state_of_the_file(models: Path, warm: Model, cut: int) -> None:
    cold, decision = ModelCatalog(models).get(), 2 * warm.manifest.outputs
    begun = initial_stream(warm)
    assert begun.step == 0
    assert not np.asarray(begun.network)[-decision:].any()
    goes_on, begins, unlike = (
        np.asarray(run(model, stream, pieces(sound(), cut), end=False).stream.network)[:-decision]
        for model, stream in ((cold, after_silence(models)), (warm, begun), (cold, initial_stream(cold)))
    )
    assert begins.tobytes() == goes_on.tobytes()
    assert not np.array_equal(begins, unlike)


@settings(max_examples=25)
@given(data=st.data())
def test_a_session_may_be_cut_anywhere(warm: Model, data: st.DataObject) -> None:
    audio = sound(1600)
    cuts = data.draw(st.lists(st.integers(1, audio.size - 1), max_size=4, unique=True))
    parts: list[Chunk] = [AudioChunk(part, 8000) for part in np.split(audio, sorted(cuts))]
    found = run(warm, initial_stream(warm), parts, end=True)
    assert bits(found) == bits(run(warm, initial_stream(warm), pieces(audio, audio.size), end=True))


def test_the_operator_and_plain_onnx_begin_alike(folder: Path, warm: Model) -> None:
    plain = ModelCatalog(folder, lambda content: load_graph(content, use_operators=False)).get()
    operator, onnx = (
        run(model, initial_stream(model), pieces(sound(), 800), end=True).result.scores for model in (warm, plain)
    )
    assert np.allclose(operator, onnx, atol=1e-5)


@pytest.mark.parametrize("heard", [10, 810])
def test_a_session_goes_on_from_its_record(warm: Model, heard: int) -> None:
    """Also one that has filled no step yet."""
    audio, packing = sound(1600), Packing()
    before = run(warm, initial_stream(warm), [AudioChunk(audio[:heard], 8000)], end=False)
    steps = before.stream.step
    reply = Reply(
        session="abc", model="words", version="1", seq=0, steps=steps, total_steps=steps, label="a",
        labels=("a", "b", "c"), probabilities=(1.0, 0.0, 0.0), end=False,
    )  # fmt: skip
    progress: Progress[Kept] = Progress(1, steps, False, Answered(0, b"d" * 16, reply.to_json()))
    known = Known(progress, 1.0, 1.0)
    record = packing.pack("abc", Session(warm, known, before.stream))
    kept = packing.unpack(read(record), warm).stream
    assert kept is not None
    found = run(warm, kept, [AudioChunk(audio[heard:], 8000)], end=True)
    expected = run(warm, initial_stream(warm), [AudioChunk(audio, 8000)], end=True)
    assert bits(found) == bits(expected)


def test_each_utterance_begins_with_it(warm: Model) -> None:
    chunk = AudioChunk(sound(1600), 8000)
    stream, answers = with_manual_ends(warm, initial_stream(warm)), []
    for _ in range(2):
        (outcome,) = ENGINE.run(warm, [Work(stream, chunk, False, finalize=True)])
        stream = outcome.stream
        answers += [
            np.array(heard["probabilities"], np.float32).tolist()
            for heard in outcome.result.heard
            if heard["type"] == "UtteranceEnd"
        ]
    alone = run(warm, initial_stream(warm), [chunk], end=True).result.probabilities.tolist()
    assert answers == [alone, alone]


def test_sessions_that_have_heard_nothing_share_one_row(warm: Model) -> None:
    assert initial_stream(warm).network is initial_stream(warm).network
