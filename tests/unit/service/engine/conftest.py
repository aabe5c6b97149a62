"""Fake models, each written and loaded once for all tests of a module."""

from __future__ import annotations

import pytest

from service.models.catalog import ModelCatalog
from service.models.model import Model
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import load_fake


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Takes sound and spikes."""
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder)
    return ModelCatalog(folder, load=load_fake).get()


@pytest.fixture(scope="module")
def sensor(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Takes rows of values through an encoder, and spikes."""
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder, takes="rows")
    return ModelCatalog(folder, load=load_fake).get()
