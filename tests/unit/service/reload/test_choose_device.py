"""A fake GPU with right and with wrong answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.contract.artifact import GOLDEN
from service.engine.engine import Engine
from service.engine.work import Work, initial_stream
from service.errors import ArtifactError
from service.models.catalog import ModelCatalog
from service.reload.choose_device import Chosen, choose_device
from service.runtime.device import Device
from service.runtime.onnx import Array, Graph, GraphLoader
from service.settings import DeviceChoice
from service.wire.chunk import spike_chunk
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.artifact_file import rewrite
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import CHANNELS, FakeNetwork, load_fake

LENGTHS = (9, 12, 1, 7)
ENGINE = Engine(1000)


def wrong(content: bytes) -> Graph:
    """A graph whose answers are a little off."""
    graph = json.loads(content)
    return load_fake(json.dumps(graph | {"scale": 1.01 * graph["scale"]}).encode())


def golden(models: Path, name: str, change: Callable[[dict[str, Any]], object] = lambda _: None) -> bytes:
    """What an export records of the CPU's answers."""
    model = ModelCatalog(models, load=load_fake).get(name)
    spikes = np.random.default_rng(0).integers(0, 2, (len(LENGTHS), max(LENGTHS), CHANNELS), dtype=np.uint8)
    arrays: dict[str, Any] = {"spikes": spikes, "steps": np.array(LENGTHS)}
    outcomes = [
        ENGINE.run(model, [Work(initial_stream(model), spike_chunk(length, *stream[:length].nonzero()), end=False)])[0]
        for stream, length in zip(spikes, LENGTHS, strict=True)
    ]
    arrays["exact.probabilities"] = np.array([outcome.result.probabilities for outcome in outcomes])
    if outcomes[0].result.readout is not None:
        readout = np.zeros((len(LENGTHS), max(LENGTHS), outcomes[0].result.readout.shape[1]), np.float32)
        for row, outcome in zip(readout, outcomes, strict=True):
            assert outcome.result.readout is not None
            row[: len(outcome.result.readout)] = outcome.result.readout
        arrays["exact.readout"] = readout
    change(arrays)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A classifier and a tracer, each with golden streams."""
    for name, options in {"digits": {}, "tracer": {"rule": "trace"}}.items():
        folder = write_artifact(tmp_path, name, **options)  # type: ignore[arg-type]
        rewrite(folder, GOLDEN, golden(tmp_path, name))
    return tmp_path


def choose(models: Path, choice: DeviceChoice, device: Device | None) -> Chosen:
    return choose_device(choice, device, ENGINE, lambda on: empty_catalog(models, on))


def empty_catalog(models: Path, device: Device | None) -> ModelCatalog:
    return ModelCatalog(with_default(models, "digits"), load_fake, device=device, is_empty=True)


def gpu(load: GraphLoader = load_fake) -> Device:
    return Device("a fake GPU", load)


def failing(content: bytes) -> Graph:
    """A graph that fails on the first chunk."""

    class Failing(FakeNetwork):
        def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:  # noqa: ARG002
            raise ArtifactError("out of order")

    graph = json.loads(content)
    return Failing(graph["rule"], graph["scale"]) if "rule" in graph else load_fake(content)


def test_a_gpu_with_the_cpus_answers_is_taken(models: Path) -> None:
    device = gpu()
    chosen = choose(models, "auto", device)
    assert chosen.device is device
    assert chosen.reason == "a fake GPU gave the CPU's answers on the golden streams of 2 models"


@pytest.mark.parametrize(
    ("load", "sentence"),
    [(wrong, "'digits' version '1', golden stream"), (failing, "out of order")],
)
def test_any_other_gpu_is_not(models: Path, load: GraphLoader, sentence: str) -> None:
    chosen = choose(models, "auto", gpu(load))
    assert chosen.device is None
    assert chosen.reason.startswith("a fake GPU does not give the CPU's answers: ")
    assert sentence in chosen.reason


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (None, "golden.npz: cannot be read"),
        (lambda arrays: arrays.pop("steps"), "golden.npz: cannot be read"),
        (lambda arrays: arrays.update(more=np.zeros(2**28, np.uint8)), "unpacked, it has more than 268,435,456 bytes"),
        (lambda arrays: arrays.update(spikes=arrays["spikes"][..., 1:]), "golden.npz: has spikes (4, 12, 5) for 4"),
        (lambda arrays: arrays.pop("exact.probabilities"), "has no exact.probabilities"),
        (lambda arrays: arrays["exact.probabilities"].fill(np.nan), "golden stream 0"),
    ],
)
def test_an_artifact_without_answers_proves_nothing(
    models: Path, change: Callable[[Mapping[str, Any]], object] | None, sentence: str
) -> None:
    content = b"none" if change is None else golden(models, "digits", change)
    rewrite(models / "digits/1", GOLDEN, content)
    chosen = choose(models, "auto", gpu())
    assert chosen.device is None
    assert sentence in chosen.reason


def test_an_artifact_that_cannot_be_used_anywhere_says_nothing_about_a_gpu(models: Path) -> None:
    (write_artifact(models, "damaged") / "exact.onnx").write_bytes(b"damaged")
    device = gpu()
    chosen = choose(models, "auto", device)
    assert chosen == (device, "a fake GPU gave the CPU's answers on the golden streams of 2 models")


def test_an_operator_may_insist(models: Path) -> None:
    device = gpu(wrong)
    chosen = choose(models, "cuda", device)
    assert chosen.device is device
    assert "was not compared with the CPU" in chosen.reason


def test_without_a_gpu_there_is_nothing_to_say(models: Path) -> None:
    assert choose(models, "auto", None) == (None, "")
