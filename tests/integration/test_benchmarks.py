"""Each benchmark runs, as a process, in its smallest form. What it started ends with it."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks.__main__ import NAMES
from tests.support.paths import ROOT
from tests.support.servers.server_process import live_processes
from tests.support.tools import NO_PERF_ANALYZER, require_valkey

pytestmark = pytest.mark.process

SMOKES = (
    "compare",
    "compare --streams",
    "engine",
    "engine --families",
    "in_process",
    "peers",
    "peers --perf-analyzer",
    "request_path",
    "service",
    "service --stores",
    "service --transports",
    "training",
)
AT_EVERY_MERGE = ("engine", "in_process", "service")  # the others are run at night
README = (ROOT / "README.md").read_text()
ENDED_S = 60.0  # until a benchmark has started a server, or has ended
POLL_S = 0.05


class Smoke:
    """A benchmark as a process with a folder of its own for all its temporary files."""

    def __init__(self, benchmark: str, folder: Path, length: str = "--smoke") -> None:
        self.mark = f"HETSYN_SMOKE={uuid4()}"
        self._started: set[tuple[int, int]] = set()  # pid and when it began
        name, _, mark = self.mark.partition("=")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks", *benchmark.split(), length],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(folder), name: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def left(self) -> dict[int, str]:
        """Command lines of the processes that the benchmark has started, also of those that left its session."""
        processes = live_processes()
        tree = {self.process.pid}
        while more := {pid for pid, stat in processes.items() if stat.parent in tree} - tree:
            tree |= more
        # a child that ends before its own children leaves them their environment alone; Valkey writes over its own
        ours = {pid for pid in processes.keys() - {self.process.pid} if self.mark in _read(pid, "environ")} | tree - {
            self.process.pid
        }
        self._started |= {(pid, processes[pid].started_ticks) for pid in ours}
        return {
            pid: _read(pid, "cmdline")
            for pid, started_ticks in self._started
            if pid in processes and processes[pid].started_ticks == started_ticks
        }

    def end(self) -> None:
        """End what is left."""
        self.process.kill()
        for pid in self.left():  # they may hold the pipe that is read to its end
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()


def _read(pid: int, name: str) -> str:
    """A file of a process, its zeros as spaces; empty where the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("benchmark", sorted({*NAMES} - {smoke.split()[0] for smoke in SMOKES}))
def test_a_benchmark_without_a_smoke_is_imported(benchmark: str) -> None:
    """It needs data, a GPU or compiled libraries; what it imports has to be there all the same."""
    import_module(f"benchmarks.{benchmark}").add_arguments(argparse.ArgumentParser())


@pytest.mark.parametrize(
    "benchmark",
    [smoke if smoke in AT_EVERY_MERGE else pytest.param(smoke, marks=pytest.mark.long) for smoke in SMOKES],
)
def test_a_benchmark_runs_and_leaves_nothing(benchmark: str, tmp_path: Path) -> None:
    if benchmark == "peers --perf-analyzer" and not _has_perf_analyzer():
        pytest.skip(NO_PERF_ANALYZER)
    smoke = Smoke(benchmark, tmp_path)
    try:
        printed, errors = smoke.process.communicate()
        assert smoke.process.returncode == 0, errors
        assert re.search(r"\d", printed), "no figures"
        assert "missing" not in printed, "a peer is installed and did not run"
        assert (smoke.left(), list(tmp_path.iterdir())) == ({}, [])
    finally:
        smoke.end()


@pytest.mark.parametrize(
    ("benchmark", "started", "number"),
    [
        ("service", "hetsyn serve", signal.SIGINT),
        pytest.param("service --stores", "valkey-server", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_what_a_benchmark_started_ends_with_it(
    benchmark: str, started: str, number: signal.Signals, tmp_path: Path
) -> None:
    if started == "valkey-server":
        require_valkey()
    smoke = Smoke(benchmark, tmp_path, "--quick")  # a smoke may have ended before it is seen
    try:
        deadline_s = time.monotonic() + ENDED_S
        while not any(started in command for command in smoke.left().values()):
            assert smoke.process.poll() is None, smoke.process.communicate()[1]
            assert time.monotonic() < deadline_s, f"{started} was not started"
            time.sleep(POLL_S)
        smoke.process.send_signal(number)
        smoke.process.communicate(timeout=ENDED_S)
        assert smoke.process.returncode != 0
        assert (smoke.left(), list(tmp_path.iterdir())) == ({}, [])
    finally:
        smoke.end()


@pytest.mark.long
@pytest.mark.parametrize("command", sorted(set(re.findall(r"`(python -m (?:benchmarks|tests\.long)\b[^`]+)`", README))))
def test_a_command_of_the_readme_runs(command: str) -> None:
    if "peers" in command and not ((ROOT / "build/peers").exists() or "HETSYN_PEERS_PYTHON" in os.environ):
        pytest.skip(f"no peers to compare with: {command} says how to install them")
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:], "--quick"],
        cwd=ROOT, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_help_names_every_benchmark_and_imports_none() -> None:
    code = "import sys; from benchmarks.__main__ import main\ntry: main()\nfinally: assert 'numpy' not in sys.modules"
    printed = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert all(re.search(rf"^ +{name} ", printed, re.MULTILINE) for name in NAMES)


def test_peers_are_not_installed_unless_somebody_says_so(tmp_path: Path) -> None:
    code = (
        "import argparse, pathlib, sys; from benchmarks import peers; peers.ENVIRONMENT = pathlib.Path(sys.argv[1]);"
        "peers.peers_python(argparse.Namespace(peers_python=None, smoke=False))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "peers")],
        cwd=ROOT, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "-m pip install" in done.stderr
    assert not list(tmp_path.iterdir())


def _has_perf_analyzer() -> bool:
    return (
        shutil.which("perf_analyzer", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") is not None
    )
