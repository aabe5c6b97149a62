"""CPU time of threads, and a priority under which other programs of the machine disturb less. Linux."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NICENESS = -20  # as of `nice -n -20`


def main_thread_s(pids: Iterable[int]) -> float:
    """CPU time so far of the main threads of processes: where their event loops run."""
    return sum(_spent_s(pid, pid) for pid in pids)


def process_s(pids: Iterable[int]) -> float:
    """CPU time so far of all threads of processes."""
    return sum(_spent_s(pid, thread) for pid in pids for thread in _threads(pid))


@contextmanager
def undisturbed(pids: Iterable[int]) -> Iterator[str]:
    """Within this context processes, and this one, run before all usual ones. Where that is not allowed, as usual.

    A real-time priority would be higher still. But Linux stops such a thread for 50 ms in each second in which it never
    rests, and a full event loop never rests.

    Args:
        pids: of the other processes.

    Yields:
        how they run, in words.
    """
    changed: dict[int, int] = {}
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    every = [os.getpid(), *pids]
    try:
        try:
            for thread in (thread for pid in every for thread in _threads(pid)):
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    before = os.getpriority(os.PRIO_PROCESS, thread)
                    os.setpriority(os.PRIO_PROCESS, thread, NICENESS)
                    changed[thread] = before
        except PermissionError:
            yield "as other programs"
        else:
            yield f"niceness {NICENESS}: before other programs"
    finally:
        if changed:
            for thread in set(changed) | {thread for pid in every for thread in _threads(pid)}:
                with suppress(ProcessLookupError):
                    os.setpriority(os.PRIO_PROCESS, thread, changed.get(thread, usual))


def _threads(pid: int) -> list[int]:
    try:
        return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:
        return []


def _spent_s(pid: int, thread: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
