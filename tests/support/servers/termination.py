"""The end of a program that starts servers and makes folders: nothing of it stays."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from tests.support.servers.server_process import POLL_S, live_processes

PR_SET_CHILD_SUBREAPER = 36
LEAVE_S = 10


@contextmanager
def nothing_stays() -> Iterator[None]:
    """Run a program whose processes and temporary folders end with it, also by SIGTERM and SIGINT.

    These leave all contexts, which end what they have started. A signal may come before a context has begun, so what is
    left at the end is killed and removed.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    if sys.platform == "linux":  # the processes of a child that has ended become this one's children
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory(prefix="hetsyn-") as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            _kill_children()


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    # only once: `timeout` sends its signal twice, and the second would interrupt the contexts
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: None)
    # uvloop reports an exception in a protocol's callback and goes on, so leave again until it succeeds
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(128 + number))
    signal.setitimer(signal.ITIMER_REAL, LEAVE_S, LEAVE_S)
    sys.exit(128 + number)


def _kill_children() -> None:
    while children := [pid for pid, stat in live_processes().items() if stat.parent == os.getpid()]:
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)
