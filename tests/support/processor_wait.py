"""What other programs on the machine take from a process: the time for which it was ready and had no processor."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


class ProcessorWait:
    """How long the threads of a process have waited for a processor since this was made; Linux alone."""

    def __init__(self, pid: int) -> None:
        self._threads = Path(f"/proc/{pid}/task")
        self._before_s = self._waits_s()

    def longest_s(self) -> float:
        """Give the wait of the thread that has waited longest: a sum would count what threads waited at once."""
        return max((now_s - self._before_s.get(thread, 0.0) for thread, now_s in self._waits_s().items()), default=0.0)

    def _waits_s(self) -> dict[str, float]:
        return {thread.name: waited_s(thread) for thread in self._threads.iterdir()}


def waited_s(thread: Path = Path("/proc/thread-self")) -> float:
    """Give the time for which a thread has waited in all, by default the calling one."""
    with suppress(OSError):  # a thread that has ended
        return 1e-9 * int((thread / "schedstat").read_text().split()[1])
    return 0.0
