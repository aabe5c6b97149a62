from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from service.errors import ArtifactError, NotFound, UnsupportedInput
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime.onnx import Graph
from tests.fakes import OUTPUTS, load_fake, write_artifact


def test_a_form_is_the_default_or_one_that_is_there(tmp_path: Path) -> None:
    write_artifact(tmp_path, forms=["bank"])
    model = ModelCatalog(tmp_path, load=load_fake).get()
    assert model.choose_form(None) == "bank"
    with pytest.raises(NotFound, match="no form 'exact', it has 'bank'"):
        model.choose_form("exact")


def test_initial_states_are_the_manifests(model: Model) -> None:
    state = model.initial_state("bank")
    assert (state.shape, state.dtype.name) == ((2 * OUTPUTS,), "float32")
    assert not state.any()
    assert model.initial_encoder_state()["loudness"].dtype == np.float64


def test_graphs_are_loaded_when_they_are_needed_and_once(models: Path) -> None:
    loaded: list[bytes] = []
    barrier = threading.Barrier(4)

    def load(content: bytes) -> Graph:
        loaded.append(content)
        return load_fake(content)

    def ask(_: int) -> Graph:
        barrier.wait()
        return model.network("bank")

    model = ModelCatalog(models, load=load).get()
    assert loaded == []
    with ThreadPoolExecutor(4) as pool:
        graphs = list(pool.map(ask, range(4)))
    assert len(loaded) == 1
    assert all(graph is graphs[0] for graph in graphs)
    assert model.encoder_graph() is model.encoder_graph()
    assert len(loaded) == 2


def test_a_graph_that_is_not_what_the_manifest_promises_is_refused(models: Path) -> None:
    def swapped(content: bytes) -> Graph:
        other = "network" if b"encoder" in content else "encoder"
        return load_fake(json.dumps({"graph": other, "rule": "last", "scale": 1}).encode())

    model = ModelCatalog(models, load=swapped).get()
    with pytest.raises(ArtifactError, match=r"exact\.onnx: lacks input events\.row.*unknown input audio.*lacks output"):
        model.network("exact")
    with pytest.raises(ArtifactError, match=r"encoder\.onnx: lacks input audio"):
        model.encoder_graph()


def test_a_model_without_encoder_hears_nothing(tmp_path: Path) -> None:
    write_artifact(tmp_path, hears=False)
    model = ModelCatalog(tmp_path, load=load_fake).get()
    assert model.initial_encoder_state() == {}
    with pytest.raises(UnsupportedInput, match="takes spikes, not audio"):
        model.encoder_graph()
