"""The processes that faults affect: replicas, and the store that they share."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

from tests.long.faults.schedule import Kind
from tests.support.paths import ROOT
from tests.support.servers.relay import HOST, Relay
from tests.support.servers.server_process import ServerError, free_port, serve_command
from tests.support.servers.target import Address
from tests.support.stores.valkey import MISSING, ValkeyServer

READY_TIMEOUT_S = 30.0
POLL_S = 0.02
UNDER_WAY_TIMEOUT_S = 0.5
BETWEEN_LOSSES_S = 0.03  # time for servers to repeat a lost command
DISK_BYTES = 48 * 1024 * 1024
FILE_BYTES = 4096  # limit of a file's length that imitates a full disk
DAMAGE = b"\xa5" * 64
BALLAST_BYTES = 64 * 1024


class Replica:
    """``hetsyn serve`` on fixed ports.

    Args:
        store: URL of its sessions' store.
        log: where its output goes.
        options: further ones of ``hetsyn serve``.
        with_grpc: whether it listens for gRPC, too.
    """

    def __init__(self, store: str, log: Path, *options: str, with_grpc: bool = False) -> None:
        self.address = Address("127.0.0.1", free_port())
        self.grpc_port = free_port() if with_grpc else 0
        more = ["--grpc-port", str(self.grpc_port)] if with_grpc else []
        self._command = serve_command(self.address.port, "--store", store, "--log-level", "warning", *options, *more)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "pid after start"
        return self._process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def ready(self) -> None:
        """Wait until it is ready.

        Raises:
            ServerError: it ended, or took too long.
        """
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not await self._is_ready():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline_s:
                raise ServerError(f"a replica is not ready: {self.last_words()}")
            await asyncio.sleep(POLL_S)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()  # works for a stopped process too
            self._process.wait()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def refusal(self) -> tuple[int, str]:
        """The exit status and the last lines of output of a replica that refuses to start.

        Raises:
            ServerError: it runs.
        """
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        assert self._process is not None, "refusal after start"
        while (status := self._process.poll()) is None:
            if time.monotonic() > deadline_s or await self._is_ready():
                raise ServerError("a replica runs on a damaged file")
            await asyncio.sleep(POLL_S)
        return status, self.last_words()

    def last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " ".join(lines[-3:])[-400:]

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(1.0):
                reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
                try:
                    writer.write(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    status = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
        return status.startswith(b"HTTP/1.1 200")


class Store(Protocol):
    """A store with its possible faults. ``schedule.MIXES`` has the faults of each store."""

    url: str
    described: str

    def start(self) -> None: ...
    def close(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def lose_answers(self, lasts_s: float) -> int: ...
    def fill(self, pids: Sequence[int]) -> None: ...
    def free(self, pids: Sequence[int]) -> None: ...
    def damage(self) -> None: ...
    def restore(self) -> None: ...
    def disturb(self, kind: Kind, lasts_s: float) -> str: ...


class NoStore:
    """Sessions in the memory of each replica."""

    url = "memory://"
    described = "memory"

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    kill = pause = resume = damage = restore = start

    def lose_answers(self, lasts_s: float) -> int:  # noqa: ARG002
        return 0

    def fill(self, pids: Sequence[int]) -> None:
        pass

    free = fill

    def disturb(self, kind: Kind, lasts_s: float) -> str:  # noqa: ARG002
        """Play one of the faults of a cluster to its end. A remark."""
        return ""


class ValkeyStore(NoStore):
    """A Valkey server with an append-only file. The replicas connect to a relay in front of it.

    Raises:
        ServerError: no such program on this machine.
    """

    def __init__(self, folder: Path, appendfsync: str) -> None:
        self._server = ValkeyServer(folder, "--appendfsync", appendfsync)
        self._relay = Relay(self._server.port)
        self._relay.start()
        self.url = f"redis://{HOST}:{self._relay.port}/0"
        self.described = f"Valkey, appendfsync {appendfsync}"

    def start(self) -> None:
        try:
            self._server.start()
        except FileNotFoundError as error:
            raise ServerError(MISSING) from error

    def close(self) -> None:
        self._relay.close()
        self._server.__exit__(None, None, None)

    def kill(self) -> None:
        self._server.kill()

    def pause(self) -> None:
        self._server.pause()

    def resume(self) -> None:
        self._server.resume()

    def lose_answers(self, lasts_s: float) -> int:
        """Lose the answers to commands under way, then cut the connections, repeatedly. The number of lost answers."""
        first, until_s = self._relay.answers_lost, time.monotonic() + lasts_s
        while time.monotonic() < until_s:
            before, deadline_s = self._relay.answers_lost, time.monotonic() + UNDER_WAY_TIMEOUT_S
            self._relay.lose()
            while self._relay.answers_lost == before and time.monotonic() < deadline_s:
                time.sleep(0.001)
            self._relay.cut()
            time.sleep(BETWEEN_LOSSES_S)
        return self._relay.answers_lost - first

    def fill(self, pids: Sequence[int]) -> None:  # noqa: ARG002
        self._server.command("CONFIG", "SET", "maxmemory", "1")

    def free(self, pids: Sequence[int]) -> None:  # noqa: ARG002
        self._server.command("CONFIG", "SET", "maxmemory", "0")


class FileOnDisk(NoStore):
    """A SQLite file that the replicas share, on a small disk of its own if one can be mounted.

    Otherwise a limit on the length of files imitates a full disk: writes fail in the same way.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "disk"
        self._folder.mkdir()
        self._is_mounted = _mounted(self._folder, DISK_BYTES)
        self._path = self._folder / "sessions.db"
        self._copy = folder / "sessions.copy"
        self._ballast = self._folder / "ballast"
        self.url = f"file://{self._path}"
        disk = f"tmpfs of {DISK_BYTES >> 20} MiB" if self._is_mounted else "no disk of its own: a limit on files"
        self.described = f"file, {disk}"

    def close(self) -> None:
        if self._is_mounted:
            subprocess.run(["umount", str(self._folder)], check=False)

    def fill(self, pids: Sequence[int]) -> None:
        if not self._is_mounted:
            for pid in pids:
                hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (FILE_BYTES, hard))
            return
        self._checkpoint()  # otherwise SQLite reuses the log, which needs no space
        with self._ballast.open("wb", buffering=0) as ballast:
            for size in (BALLAST_BYTES, 1):
                try:
                    while True:
                        ballast.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self, pids: Sequence[int]) -> None:
        if self._is_mounted:
            self._ballast.unlink()
            return
        for pid in pids:
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    def damage(self) -> None:
        """Keep a copy of the file, which no process has open, and overwrite the beginning of every later page."""
        self._checkpoint()
        shutil.copyfile(self._path, self._copy)
        with closing(sqlite3.connect(self._path)) as database:
            (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
        with self._path.open("r+b") as file:
            for begin in range(page_bytes, self._path.stat().st_size, page_bytes):
                file.seek(begin)
                file.write(DAMAGE)

    def restore(self) -> None:
        for left in (f"{self._path}-wal", f"{self._path}-shm"):
            Path(left).unlink(missing_ok=True)
        shutil.copyfile(self._copy, self._path)

    def _checkpoint(self) -> None:
        with closing(sqlite3.connect(self._path, timeout=1.0)) as database, suppress(sqlite3.OperationalError):
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _mounted(folder: Path, size_bytes: int) -> bool:
    if os.geteuid():
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
