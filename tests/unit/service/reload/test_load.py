"""A server starts with the models that can be used."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import pytest

from service.errors import ArtifactError
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.reload.reload import Reloader
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.artifact_file import rewrite
from tests.support.artifacts.fake_graph import load_fake
from tests.support.artifacts.graphs_with_files import with_endless_loop
from tests.support.artifacts.smoke_tested import smoke_tested
from tests.support.paths import MODELS


def load(models: Path) -> tuple[ModelCatalog, Counters]:
    catalog, counters = ModelCatalog(models, load_fake, is_empty=True), Counters()
    Reloader(catalog, smoke_tested, counters).load()
    return catalog, counters


def test_a_graph_that_never_ends_keeps_no_other_model_from_being_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("delayed-match", "pattern-generation"):
        shutil.copytree(MODELS / name / "1", tmp_path / name / "1")
    endless = tmp_path / "delayed-match" / "1"
    rewrite(endless, "bank.onnx", with_endless_loop((endless / "bank.onnx").read_bytes()))
    catalog = ModelCatalog(tmp_path, is_empty=True)
    reloader = Reloader(catalog, smoke_tested, Counters(), load_timeout_s=2.0)
    reloader.load()
    assert catalog.names == ["pattern-generation"]
    assert f"refused: {endless}: was not loaded and tested within 2 s: export the model again" in caplog.text
    # ONNX Runtime ended the run: nothing is left behind
    assert "hetsyn-models" not in [thread.name for thread in threading.enumerate()]


def damage(folder: Path) -> None:
    (folder / "exact.onnx").write_bytes(b"other")


def test_an_empty_catalog_loads_what_a_full_one_has(models: Path) -> None:
    write_artifact(models, "words", version="2")
    (models / "default").write_text("words")
    loaded, counters = load(models)
    opened = ModelCatalog(models, load=load_fake)
    assert loaded.names == opened.names == ["digits", "words"]
    assert loaded.default_name == opened.default_name == "words"
    assert loaded.content_of("words", "2") == opened.content_of("words", "2")
    assert (counters.models_refused, counters.model_reloads) == (0, 0)


def test_what_is_damaged_is_refused_and_the_rest_is_served(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(write_artifact(models, "words"))
    damage(write_artifact(models, version="2"))
    rewrite(write_artifact(models, version="3"), "exact.onnx", b"[]")  # loads, and fails when it runs
    catalog, counters = load(models)
    assert (catalog.names, catalog.versions("digits"), catalog.get().version) == (["digits"], ["1"], "1")
    assert counters.models_refused == 3
    refused = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [text.startswith("refused: ") for text in refused] == [True] * 3
    assert f"{models / 'digits/2/exact.onnx'}: differs" in refused[0]
    assert f"{models / 'words/1/exact.onnx'}: differs" in refused[2]


def test_nothing_is_served_if_nothing_can_be(models: Path) -> None:
    damage(models / "digits/1")
    damage(write_artifact(models, "words"))
    with pytest.raises(ArtifactError, match=r"digits/1/exact\.onnx: differs.*; .*words/1/exact\.onnx: differs"):
        load(models)


def test_a_damaged_default_model_is_not_replaced_by_another(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(write_artifact(models, "words"))
    (models / "default").write_text("words")
    with pytest.raises(ArtifactError, match="names 'words', but the folder has"):
        load(models)
    assert "words/1/exact.onnx: differs" in caplog.text


def test_a_damaged_version_of_the_default_model_leaves_the_others(models: Path) -> None:
    damage(write_artifact(models, version="2"))
    (models / "default").write_text("digits")
    assert load(models)[0].get().version == "1"
