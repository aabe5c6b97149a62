"""Signals while a server starts."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path

from tests.long.hostile.case import Case, Figure, exactly
from tests.long.hostile.stage import AttackedServer, Stage


def attack_early(stage: Stage) -> Mapping[str, Figure]:
    """SIGHUP and SIGUSR1, which ask for a reload, while the server starts: as soon as it does not leave them alone."""
    ended, unprotected_s = [], 0.0
    for number in (signal.SIGHUP, signal.SIGUSR1):
        server = stage.server(is_awaited=False)
        began_s = time.monotonic()
        while not _expects(server, number) and time.monotonic() - began_s < 5.0:
            time.sleep(0.002)
        unprotected_s = max(unprotected_s, time.monotonic() - began_s)
        time.sleep(0.05)
        server.send(number)
        deadline_s = time.monotonic() + 20.0
        while server.process.poll() is None and not server.is_ready() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        if server.process.poll() is not None:
            ended.append(number.name)
        server.kill()
    return {"ended": len(ended), "which": "; ".join(ended), "unprotected_s": unprotected_s}


def _expects(server: AttackedServer, number: signal.Signals) -> bool:
    """Whether the process blocks, ignores or handles a signal."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


CASES = (
    Case(
        "signal-early",
        "A request for a reload ends a server that starts.",
        attack_early,
        {"ended": exactly(0)},
        {"ended": 1},
    ),
)
