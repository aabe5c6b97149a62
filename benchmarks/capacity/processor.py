"""CPU time of threads, and a priority under which other programs of the machine do not disturb. Linux."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PRIORITY = 10  # of SCHED_RR, as of `chrt -r 10`


def main_thread_s(pids: Iterable[int]) -> float:
    """CPU time so far of the main threads of processes: where their event loops run."""
    return sum(_spent_s(pid, pid) for pid in pids)


def process_s(pids: Iterable[int]) -> float:
    """CPU time so far of all threads of processes."""
    return sum(_spent_s(pid, thread) for pid in pids for thread in _threads(pid))


@contextmanager
def undisturbed(pids: Iterable[int]) -> Iterator[str]:
    """Within this context processes, and this one, run before all usual ones. Where that is not allowed, as usual.

    Linux stops a thread of such a priority for 50 ms in each second in which it does nothing but work.

    Args:
        pids: of the other processes.

    Yields:
        how they run, in words.
    """
    raised: set[int] = set()
    try:
        try:
            for thread in (thread for pid in (os.getpid(), *pids) for thread in _threads(pid)):
                os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(PRIORITY))
                raised.add(thread)
        except PermissionError:
            yield "as other programs"
        else:
            yield f"SCHED_RR {PRIORITY}: before other programs"
    finally:
        if raised:
            for thread in raised | {thread for pid in (os.getpid(), *pids) for thread in _threads(pid)}:
                with suppress(ProcessLookupError):
                    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


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
