"""CPU contention: how much of the machine other programs use while a server on it is measured. Linux only.

CPU time that neither the server nor this process used went to other programs, and was taken from the server.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

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

    def usage(self) -> CpuUsage | None:
        """Since the last call, or since the beginning; None if a process is gone."""
        before, self._last = self._last, self._read()
        if before is None or self._last is None:
            return None
        wall_s, machine, server, own = (now - then for now, then in zip(self._last, before, strict=True))
        scale = 1 / (self._ticks_per_s * max(wall_s, 1e-9))
        return CpuUsage(server * scale, max(0.0, (machine - server - own) * scale), wall_s)

    async def until_quiet(self, timeout_s: float) -> None:
        """Wait until the machine is quiet, but no longer."""
        deadline_s, pause_s = time.monotonic() + timeout_s, QUIET_S
        while time.monotonic() < deadline_s:
            await asyncio.sleep(pause_s)
            usage = self.usage()
            if usage is None or usage.is_quiet:
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
