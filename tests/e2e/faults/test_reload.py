"""The folder of models of a server process changes in the middle of a stream: the shipped model on ONNX Runtime."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.artifacts.artifact_file import rewrite
from tests.support.artifacts.graphs_with_files import with_endless_loop
from tests.support.clients.recording_stream import persist, pieces, send, stream
from tests.support.paths import SPEECH
from tests.support.servers.server_process import RestartableServer

pytestmark = pytest.mark.process


def put(models: Path, version: str, described: str) -> Path:
    """The shipped model as a version of another description, and so of another content."""
    folder = models / "speech-digits" / version
    shutil.copytree(SPEECH, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": version, "description": described}))
    return folder


# a good model has to load within the time, on a busy machine, too; tests/unit/service/reload has short times
@pytest.mark.parametrize(
    "load_timeout_s", [pytest.param("20", marks=pytest.mark.long), "60"], ids=["timed out", "under way"]
)
def test_a_model_that_never_ends_stops_neither_reloads_nor_the_end(tmp_path: Path, load_timeout_s: str) -> None:
    put(tmp_path, "1", "old")
    replica = RestartableServer("--models", str(tmp_path), f"--set=load_timeout_s={load_timeout_s}")
    try:
        replica.ready()
        put(tmp_path.with_name("beside"), "2", "endless")
        folder = tmp_path.with_name("beside") / "speech-digits" / "2"
        rewrite(folder, "bank.onnx", with_endless_loop((SPEECH / "bank.onnx").read_bytes()))
        folder.rename(tmp_path / "speech-digits" / "2")
        if load_timeout_s == "20":
            wait_for(replica.url, 'hetsyn_model_versions_total{event="refused"} 1.0')
            put(tmp_path, "3", "new")
            wait_for(replica.url, 'hetsyn_model_versions_total{event="opened"} 1.0')
            assert persist(lambda: send(replica.url, "a", 0, pieces()))["version"] == "3"
        else:
            deadline_s = time.monotonic() + 60
            while not (trials := busy_children(replica.process.pid)):
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            replica.stop()
            assert not [pid for pid in trials if Path(f"/proc/{pid}").exists()]
    finally:
        replica.stop()


def busy_children(pid: int) -> list[int]:
    """The processes that a process has started, and that have computed for some time."""
    ticks = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            for child in map(int, (task / "children").read_text().split()):
                stat = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                ticks[child] = sum(map(int, stat[11:13]))
    return [child for child, count in ticks.items() if count > 2 * os.sysconf("SC_CLK_TCK")]


def wait_for(url: str, line: str) -> None:
    deadline_s = time.monotonic() + 60
    while line not in httpx.get(f"{url}/metrics").text:
        assert time.monotonic() < deadline_s, line
        time.sleep(0.02)


def test_a_session_outlives_its_models_folder(tmp_path: Path) -> None:
    chunks = pieces()
    put(tmp_path, "1", "old")
    replica = RestartableServer("--models", str(tmp_path), "--log-level", "warning")
    try:
        replica.ready()
        calm = stream(replica.url, "calm", chunks)
        half = len(chunks) // 2
        replies = stream(replica.url, "a", chunks, range(half))
        put(tmp_path, "2", "new")
        rewrite(put(tmp_path, "3", "broken"), "bank.onnx", (SPEECH / "bank.onnx").read_bytes()[:-999])
        shutil.rmtree(tmp_path / "speech-digits" / "1")
        wait_for(replica.url, "hetsyn_models_withdrawn 1.0")
        assert 'hetsyn_model_versions_total{event="refused"}' in httpx.get(f"{replica.url}/metrics").text
        assert persist(lambda: send(replica.url, "b", 0, chunks))["version"] == "2"
        replies += stream(replica.url, "a", chunks, range(half, len(chunks)))
        assert replies == [reply | {"session": "a"} for reply in calm]
    finally:
        replica.stop()
