"""``hetsyn serve --workers`` as processes of their own, and what its tests ask of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np

from tests.support.json_input import Json
from tests.support.paths import ROOT
from tests.support.recording_stream import pieces
from tests.support.server_process import RestartableServer, serve_command

TIMEOUT_S = 60.0
SPIKES = {"kind": "events", "steps": 5, "times": [1], "units": [3]}
SESSIONS = [f"session-{n}" for n in range(12)]  # all of one worker: once in 2,000 times
PCM = np.frombuffer(b"".join(pieces()), "<i2")


class WorkersServer(RestartableServer):
    """A server with workers.

    Args:
        options: of ``hetsyn serve``.
        count: of workers.
        log: file that gets the server's output; None leaves it to the test's.
    """

    def __init__(self, *options: str, count: int = 2, log: Path | None = None) -> None:
        self.count = count
        self.log = log
        super().__init__("--workers", str(count), *options)

    def pids(self) -> list[int]:
        """The processes of the workers that run, in the order of their start."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def kill_worker(self, number: int) -> int:
        """Kill a worker; its process number."""
        pid = self.pids()[number]
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_until_whole(self, without: int = 0) -> None:
        """Wait until all workers serve.

        Args:
            without: number of a process that has been killed.
        """
        deadline_s = time.monotonic() + TIMEOUT_S
        while without in self.pids() or metrics(self.url).get("hetsyn_workers") != self.count:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def wait_until_logged(self, text: str, times: int = 1) -> None:
        """Wait until the log has a text so often."""
        assert self.log is not None
        deadline_s = time.monotonic() + TIMEOUT_S
        while self.log.read_text().count(text) < times:
            assert time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.05)

    def _started(self) -> subprocess.Popen[bytes]:
        if self.log is None:
            return super()._started()
        with self.log.open("ab") as output:
            command = serve_command(self.port, *self._options)
            return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=output)


def metrics(url: str) -> dict[str, float]:
    """The samples of ``/metrics``, by name and labels."""
    lines = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def spikes(url: str, session: str | None, seq: int | None, **more: object) -> httpx.Response:
    """The response to a chunk of few spikes."""
    body: Json = {"model": "shd-words", "input": SPIKES, **more}
    return httpx.post(
        f"{url}/infer", json=body | {k: v for k, v in (("session", session), ("seq", seq)) if v is not None}
    )
