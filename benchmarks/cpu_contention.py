"""CPU contention: how much of the machine other programs use while a server on it is measured. Linux only.

CPU time that neither the server nor this process used went to other programs, and was taken from the server. For a
server on another machine, or in a container whose processes are not visible, nothing is known.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from tests.support.target import Address

LISTENING = "0A"  # a socket's state in /proc/net/tcp
QUIET_CORES = 0.15  # a machine on which other programs use no more is quiet
QUIET_S = 0.2  # the first look at the machine takes so long, each later look a second


@dataclass(frozen=True)
class CpuUsage:
    """Average use of the machine's cores over some time.

    Attributes:
        server_cores: by the server's processes.
        other_cores: by all processes but the server's and this one, and by other guests of the hardware (steal).
        seconds: the time.
    """

    server_cores: float
    other_cores: float
    seconds: float

    @property
    def is_quiet(self) -> bool:
        """Whether other programs left the machine to the server."""
        return self.other_cores <= QUIET_CORES

    @property
    def server_s(self) -> float:
        """CPU time of the server."""
        return self.server_cores * self.seconds


class CpuContention:
    """Use of the machine between two calls of ``usage``.

    Args:
        server: gives the ids of the server's processes, which may come and go.
        proc: folder of the kernel's files.
    """

    def __init__(self, server: Callable[[], Iterable[int]], proc: Path = Path("/proc")) -> None:
        self._server = server
        self._proc = proc
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._last = self._read()

    @staticmethod
    def of(address: Address) -> CpuContention | None:
        """For the server at an address of this machine; None if its processes cannot be found."""
        try:
            addresses = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError:
            return None
        if not all(ip_address(str(name[0]).partition("%")[0]).is_loopback for *_, name in addresses):
            return None
        try:
            server = listeners(address.port)
            return CpuContention(lambda: server) if server else None
        except (OSError, ValueError):
            return None

    def usage(self) -> CpuUsage | None:
        """Since the last call, or since the beginning; None if a process is gone."""
        before, self._last = self._last, self._read()
        if before is None or self._last is None:
            return None
        wall_s, machine, server, own = (now - then for now, then in zip(self._last, before, strict=True))
        scale = 1 / (self._ticks_per_s * max(wall_s, 1e-9))
        return CpuUsage(server * scale, max(0.0, (machine - server - own) * scale), wall_s)

    async def until_quiet(self, timeout_s: float, is_over: Callable[[CpuUsage], bool] = lambda _: False) -> None:
        """Wait until the machine is quiet.

        Args:
            timeout_s: the longest wait.
            is_over: called with the usage while other programs are busy; True ends the wait.
        """
        deadline_s, pause_s = time.monotonic() + timeout_s, QUIET_S
        while time.monotonic() < deadline_s:
            await asyncio.sleep(pause_s)
            usage = self.usage()
            if usage is None or usage.is_quiet or is_over(usage):
                return
            pause_s = 1.0

    def _read(self) -> tuple[float, int, int, int] | None:
        """Time, and CPU time in ticks of the whole machine, of the server, and of this process."""
        try:
            user, nice, system, _, _, _, _, steal = map(
                int, (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]
            )
            own = self._ticks(os.getpid())
            server = sum(self._ticks(pid) for pid in self._server() if pid != os.getpid())
        except (OSError, ValueError):
            return None
        return time.perf_counter(), user + nice + system + steal, server, own

    def _ticks(self, pid: int) -> int:
        # the name, in brackets, may contain anything
        values = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return int(values[11]) + int(values[12])


def listeners(port: int, proc: Path = Path("/proc")) -> set[int]:
    """Ids of the processes that listen on a TCP port, and of their descendants.

    Raises:
        OSError: the kernel has no such files.
    """
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{inode}]")
    pids = [int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()]
    servers = {pid for pid in pids if inodes & _open_files(proc / str(pid) / "fd")}
    parents = {pid: _parent(proc / str(pid) / "stat") for pid in pids}
    while grown := {pid for pid, parent in parents.items() if parent in servers} - servers:
        servers |= grown
    return servers


def _open_files(folder: Path) -> set[str]:
    names = set()
    with suppress(OSError):  # the process is gone, or another user's
        for entry in folder.iterdir():
            with suppress(OSError):
                names.add(str(entry.readlink()))
    return names


def _parent(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None
