"""``hetsyn serve`` and its terminal: its log, what keeps it from starting, and what a closed terminal does."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.artifacts.artifact_file import rewrite
from tests.support.paths import MODELS, ROOT, SPEECH
from tests.support.servers.server_process import STOP_TIMEOUT_S, free_port, serve_command, wait_until_ready
from tests.support.stores.valkey import ValkeyServer
from tests.support.tools import NO_TERMINALS, require_valkey

pytestmark = pytest.mark.process

pty = pytest.importorskip("pty", reason="no pseudo-terminals: only POSIX has them")
# makes standard input the controlling terminal of a session of its own, then becomes the command
ADOPT_TERMINAL = (  # and be no child of nohup, even if the tests are: such a server outlives its terminal
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with one of the shipped models."""
    shutil.copytree(MODELS / "speech-digits", tmp_path / "models/speech-digits")
    return tmp_path / "models"


def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


def test_a_server_ends_when_its_terminal_closes(models: Path, tmp_path: Path) -> None:
    try:
        terminal, stdin = pty.openpty()
    except OSError:
        pytest.skip(NO_TERMINALS)
    port = free_port()
    command = serve_command(port, "--models", str(models), "--drain-s", "600")
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", ADOPT_TERMINAL, *command],
            cwd=ROOT, stdin=stdin, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        os.close(stdin)
        wait_until_ready(f"http://127.0.0.1:{port}", server)
        os.close(terminal)
        assert server.wait(timeout=STOP_TIMEOUT_S) == -signal.SIGTERM
    finally:
        server.kill()
        server.wait()
    assert "Finished server process" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("level", ["info", "error"])
def test_the_log_has_our_lines_from_its_level_on(models: Path, tmp_path: Path, level: str) -> None:
    rewrite(models / SPEECH.relative_to(MODELS), "bank.onnx", b"broken")
    shutil.copytree(MODELS / "shd-size", models / "shd-size")
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            serve_command(port, "--models", str(models), "--log-level", level),
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, server)
        assert 'hetsyn_model_versions_total{event="refused"} 1.0' in httpx.get(f"{url}/metrics").text
        (models / "default").write_text("shd-size\n")
        until(lambda: "hetsyn_model_reloads_total 1.0" in httpx.get(f"{url}/metrics").text, "no reload")
    finally:
        server.terminate()
        server.wait(timeout=STOP_TIMEOUT_S)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines.count(f"page: {url}/") == 1
    if level == "info":  # the port is bound
        assert lines.index(f"page: {url}/") > next(n for n, line in enumerate(lines) if "Uvicorn running on" in line)
    version = str(SPEECH.relative_to(MODELS))
    refused = [line for line in lines if line.startswith("ERROR:    refused: ") and version in line]
    assert len(refused) == 2  # at the start and at the reload
    summary = "INFO:     models reloaded: 0 opened, 0 retired, 1 refused; versions offered: 1"
    assert (summary in lines) is (level == "info")


@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
def test_a_port_in_use_is_one_line_before_anything_is_loaded(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = serve_command(free_port(), option, str(port), "--models", str(tmp_path / "none"))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"hetsyn: port {port} of 127.0.0.1 is in use: choose another one with {option} (0 takes a free one), or end "
        "the program that uses it\n"
    )


def test_two_ports_that_are_one_are_one_line(tmp_path: Path) -> None:
    port = free_port()
    command = serve_command(port, "--grpc-port", str(port), "--models", str(tmp_path / "none"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = f"hetsyn: --port and --grpc-port are both {port}: choose another for one of them\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_a_store_that_would_lose_sessions_is_one_line_and_nothing_starts(models: Path, tmp_path: Path) -> None:
    require_valkey()
    with ValkeyServer(tmp_path, "--maxmemory-policy", "allkeys-lru") as valkey:
        done = subprocess.run(
            serve_command(free_port(), "--models", str(models), "--store", valkey.url),
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("hetsyn: the store's maxmemory-policy is 'allkeys-lru'")
    assert "Traceback" not in done.stderr
    assert "Started server process" not in done.stderr


@pytest.mark.parametrize("append_only", ["no", "yes"])
def test_a_store_without_an_append_only_file_is_one_warning(models: Path, tmp_path: Path, append_only: str) -> None:
    require_valkey()
    port = free_port()
    with ValkeyServer(tmp_path, "--appendonly", append_only) as valkey, (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            serve_command(port, "--models", str(models), "--store", valkey.url),
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", server)  # asks the store a second time
        finally:
            server.terminate()
            server.wait(timeout=STOP_TIMEOUT_S)
    lines = (tmp_path / "log").read_text().splitlines()
    warnings = [line for line in lines if line.startswith("WARNING:  the store's append-only file is off")]
    assert len(warnings) == (append_only == "no")
    assert all("set appendonly to yes and appendfsync to always" in line for line in warnings)
