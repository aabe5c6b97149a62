"""A server that may open few files: idle connections to its gRPC port leave enough of them to HTTP."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from tests.support.paths import RECORDINGS, ROOT
from tests.support.servers.server_process import RestartableServer, free_port, serve_command
from tests.support.tools import NO_TRITONCLIENT

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it reads /proc: run it on Linux"),
]

FILES = 640
GRPC_MOST = (FILES - 256) // 5  # a fourth of HTTP's
IDLE = 700  # more than there are files


class FewFiles(RestartableServer):
    """A server that may open ``FILES`` files."""

    def __init__(self, *options: str) -> None:
        self.grpc_port = free_port()
        super().__init__("--grpc-port", str(self.grpc_port), *options)

    def _started(self) -> subprocess.Popen[bytes]:
        command = ["sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh", *serve_command(self.port, *self._options)]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)


@pytest.fixture
def server() -> Iterator[FewFiles]:
    if find_spec("tritonclient") is None or find_spec("grpc_health") is None:
        pytest.skip(NO_TRITONCLIENT)
    server = FewFiles()
    try:
        server.ready()
        yield server
    finally:
        server.stop()


def test_idle_connections_to_grpc_leave_files_to_http(server: FewFiles) -> None:
    files = Path(f"/proc/{server.process.pid}/fd")
    before = len(list(files.iterdir()))
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", server.grpc_port), 10)) for _ in range(IDLE)]
        reply = httpx.post(
            f"{server.url}/infer?end=true",
            content=(RECORDINGS / "seven.wav").read_bytes(),
            headers={"Content-Type": "audio/wav"},
        )
        assert reply.json()["label"] == "seven"
        for connection in idle[GRPC_MOST:]:  # the server closes these at once; it would keep an idle one for 10 s
            connection.settimeout(5)
            assert connection.recv(1) == b""
        assert len(list(files.iterdir())) < before + GRPC_MOST + 20
