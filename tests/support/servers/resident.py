"""Memory of a server's processes."""

from __future__ import annotations

from pathlib import Path

from tests.support.servers.server_process import ServerProcess


def resident_bytes(server: ServerProcess) -> int:
    """Read the resident memory of all processes of a server."""
    total = 0
    for pid in server.pids():
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total
