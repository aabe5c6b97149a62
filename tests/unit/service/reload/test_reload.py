"""Reloading a folder of models: what is new, what is broken, what is gone, and who still uses it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

from service.errors import ModelAbsent, NotFound
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.reload.reload import ReloadPlan, plan_reload
from service.runtime.onnx import Graph
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.artifact_file import rewrite
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import load_fake
from tests.support.artifacts.gate import Gate
from tests.support.artifacts.smoke_tested import smoke_tested
from tests.support.servers.in_process import ServeDirect
from tests.support.stores.memory_store import MemoryStore


def adopt(catalog: ModelCatalog) -> ReloadPlan:
    found = plan_reload(catalog, smoke_tested)
    catalog.publish(found.snapshot)
    return found


def reasons(found: ReloadPlan) -> str:
    return "\n".join(refused.reason for refused in found.refused)


def test_nothing_new_changes_nothing(catalog: ModelCatalog) -> None:
    before = catalog.get("digits")
    found = adopt(catalog)
    assert (found.opened, found.retired, found.refused) == ((), (), ())
    assert catalog.get("digits") is before


def test_a_new_version_and_a_new_model_are_tried_and_offered(models: Path, catalog: ModelCatalog) -> None:
    write_artifact(models, version="10")
    write_artifact(models, version="9")
    write_artifact(models, "words", rule="trace", takes_audio=False)
    found = plan_reload(catalog, smoke_tested)
    assert catalog.versions("digits") == ["1"]  # until it is offered
    catalog.publish(found.snapshot)
    assert [(model.name, model.version) for model in found.opened] == [
        ("digits", "10"), ("digits", "9"), ("words", "1"),
    ]  # fmt: skip
    assert catalog.versions("digits") == ["1", "9", "10"]
    assert catalog.get("digits").version == "10"
    shutil.rmtree(models / "digits" / "10")
    assert catalog.get("digits", "10").network.inputs  # nothing of the folder is needed


class _Foul:
    """A graph that loads, and gives what it should not."""

    def __init__(self, graph: Graph, how: str) -> None:
        self._graph, self._how = graph, how
        self.inputs, self.outputs = graph.inputs, graph.outputs

    def run(self, inputs: Any, outputs: Any) -> Any:
        if self._how == "raises":
            raise ZeroDivisionError("a defect of the graph")
        results = self._graph.run(inputs, outputs)
        if "probabilities" in results:
            if self._how == "nan":
                results["probabilities"] = results["probabilities"] * float("nan")
            elif self._how == "few":
                results["probabilities"] = results["probabilities"][:, :-1]
            else:
                results["next.state"] = results["next.state"][:, :-1]
        return results

    def stop(self) -> None:
        self._graph.stop()


def load_foul(content: bytes) -> Graph:
    described = json.loads(content)
    graph = load_fake(json.dumps({"graph": "network", "rule": "last", "scale": 1.0} | described).encode())
    return _Foul(graph, described["foul"]) if "foul" in described else graph


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("exact.onnx", b"[]", "TypeError"),
        ("exact.onnx", b"no JSON", "JSONDecodeError"),
        ("encoder.onnx", b'{"graph": "network"}', "lacks input audio"),
        ("exact.onnx", b'{"graph": "network", "foul": "raises"}', "ZeroDivisionError: a defect of the graph"),
        ("exact.onnx", b'{"graph": "network", "foul": "nan"}', "not finite"),
        ("exact.onnx", b'{"graph": "network", "foul": "few"}', r"gave \(2,\) probabilities"),
        ("exact.onnx", b'{"graph": "network", "foul": "shape"}', "the graph gave next.state"),
    ],
)
def test_a_graph_that_cannot_be_run_is_refused(models: Path, file: str, content: bytes, sentence: str) -> None:
    catalog = ModelCatalog(models, load=load_foul)
    before = catalog.get("digits")
    rewrite(write_artifact(models, version="2"), file, content)
    write_artifact(models, "words")
    assert re.search(sentence, reasons(adopt(catalog)))
    assert catalog.get("digits") is before
    assert catalog.names == ["digits", "words"]  # everything else goes on


def test_damaged_and_misplaced_artifacts_are_refused(models: Path, catalog: ModelCatalog) -> None:
    (write_artifact(models, version="2") / "exact.onnx").write_bytes(b"other")
    write_artifact(models, version="3", change={"version": "4"})
    (write_artifact(models, version="5") / "manifest.json").write_text("{")
    (write_artifact(models, version="6") / "exact.onnx").unlink()
    found = adopt(catalog)
    assert [refused.where.name for refused in found.refused] == ["2", "3", "5", "6"]
    for sentence in ("differs from", "move it to", "not JSON", "cannot be read"):
        assert sentence in reasons(found)
    assert catalog.versions("digits") == ["1"]
    rewrite(models / "digits" / "2", "exact.onnx", (models / "digits" / "1" / "exact.onnx").read_bytes())
    adopt(catalog)
    assert catalog.versions("digits") == ["1", "2"]  # mended


def test_a_version_that_changes_while_it_is_loaded_is_refused(
    models: Path, catalog: ModelCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_artifact(models, version="2")
    described = (folder / "manifest.json").read_text()
    load = catalog.open

    def swapped(path: Path) -> Model:
        if path == folder:
            (folder / "manifest.json").write_text(described.replace("a fake", "another"))
        return load(path)

    monkeypatch.setattr(catalog, "open", swapped)
    assert "changed while it was loaded" in reasons(adopt(catalog))
    assert catalog.versions("digits") == ["1"]
    (folder / "manifest.json").write_text(described)
    monkeypatch.undo()
    assert not adopt(catalog).refused
    assert catalog.versions("digits") == ["1", "2"]


@pytest.mark.parametrize("how", ["other", "broken"])
def test_a_version_does_not_change_its_content(models: Path, catalog: ModelCatalog, how: str) -> None:
    before = catalog.get("digits")
    shutil.rmtree(models / "digits" / "1")
    folder = write_artifact(models, change={"provenance": {"seed": 8}})
    if how == "broken":
        (folder / "manifest.json").write_text("{")
    found = adopt(catalog)
    assert ("files of this version have changed" if how == "other" else "not JSON") in reasons(found)
    assert catalog.get("digits") is before
    assert not found.retired


def test_a_version_does_not_come_back_with_other_content(models: Path, catalog: ModelCatalog) -> None:
    write_artifact(models, version="2")
    adopt(catalog)
    shutil.rmtree(models / "digits" / "1")
    adopt(catalog)
    folder = write_artifact(models, change={"provenance": {"seed": 8}})
    assert "files of this version have changed" in reasons(adopt(catalog))
    assert catalog.versions("digits") == ["2"]
    shutil.rmtree(folder)
    write_artifact(models)  # the same as before
    assert [model.version for model in adopt(catalog).opened] == ["1"]
    assert catalog.versions("digits") == ["1", "2"]


@pytest.mark.parametrize("how", ["empty", "gone", "a file"])
def test_a_folder_that_has_nothing_takes_nothing(models: Path, catalog: ModelCatalog, how: str) -> None:
    """A volume that is not mounted, for one."""
    shutil.rmtree(models)
    if how == "empty":
        models.mkdir()
    elif how == "a file":
        models.write_text("")
    found = adopt(catalog)
    assert len(found.refused) == 1
    assert catalog.get().name == "digits"


def test_the_only_version_may_be_broken(models: Path, catalog: ModelCatalog) -> None:
    shutil.rmtree(models / "digits")
    (write_artifact(models, "words") / "exact.pt").unlink()
    assert "exact.pt" in reasons(adopt(catalog))
    assert catalog.names == ["digits"]


def test_the_default_follows_the_folder(models: Path, catalog: ModelCatalog) -> None:
    write_artifact(models, "words")
    adopt(catalog)
    with pytest.raises(NotFound, match="name a model"):
        catalog.get()
    (models / "default").write_text("words")
    adopt(catalog)
    assert catalog.get().name == "words"
    (models / "default").write_text("letters")
    assert "names 'letters'" in reasons(adopt(catalog))
    assert catalog.get().name == "words"
    shutil.rmtree(models / "words")
    assert "names 'letters'" in reasons(adopt(catalog))
    assert catalog.default_name is None


def test_a_default_that_comes_back_is_the_default_again(models: Path) -> None:
    write_artifact(models, "words")
    catalog = ModelCatalog(with_default(models, "digits"), load_fake)
    shutil.rmtree(models / "digits")
    assert "names 'digits', but the folder has 'words'" in reasons(adopt(catalog))
    with pytest.raises(NotFound):
        catalog.get()
    write_artifact(models)
    adopt(catalog)
    assert catalog.get().name == "digits"


def test_a_retired_version_is_there_as_long_as_it_is_used(models: Path, catalog: ModelCatalog) -> None:
    write_artifact(models, version="2")
    used, unused = catalog.get("digits", "1"), ref(catalog.get("digits", "1"))
    shutil.rmtree(models / "digits" / "1")
    adopt(catalog)
    assert (catalog.retired, catalog.snapshot.count) == (1, 1)
    assert catalog.find("digits", "1") is used
    with pytest.raises(NotFound, match="no version '1'"):
        catalog.get("digits", "1")
    del used
    assert unused() is None  # at once: nothing is left to the collector
    assert (catalog.retired, catalog.find("digits", "1")) == (0, None)


def test_a_version_that_comes_back_in_time_is_the_same(models: Path, catalog: ModelCatalog) -> None:
    write_artifact(models, version="2")
    used = catalog.get("digits", "1")
    (models / "digits" / "1").rename(models / "away")
    adopt(catalog)
    (models / "away").rename(models / "digits" / "1")
    assert adopt(catalog).opened == (used,)
    assert (catalog.get("digits", "1"), catalog.retired) == (used, 0)


async def test_a_replica_without_a_sessions_version_says_so(models: Path, gate: Gate, serve: ServeDirect) -> None:
    """Nothing is lost: a server that has the version goes on."""
    store = MemoryStore()
    catalogs = [ModelCatalog(models, load=gate.load) for _ in range(2)]
    old, new = (serve(catalog, store=store, session_idle_s=60) for catalog in catalogs)
    write_artifact(models, version="2")
    shutil.rmtree(models / "digits" / "1")
    adopt(catalogs[1])
    await old.send("a", 0)
    await new.refused(ModelAbsent, "send the chunk again to a server that has it", "a", 1)
    assert (await new.send("b", 0)).version == "2"
    await old.refused(ModelAbsent, "version '2', which this server does not have", "b", 1)
    assert (await old.send("a", 1)).version == "1"
