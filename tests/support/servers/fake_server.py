"""A server of fake models as a process of its own, so that its memory is its own: ``open_inference.live_server``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.clients.open_inference import live_server
from tests.support.paths import ROOT


class FakeServer:
    """A running server.

    Attributes:
        grpc: address of its gRPC port.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._status = Path(f"/proc/{process.pid}/status")
        addresses = self._read()
        self.url, self.grpc = str(addresses["url"]), str(addresses["grpc"])

    def in_use(self) -> int:
        """Requests and bytes that the server still counts."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._read()["in_use"])

    def reset_peak(self) -> None:
        """Begin the search for the peak anew, from what the process holds now."""
        if self._status.exists():
            self._status.with_name("clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """The most memory that the process had at any time; 0 where the system does not say."""
        if not self._status.exists():
            return 0.0
        for line in self._status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("the server has ended")

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server has ended; its message stands above"
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def fake_server(folder: Path, **settings: Any) -> Iterator[FakeServer]:
    """A server that ends with the context."""
    command = [sys.executable, "-m", "tests.support.servers.fake_server", str(folder), json.dumps(settings)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield FakeServer(process)
        finally:
            process.kill()


def _serve(folder: str, settings: str) -> None:
    with live_server(Path(folder), **json.loads(settings)) as live:
        print(json.dumps({"url": live.url, "grpc": live.grpc}), flush=True)
        server = live.app.state.server
        for _ in sys.stdin:
            in_use = server.uploads.bytes + server.uploads.under_way + server.admission.in_flight
            print(json.dumps({"in_use": in_use}), flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
