"""Runs slow or untrusted work on a daemon thread with a time limit: reading a hung disk, loading a foreign graph.

Nothing can end a thread from outside. So each work has its own thread, and neither a reload nor the end of the process
waits for it. ``stop`` ends a running graph. Work that does not stop is left behind, and its folder is refused until the
work has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

from service.errors import ArtifactError

T = TypeVar("T")
STOP_S = 2.0  # to wait for stopped work: ONNX Runtime aborts a process that exits during a run


def start_thread(work: Callable[[], T]) -> Future[T]:
    """Run work on a daemon thread: the end of the process does not wait for it."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # so cancelling the awaiting task does not cancel the future
    threading.Thread(target=_run, args=(future, work), name="hetsyn-models", daemon=True).start()
    return future


def _run(future: Future[T], work: Callable[[], T]) -> None:
    try:
        value = work()
    except BaseException as error:
        future.set_exception(error)
        # the traceback of the error has this frame; a cycle would keep a retired model until the garbage is collected
        del future, work
    else:
        future.set_result(value)


class TimeLimit:
    """Bounds the time of several works, one after the other: each has ``limit_s``."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._late: dict[Path, Future[Any]] = {}
        self._running: tuple[Future[Any], Callable[[], None]] | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def run(self, path: Path, work: Callable[[], T], stop: Callable[[], None] = lambda: None) -> T:
        """Run a work, and return its result.

        Args:
            path: folder that the work reads.
            work: runs on another thread, and may be left behind there.
            stop: asks the work to end; called from this thread.

        Raises:
            ArtifactError: the work took too long, or an earlier one on this folder still runs.
            Exception: whatever the work raised.
        """
        late = self._late.get(path)
        if late is not None and not late.done():
            raise ArtifactError(
                f"{path}: is still being loaded since an earlier attempt: see whether its disk answers, or restart the "
                "server"
            )
        self._late.pop(path, None)
        with self._lock:  # so that ``close`` finds what was begun
            if self._is_closed:
                raise ArtifactError(f"{path}: is not loaded, because the server ends")
            future = start_thread(work)
            self._running = future, stop
        try:
            return future.result(self._limit_s)
        except TimeoutError:
            if future.done():  # the work raised it itself, or ended at the last moment
                return future.result()
            raise ArtifactError(
                f"{path}: was not loaded and tested within {self._limit_s:g} s: export the model again, or see "
                "whether its disk answers"
            ) from None
        finally:
            self._running = None
            if not _stopped(future, stop):
                self._late[path] = future
            del future  # as in ``_run``

    def close(self) -> None:
        """Stop the current work, from any thread, so that the process can exit. Later work is refused."""
        with self._lock:
            self._is_closed = True
            running = self._running
        if running is not None:
            _stopped(*running)


def _stopped(future: Future[Any], stop: Callable[[], None]) -> bool:
    """Stop a work, wait ``STOP_S`` for it, and return whether it has ended."""
    if not future.done():
        stop()
        wait([future], STOP_S)
    return future.done()
