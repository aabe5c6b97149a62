"""How much of the machine other programs use while a server on it is measured. Linux alone says so.

What neither the server nor this process used, somebody else did, and the server would have had it. Where the
server runs elsewhere, or in a container whose processes cannot be seen, nothing is known.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from hetsyn_client.loadtest.target import Address

LISTENING = "0A"


@dataclass(frozen=True)
class Usage:
    """Cores that were busy on average: for the processes that listen, and for all but them and this one."""

    server_cores: float
    other_cores: float


class Neighbours:
    """Who used the machine between two calls of ``usage``.

    Args:
        server: process ids. proc: where the kernel's files are.
    """

    def __init__(self, server: Iterable[int], proc: Path = Path("/proc")) -> None:
        self._server = frozenset(server) - {os.getpid()}
        self._proc = proc
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._last = self._read()

    @staticmethod
    def of(address: Address) -> Neighbours | None:
        """Of a server on this machine; None where that cannot be told."""
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError:
            return None
        if not all(ip_address(str(place[0]).partition("%")[0]).is_loopback for *_, place in found):
            return None
        try:
            server = listeners(address.port)
            return Neighbours(server) if server else None
        except (OSError, ValueError):
            return None

    def usage(self) -> Usage | None:
        """Since the last call, or since the beginning; None where a process is gone."""
        before, self._last = self._last, self._read()
        if before is None or self._last is None:
            return None
        wall_s, machine, server, own = (now - then for now, then in zip(self._last, before, strict=True))
        scale = 1 / (self._ticks_per_s * max(wall_s, 1e-9))
        return Usage(server * scale, max(0.0, (machine - server - own) * scale))

    def _read(self) -> tuple[float, int, int, int] | None:
        """Time, and ticks that the machine was busy, the server, and this process."""
        try:
            user, nice, system, _, _, _, _, steal = map(
                int, (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]
            )
            own = self._ticks(os.getpid())
            server = sum(map(self._ticks, self._server))
        except (OSError, ValueError):
            return None
        return time.perf_counter(), user + nice + system + steal, server, own

    def _ticks(self, pid: int) -> int:
        # the name, in brackets, may hold anything
        values = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return int(values[11]) + int(values[12])


def listeners(port: int, proc: Path = Path("/proc")) -> set[int]:
    """Processes that listen on a port of TCP, and their descendants.

    Raises:
        OSError: there are no such files.
    """
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{inode}]")
    pids = [int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()]
    found = {pid for pid in pids if inodes & _open_files(proc / str(pid) / "fd")}
    parents = {pid: _parent(proc / str(pid) / "stat") for pid in pids}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def _open_files(folder: Path) -> set[str]:
    names = set()
    with suppress(OSError):  # gone, or another user's
        for entry in folder.iterdir():
            with suppress(OSError):
                names.add(str(entry.readlink()))
    return names


def _parent(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None
