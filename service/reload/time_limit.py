"""Runs what may never end: reading files of a disk that does not answer, loading and running a graph of somebody else.

Nothing ends a thread from outside. So each such work has a thread of its own, for which neither a reload nor the end of
the process waits. A graph that runs is ended by ``stop``; what does not end even so is left behind, and is not begun
anew while it is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

from service.errors import ArtifactError

T = TypeVar("T")
STOP_S = 2.0  # for which a stopped work is waited for: ONNX Runtime aborts the process if it exits during a run


def start_thread(work: Callable[[], T]) -> Future[T]:
    """Run something on a thread of its own, for which the end of the process does not wait."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # so that who awaits the future may be cancelled, but not the future
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
    """Bounds the time of each of several works, one after the other.

    Args:
        limit_s: for each.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._late: dict[Path, Future[Any]] = {}
        self._running: tuple[Future[Any], Callable[[], None]] | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def run(self, path: Path, work: Callable[[], T], stop: Callable[[], None] = lambda: None) -> T:
        """The result of some work.

        Args:
            path: that it reads.
            work: runs on another thread, and may be left behind there.
            stop: makes the work end soon, if that is possible; is called from this thread.

        Raises:
            ArtifactError: the work took too long, or still runs since it did.
            Exception: of the work.
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
            if future.done():  # its own, or it ended at the last moment
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
        """Stop the work that runs, from any thread, so that the process can exit. Nothing runs afterwards."""
        with self._lock:
            self._is_closed = True
            running = self._running
        if running is not None:
            _stopped(*running)


def _stopped(future: Future[Any], stop: Callable[[], None]) -> bool:
    """Stop a work that has not ended; whether it has ended then."""
    if not future.done():
        stop()
        wait([future], STOP_S)
    return future.done()
