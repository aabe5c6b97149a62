"""Reads standard input on a thread, so that answers can be shown while nothing comes."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator

from hetsyn_client.errors import InputError

READ_BYTES = 64 * 1024
MOST_WAITING = 8  # limit of waiting reads; beyond it the writing program blocks
PATIENCE_S = 0.05  # wait for input before other work


class StandardInput:
    """The bytes of a pipe.

    Args:
        is_stopped: returns whether the user has ended the input; it then ends like a closed pipe.
    """

    def __init__(self, descriptor: int, is_stopped: Callable[[], bool] = lambda: False) -> None:
        self._descriptor = descriptor
        self._is_stopped = is_stopped
        self._waiting: queue.Queue[bytes | OSError] = queue.Queue(MOST_WAITING)
        self._has_ended = False
        threading.Thread(target=self._read, name="standard input", daemon=True).start()

    def at_least(self, count: int) -> bytes:
        """Read the next bytes, ``count`` or more; fewer at the end.

        Raises:
            InputError: it cannot be read.
        """
        content = b""
        while len(content) < count and not self._is_over():
            content += self._next(PATIENCE_S) or b""
        return content

    def pieces(self, head: bytes, most: int, unit: int, size: int | None = None) -> Iterator[bytes | None]:
        """Read pieces of whole units up to the end. An incomplete unit at the end is dropped.

        Args:
            head: bytes that were read already.
            most: limit of a piece in bytes, a multiple of ``unit``.
            unit: bytes of a unit.
            size: bytes of the whole input; None up to the end.

        Yields:
            A piece as soon as there is one; None when nothing has come for a moment.

        Raises:
            InputError: it cannot be read.
        """
        left = head
        while True:
            if size is not None:
                left = left[:size]
            while length := min(most, len(left) // unit * unit):
                yield left[:length]
                left = left[length:]
                size = None if size is None else size - length
            if self._is_over() or (size is not None and size < unit):
                return
            came = self._next(0) or b""
            if not came:
                yield None
                came = self._next(PATIENCE_S) or b""
            left += came

    def _is_over(self) -> bool:
        return self._has_ended or self._is_stopped()

    def _next(self, timeout_s: float) -> bytes | None:
        """Return the next bytes; None if none come in time."""
        try:
            came = self._waiting.get(timeout=timeout_s) if timeout_s else self._waiting.get_nowait()
        except queue.Empty:
            return None
        if isinstance(came, OSError):
            raise InputError(f"standard input cannot be read ({came.strerror}): send sound into it") from came
        self._has_ended = not came
        return came

    def _read(self) -> None:
        while True:
            try:
                came: bytes | OSError = os.read(self._descriptor, READ_BYTES)
            except OSError as error:
                came = error
            self._waiting.put(came)
            if not came or isinstance(came, OSError):
                return
