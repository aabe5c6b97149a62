"""The kernel's files, written by hand."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from benchmarks.cpu_contention import CpuContention, CpuUsage, listeners
from tests.support.target import Address

SERVER, WORKER, OTHER = 10, 11, 12
HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def write(proc: Path, busy: int, server: int, own: int) -> None:
    (proc / "stat").write_text(f"cpu  {busy} 0 0 999 9 9 9 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    for pid, parent, ticks in ((SERVER, 1, server), (WORKER, SERVER, 0), (OTHER, 1, 77), (os.getpid(), 1, own)):
        (proc / str(pid) / "fd").mkdir(parents=True, exist_ok=True)
        fields = ["S", str(parent), *["0"] * 9, str(ticks), "0", *["0"] * 5]
        (proc / str(pid) / "stat").write_text(f"{pid} (a (strange) name) {' '.join(fields)}\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    write(tmp_path, 0, 0, 0)
    (tmp_path / "net").mkdir()
    lines = [
        "0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0        0 555 1 0 100 0 0 10 0",
        "1: 0100007F:1F40 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0        0 556 1 0 100 0 0 10 0",
        "2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0        0 557 1 0 100 0 0 10 0",
    ]
    (tmp_path / "net/tcp").write_text(HEADER + "\n".join(lines) + "\n")
    (tmp_path / str(SERVER) / "fd/3").symlink_to("socket:[555]")
    (tmp_path / str(OTHER) / "fd/3").symlink_to("socket:[556]")
    return tmp_path


def test_listeners_are_found_with_their_children(proc: Path) -> None:
    assert listeners(8000, proc) == {SERVER, WORKER}
    assert listeners(80, proc) == set()


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
def test_this_process_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert os.getpid() in listeners(port)
        contention = CpuContention.of(Address("127.0.0.1", port))
        assert contention is not None
        assert contention.usage() is not None


def test_nothing_is_known_of_servers_elsewhere_or_of_none() -> None:
    assert CpuContention.of(Address("192.0.2.1", 80)) is None
    assert CpuContention.of(Address("no-such-host.invalid", 80)) is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert CpuContention.of(Address("127.0.0.1", port)) is None
