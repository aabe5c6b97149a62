from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service.errors import ArtifactError, UnsupportedInput
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime.onnx import Graph
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import OUTPUTS, load_fake


def test_initial_states_are_the_manifests(model: Model) -> None:
    state = model.initial_row
    assert (state.shape, state.dtype.name) == ((2 * OUTPUTS,), "float32")
    assert not state.any()
    assert model.initial_encoder["loudness"].dtype == np.float64


def test_each_graph_is_loaded_once_when_its_model_is_opened(models: Path) -> None:
    loaded: list[str] = []

    def load(content: bytes) -> Graph:
        loaded.append(json.loads(content)["graph"])
        return load_fake(content)

    model = ModelCatalog(models, load=load).get()
    assert sorted(loaded) == ["encoder", "network"]
    assert model.encoder_graph is not None


def test_a_graph_that_is_not_what_the_manifest_promises_is_refused(models: Path) -> None:
    def swapped(content: bytes) -> Graph:
        other = "network" if b"encoder" in content else "encoder"
        return load_fake(json.dumps({"graph": other, "rule": "last", "scale": 1}).encode())

    with pytest.raises(ArtifactError, match=r"exact\.onnx: lacks input events\.row.*unknown input audio.*lacks output"):
        ModelCatalog(models, load=swapped)

    def without_encoder(content: bytes) -> Graph:
        return swapped(content) if b"encoder" in content else load_fake(content)

    with pytest.raises(ArtifactError, match=r"encoder\.onnx: lacks input audio"):
        ModelCatalog(models, load=without_encoder)


def test_a_model_without_encoder_hears_nothing(tmp_path: Path) -> None:
    write_artifact(tmp_path, takes_audio=False)
    model = ModelCatalog(tmp_path, load=load_fake).get()
    assert model.initial_encoder == {}
    with pytest.raises(UnsupportedInput, match="takes spikes, not audio"):
        _ = model.encoder
    assert model.encoder_graph is None
