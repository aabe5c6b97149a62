"""``hetsyn serve`` as a process of its own, with the shipped models."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import httpx

from benchmarks.server_process import free_port
from tests.support.paths import MODELS, ROOT

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
ENDED = (0, -signal.SIGTERM)


def serve_command(port: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "hetsyn", "serve", "--models", str(MODELS), "--port", str(port), *options]


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
        time.sleep(0.05)


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
            assert self.process.wait(timeout=STOP_TIMEOUT_S) in ENDED

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(serve_command(self.port, *self._options), cwd=ROOT, stdin=subprocess.DEVNULL)
