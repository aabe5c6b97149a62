"""A store in a file whose file is deleted or replaced while the server runs, or whose disk is full."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tests.long.hostile.case import Case, Figure, Skipped, at_least, at_most, exactly
from tests.long.hostile.stage import AttackedServer, Stage
from tests.long.hostile.wire import Client

SWEEP_S = 1.0  # the server may notice with each search for expired sessions
NOTICED_S = 8.0
DISK_BYTES = 3 << 20
IDLE_S = 2.0


def _delete(path: Path, backup: Path) -> None:  # noqa: ARG001
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _delete_wal(path: Path, backup: Path) -> None:  # noqa: ARG001
    Path(f"{path}-wal").unlink(missing_ok=True)


def _replace(path: Path, backup: Path) -> None:
    backup.replace(path)


def _overwrite(path: Path, backup: Path) -> None:
    shutil.copyfile(backup, path)


def _backup(path: Path) -> Path:
    """A copy of the database as it is now, in one file."""
    copied = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copied)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
    return copied


DAMAGES: Mapping[str, tuple[str, Callable[[Path, Path], None]]] = {
    "deleted": ("The store's file is deleted: chunks are acknowledged, and nothing is kept.", _delete),
    "wal-deleted": ("The store's log is deleted: chunks are acknowledged, and nothing is kept.", _delete_wal),
    "replaced": ("A backup takes the place of the store's file: two servers have two databases.", _replace),
    "overwritten": ("A backup is copied over the store's file.", _overwrite),
}


def damage(name: str) -> Callable[[Stage], Mapping[str, Figure]]:
    """The attack with one kind of damage: when does the server notice, and what does it acknowledge in vain?"""

    def attack(stage: Stage) -> Mapping[str, Figure]:
        folder = stage.folder / "store"
        folder.mkdir()
        path = folder / "sessions.db"
        options = ("--store", f"file://{path}", f"--set=sweep_interval_s={SWEEP_S}")
        server = stage.server(*options)
        client = Client(server.port)
        client.chunk("a", seq=0)
        backup = _backup(path)
        for seq in range(1, 4):
            client.chunk("a", seq=seq)
        DAMAGES[name][1](path, backup)
        began_s, expected = time.monotonic(), 4
        while time.monotonic() - began_s < NOTICED_S:
            is_taken = client.outcome("a", seq=expected) == "200"
            expected += is_taken
            if not is_taken or not server.is_ready():
                break
            time.sleep(0.1)
        noticed_s = time.monotonic() - began_s
        ready, after = server.is_ready(), client.outcome("a", seq=expected)
        expected += after == "200"
        server.kill()
        return {
            "noticed_s": noticed_s,
            "ready_after": int(ready),
            "chunk_after": after,
            "lost_chunks": expected - _kept(stage, options),
        }

    return attack


def _kept(stage: Stage, options: Sequence[str]) -> int:
    """The number of the next chunk of session ``a`` at a new server on the store; 0 if there is no such session."""
    server = stage.server(*options, is_awaited=False)
    try:
        server.await_ready()
        shown = Client(server.port).call("GET", "/sessions/a")
        return int(shown.json()["expected_seq"]) if shown.status == 200 else 0
    except Exception:  # a server that refuses the store keeps what is there
        return 0
    finally:
        server.kill()


def attack_full(stage: Stage) -> Mapping[str, Figure]:
    """A full disk: does the server make room by what it may delete?"""
    folder = stage.folder / "disk"
    folder.mkdir()
    _mount(folder, stage)
    options = [
        *("--store", f"file://{folder}/sessions.db", f"--session-idle-s={IDLE_S}", f"--set=sweep_interval_s={SWEEP_S}"),
        "--set=ended_keep_s=1",
    ]
    server = stage.server(*options)
    client = Client(server.port)
    names = _fill(client)
    ready_full = server.is_ready()
    full = client.outcome("full", seq=0)
    # the youngest, which have not expired
    deleted = sum(client.call("DELETE", f"/sessions/{name}").status == 204 for name in names[-10:])
    ended = sum(client.outcome(name, seq=1, end="true") == "200" for name in names[-20:-10])
    again = [client.outcome(f"again-{number}", seq=0) for number in range(5)]
    deadline_s = time.monotonic() + (8.0 if stage.is_quick else 20.0)
    while (later := client.outcome("later", seq=0)) != "200" and time.monotonic() < deadline_s:
        time.sleep(0.5)
    return {
        "opened": len(names),
        "new_when_full": full,
        "ready_when_full": int(ready_full),
        "deleted_of_10": deleted,
        "ended_of_10": ended,
        "new_after_deletions": again.count("200"),
        "new_after_expiry": later,
        "after_restart": _after_restart(stage, server, options),
    }


def _fill(client: Client) -> list[str]:
    """Open sessions until the store refuses ten in a row. The names of those that it took."""
    taken: list[str] = []
    refused = number = 0
    while refused < 10 and number < 2_000:
        name = f"fill-{number}"
        if client.outcome(name, 1, seq=0) == "200":
            taken.append(name)
            refused = 0
        else:
            refused += 1
        number += 1
    return taken


def _after_restart(stage: Stage, server: AttackedServer, options: Sequence[str]) -> str:
    server.end()
    return Client(stage.server(*options).port).outcome("restarted", seq=0)


def _mount(folder: Path, stage: Stage) -> None:
    """A small disk in memory, which goes with the stage.

    Raises:
        Skipped: only root may mount, on Linux.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Skipped("a small disk needs root on Linux")
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise Skipped(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    stage.finally_call(lambda: subprocess.run(["umount", "-l", str(folder)], check=False))


NOTICED = {"noticed_s": at_most(6), "ready_after": exactly(0), "chunk_after": exactly("503")}
CASES = (
    *(
        Case(
            f"store-{name}",
            sentence,
            damage(name),
            # a copy over the file keeps its inode; SQLite's log then brings back what the copy does not have
            {"lost_chunks": exactly(0)} if name == "overwritten" else NOTICED,
            {}
            if name in ("overwritten", "replaced")
            else {"noticed_s": NOTICED_S, "ready_after": 1, "chunk_after": "200"},
        )
        for name, (sentence, _) in DAMAGES.items()
    ),
    Case(
        "store-full",
        "On a full disk nothing can be deleted, ended or expired, so the store stays full, and the server says ready.",
        attack_full,
        {
            "deleted_of_10": exactly(10),
            "ended_of_10": exactly(10),
            "new_after_deletions": at_least(1),
            "new_after_expiry": exactly("200"),
            "after_restart": exactly("200"),
        },
        {
            "opened": 143,
            "ready_when_full": 1,
            "deleted_of_10": 0,
            "ended_of_10": 0,
            "new_after_expiry": "503",
            "after_restart": "503",
        },
    ),
)
