"""What other programs on the machine take from a process: the time for which it was ready and had no processor."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def waited_s(pid: int) -> float:
    """Sum the time for which the threads of a process have waited for a processor; Linux alone."""
    return sum(_waited_s(thread) for thread in Path(f"/proc/{pid}/task").iterdir())


def this_thread_waited_s() -> float:
    """Give the time for which the calling thread has waited for a processor; Linux alone."""
    return _waited_s(Path("/proc/thread-self"))


def _waited_s(thread: Path) -> float:
    with suppress(OSError):  # a thread that has ended
        return 1e-9 * int((thread / "schedstat").read_text().split()[1])
    return 0.0
