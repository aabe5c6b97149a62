"""Servers in processes of their own end with their test."""

from __future__ import annotations

import subprocess

import pytest

from tests.support import server_process
from tests.support.server_process import RestartableServer


class DeafServer(RestartableServer):
    """Heeds no SIGTERM."""

    def ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.process.stdout.close()

    def _started(self) -> subprocess.Popen[bytes]:
        command = ["sh", "-c", "trap '' TERM; echo ready; exec sleep 600"]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def test_a_server_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "STOP_TIMEOUT_S", 0.0)
    server = DeafServer()
    server.ready()
    with pytest.raises(subprocess.TimeoutExpired):
        server.stop()
    assert server.process.returncode == -9
