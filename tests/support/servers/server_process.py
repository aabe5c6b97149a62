"""Servers in processes of their own: any command, and ``hetsyn serve`` with the shipped models."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx

from tests.support.paths import MODELS, ROOT
from tests.support.servers import changed_server

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.05
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
ENDED = (0, -signal.SIGTERM)


class ServerError(Exception):
    """A server could not be started. The message has its last lines of output."""


@dataclass(frozen=True)
class ProcessStat:
    parent: int
    group: int
    cpu_s: float
    started_ticks: int  # with the pid, this identifies a process


def free_port() -> int:
    """Find a port that nobody listens on, below those that Linux gives to outgoing connections.

    A port that the kernel chose could be given to a connection before the server has it.
    """
    chance = random.SystemRandom()  # Hypothesis seeds the module's own in every process alike
    while True:
        port = chance.randrange(10_000, 32_768)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class ServerProcess:
    """A context in which a server runs. At its end the server ends, with all processes that it started.

    Args:
        command: program and arguments.
        environment: variables beside those of this process.
        missing: called until it returns None: what the server lacks to be ready. It should act as a client does.
        log: file for the server's output.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], missing: Callable[[], str | None], log: Path
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._missing = missing
        self._log = log

    def __enter__(self) -> ServerProcess:
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    self._command,
                    env=os.environ | self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise ServerError(str(error)) from error
        deadline_s = time.monotonic() + START_TIMEOUT_S
        try:
            while (missing := self._missing()) is not None:
                if self._process.poll() is not None:
                    raise ServerError(f"ended with {self._process.returncode}: {self._last_words()}")
                if time.monotonic() > deadline_s:
                    raise ServerError(f"not ready after {START_TIMEOUT_S:.0f} s: {missing}; {self._last_words()}")
                time.sleep(POLL_S)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def cpu_s(self) -> float:
        """CPU time so far of the server and of all its live processes."""
        return sum(stat.cpu_s for stat in self._tree().values())

    def is_alive(self) -> bool:
        """Whether the server has not ended by itself."""
        return self._process.poll() is None

    def pids(self) -> list[int]:
        """List the pids of the server and of all its live processes."""
        return list(self._tree())

    def _tree(self) -> dict[int, ProcessStat]:
        """The server, its descendants, and members of its group whose parents are gone."""
        stats = live_processes()
        leader = self._process.pid
        tree = {pid for pid, stat in stats.items() if pid == leader or stat.group == leader}
        while more := {pid for pid, stat in stats.items() if stat.parent in tree} - tree:
            tree |= more
        return {pid: stats[pid] for pid in tree}

    def _stop(self) -> None:
        tree = self._tree()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        left = {pid: stat.started_ticks for pid, stat in (tree | self._tree()).items()}
        while left := {pid: ticks for pid, ticks in left.items() if _started(pid) == ticks}:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_S)

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-400:] or "it printed nothing"


def serve_command(port: int, *options: str) -> list[str]:
    """The command of a server; options may have ``--set``, as in ``changed_server``."""
    has_changes = any(option.startswith(changed_server.SET) for option in options)
    run = ["-P", changed_server.__file__] if has_changes else ["-m", "hetsyn"]
    return [sys.executable, *run, "serve", "--models", str(MODELS), "--port", str(port), *options]


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server that starts is ready."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        assert process.poll() is None, "the server ended; its message stands above"
        try:
            if httpx.get(f"{url}/health/ready").is_success:
                return
        except httpx.TransportError:
            assert time.monotonic() < deadline_s, "the server did not start"
        time.sleep(POLL_S)


class RestartableServer:
    """A server, restarted on the same port.

    Args:
        options: of ``hetsyn serve``.
    """

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._options = options
        self.process = self._started()

    def ready(self) -> None:
        """Wait until it is."""
        wait_until_ready(self.url, self.process)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.process = self._started()
        self.ready()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                assert self.process.wait(timeout=STOP_TIMEOUT_S) in ENDED
            finally:
                self.kill()  # one that did not end

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(serve_command(self.port, *self._options), cwd=ROOT, stdin=subprocess.DEVNULL)


def live_processes() -> dict[int, ProcessStat]:
    """Read all processes of this machine; not the zombies."""
    return {int(path.name): stat for path in Path("/proc").glob("[0-9]*") if (stat := _stat(path)) is not None}


def _started(pid: int) -> int | None:
    stat = _stat(Path(f"/proc/{pid}"))
    return None if stat is None else stat.started_ticks


def _stat(path: Path) -> ProcessStat | None:
    """Of a process; None if it is gone or a zombie."""
    try:
        text = (path / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may contain anything
    if fields[0] in "ZX":
        return None
    cpu_s = (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
    return ProcessStat(int(fields[1]), int(fields[2]), cpu_s, int(fields[19]))
