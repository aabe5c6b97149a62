"""Models are tried in a process of their own, which they may end."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import ArtifactError
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.reload.reload import Reloader
from service.reload.trial_process import TrialProcess
from tests.support.artifacts.artifact_file import rewrite
from tests.support.artifacts.graphs_with_files import with_endless_loop, with_fatal_division
from tests.support.artifacts.smoke_tested import smoke_tested
from tests.support.paths import MODELS

GRAPH = "bank.onnx"


def copied(folder: Path, name: str) -> Path:
    shutil.copytree(MODELS / name / "1", folder / name / "1")
    return folder / name / "1"


@pytest.fixture
def trial() -> Iterator[TrialProcess]:
    process = TrialProcess(2**30, 60.0)
    yield process
    process.stop()


def fatal(folder: Path) -> Path:
    path = copied(folder, "pattern-generation")
    rewrite(path, GRAPH, with_fatal_division((path / GRAPH).read_bytes()))
    return path


def test_one_process_tries_many_models(tmp_path: Path, trial: TrialProcess) -> None:
    good, damaged = copied(tmp_path, "delayed-match"), copied(tmp_path, "pattern-generation")
    (damaged / GRAPH).write_bytes(b"other")
    trial.check(good)
    process = trial._process
    with pytest.raises(ArtifactError, match="differs from its size in the manifest: copy the artifact again"):
        trial.check(damaged)
    with pytest.raises(ArtifactError, match="cannot be read"):
        trial.check(tmp_path / "none" / "1")
    trial.check(good)
    assert trial._process is process


@pytest.mark.skipif(sys.platform != "linux", reason="what the division does is the processor's affair")
def test_a_graph_that_ends_its_process_is_refused_with_a_sentence(tmp_path: Path, trial: TrialProcess) -> None:
    good, bad = copied(tmp_path, "delayed-match"), fatal(tmp_path)
    with pytest.raises(ArtifactError, match=r"has ended the process that tested it \(SIGFPE\), so it is not served"):
        trial.check(bad)
    trial.check(good)  # in another process


@pytest.mark.skipif(sys.platform != "linux", reason="what the division does is the processor's affair")
async def test_a_server_that_runs_refuses_it_and_offers_the_others(tmp_path: Path, trial: TrialProcess) -> None:
    copied(tmp_path, "delayed-match")
    catalog = ModelCatalog(tmp_path, is_empty=True)
    reloader = Reloader(catalog, smoke_tested, counters := Counters(), trial_process=trial)
    reloader.load()
    fatal(tmp_path)
    copied(tmp_path, "fashion-rows")
    await reloader.reload()
    assert catalog.names == ["delayed-match", "fashion-rows"]
    assert counters.models_refused == 1
    assert trial._process is None  # it ends with the reload


@pytest.mark.process  # it computes until its time is over, within which a process has to start
async def test_one_that_never_ends_is_stopped_with_its_process(
    tmp_path: Path, trial: TrialProcess, caplog: pytest.LogCaptureFixture
) -> None:
    copied(tmp_path, "delayed-match")
    catalog = ModelCatalog(tmp_path, is_empty=True)
    reloader = Reloader(catalog, smoke_tested, Counters(), load_timeout_s=10.0, trial_process=trial)
    reloader.load()
    endless = copied(tmp_path, "pattern-generation")
    rewrite(endless, GRAPH, with_endless_loop((endless / GRAPH).read_bytes()))
    await reloader.reload()
    assert catalog.names == ["delayed-match"]
    assert f"{endless}: was not loaded and tested within 10 s" in caplog.text
    assert trial._process is None


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="Unix ends a process by a signal")
def test_a_process_that_nobody_ends_ends_itself(tmp_path: Path) -> None:
    endless = copied(tmp_path, "pattern-generation")
    rewrite(endless, GRAPH, with_endless_loop((endless / GRAPH).read_bytes()))
    trial = TrialProcess(2**30, 0.5)
    with pytest.raises(ArtifactError, match=r"has ended the process that tested it \(SIGALRM\)"):
        trial.check(endless)
