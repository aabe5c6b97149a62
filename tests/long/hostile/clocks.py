"""Steps of the wall clock, and servers whose clocks differ, on a store that they share."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path

from tests.long.hostile.case import Case, Figure, exactly
from tests.long.hostile.stage import AttackedServer, Stage
from tests.long.hostile.wire import Client
from tests.support.changed_server import CLOCK

SWEEP_S = 0.5
SWEEPS_S = 2.0  # a few searches for expired sessions
STEPS_S = {"700_s_ahead": 700.0, "1_h_back": -3_600.0, "5000_s_ahead": 5_000.0, "2_d_back": -172_800.0}


class ClockedServer:
    """A server on a store in a file, whose wall clock can be moved."""

    def __init__(self, stage: Stage, name: str, store: Path, ahead_s: float = 0.0) -> None:
        self._file = stage.folder / f"{name}.clock"
        self.move(ahead_s)
        self.server: AttackedServer = stage.server(
            "--store",
            f"file://{store}",
            f"--set=sweep_interval_s={SWEEP_S}",
            environment={CLOCK: str(self._file)},
        )
        self.client = Client(self.server.port)

    def move(self, ahead_s: float) -> None:
        """Set the clock, as a step, by seconds from the right time."""
        part = self._file.with_suffix(".part")
        part.write_text(str(ahead_s))
        part.replace(self._file)


def attack_steps(stage: Stage) -> Mapping[str, Figure]:
    """Steps ahead and back, each undone after some searches for expired sessions."""
    clocked = ClockedServer(stage, "moved", stage.folder / "moved.db")
    client = clocked.client
    figures: dict[str, Figure] = {}
    for name, ahead_s in list(STEPS_S.items())[: 2 if stage.is_quick else None]:
        touched, untouched, begun = f"{name}-touched", f"{name}-untouched", f"{name}-begun"
        client.chunk(touched, seq=0)
        client.chunk(untouched, seq=0)
        clocked.move(ahead_s)
        during = [client.outcome(touched, seq=1), client.outcome(begun, seq=0)]
        time.sleep(SWEEPS_S)
        clocked.move(0.0)
        after = [client.outcome(touched, seq=1), client.outcome(untouched, seq=1), client.outcome(begun, seq=0)]
        time.sleep(SWEEP_S)
        after += [client.outcome(untouched, seq=2)]
        figures[f"{name}_during"] = ",".join(during)
        figures[f"{name}_after"] = ",".join(after)
    ended = {name: text for name, text in figures.items() if name.endswith("_after") and text != "200,200,200,200"}
    return {"steps_that_end_sessions": len(ended), **figures}


def attack_difference(stage: Stage) -> Mapping[str, Figure]:
    """Two servers on one store whose clocks differ by 650 s, which is more than a session may be idle."""
    right = ClockedServer(stage, "right", stage.folder / "shared.db")
    refused = []
    for name, ahead_s in (("ahead", 650.0), ("behind", -650.0)):
        other = ClockedServer(stage, name, stage.folder / "shared.db", ahead_s)
        right.client.chunk(name, seq=0)
        time.sleep(SWEEPS_S)
        outcomes = [
            other.client.outcome(name, seq=1),
            right.client.outcome(name, seq=2),
            other.client.outcome(name, seq=3),
        ]
        other.server.kill()
        if outcomes != ["200"] * 3:
            refused.append(f"{name}: {','.join(outcomes)}")
    return {"refused": len(refused), "which": "; ".join(refused)}


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
        "clock-steps",
        "A step of the clock that is soon undone ends sessions for good.",
        attack_steps,
        {"steps_that_end_sessions": exactly(0)},
        {"steps_that_end_sessions": 3},
    ),
    Case(
        "clock-difference",
        "A server whose clock is 650 s ahead or behind refuses the sessions of the other.",
        attack_difference,
        {"refused": exactly(0)},
        {"refused": 2},
    ),
    Case(
        "signal-early",
        "A request for a reload ends a server that starts.",
        attack_early,
        {"ended": exactly(0)},
        {"ended": 1},
    ),
)
