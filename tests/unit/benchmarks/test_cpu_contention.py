"""The kernel's files, written by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.cpu_contention import CpuContention, CpuUsage

SERVER, WORKER, OTHER = 10, 11, 12


def write(proc: Path, busy: int, server: int, own: int) -> None:
    (proc / "stat").write_text(f"cpu  {busy} 0 0 999 9 9 9 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    for pid, parent, ticks in ((SERVER, 1, server), (WORKER, SERVER, 0), (OTHER, 1, 77), (os.getpid(), 1, own)):
        (proc / str(pid) / "fd").mkdir(parents=True, exist_ok=True)
        fields = ["S", str(parent), *["0"] * 9, str(ticks), "0", *["0"] * 5]
        (proc / str(pid) / "stat").write_text(f"{pid} (a (strange) name) {' '.join(fields)}\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    write(tmp_path, 0, 0, 0)
    return tmp_path


def test_what_neither_the_server_nor_this_process_used_others_did(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock_s = iter([0.0, 2.0, 4.0])
    monkeypatch.setattr("benchmarks.cpu_contention.time.perf_counter", lambda: next(clock_s))
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    contention = CpuContention(lambda: [SERVER, WORKER], proc)
    write(proc, 4 * ticks_per_s, 2 * ticks_per_s, ticks_per_s)
    assert contention.usage() == CpuUsage(server_cores=1.0, other_cores=0.5, seconds=2.0)
    write(proc, 5 * ticks_per_s, 3 * ticks_per_s, ticks_per_s)
    assert contention.usage() == CpuUsage(server_cores=0.5, other_cores=0.0, seconds=2.0)


def test_nothing_is_known_of_a_process_that_is_gone(proc: Path) -> None:
    contention = CpuContention(lambda: [SERVER, 99], proc)
    assert contention.usage() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these files")
def test_the_kernels_own_files_are_read() -> None:
    assert CpuContention(lambda: [os.getppid()]).usage() is not None
