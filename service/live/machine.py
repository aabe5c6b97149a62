"""The base of the protocols of ``/stream`` and ``/streams``: a queue of works, one at a time, and the end."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

from service.errors import InputError, ShuttingDown
from service.live.actions import Close, Send, SendBinary
from service.problem import Problem

NORMAL = 1000  # close code of RFC 6455
SHUTTING_DOWN = ShuttingDown(
    "the server is shutting down: open the stream again, and send the chunks that were not acknowledged",
    retry_after_s=0.0,
)
LONGEST = 64  # characters of what a client sent, in a message

W = TypeVar("W")


class Machine(ABC, Generic[W]):
    """The protocol of a connection. ``live.protocol`` and ``live.many`` extend it.

    Args:
        max_inflight: the connection is read only while the unfinished works count less (``_size``).
        max_bytes: the connection is read only while the unfinished works have fewer bytes.
    """

    def __init__(self, max_inflight: int, max_bytes: int) -> None:
        self._max_inflight = max_inflight
        self._max_bytes = max_bytes
        self._queue: deque[W] = deque()
        self._current: W | None = None
        self._inflight = 0  # sum over all unfinished works
        self._bytes = 0
        self._state: Literal["open", "ending", "closed"] = "open"
        self._drains = False

    @property
    def is_busy(self) -> bool:
        """Return whether a work is under way."""
        return self._current is not None

    @property
    def is_closed(self) -> bool:
        return self._state == "closed"

    @property
    def reads(self) -> bool:
        """Return whether the next message should be read."""
        return (
            self._state == "open"
            and not self._drains
            and self._inflight < self._max_inflight
            and self._bytes < self._max_bytes
        )

    @property
    def inflight(self) -> int:
        """Count the unfinished chunks; on ``/streams`` also the sessions that are being opened."""
        return self._inflight

    @property
    def held_bytes(self) -> int:
        """Count the bytes of the unfinished works."""
        return self._bytes

    @abstractmethod
    def begin(self) -> Sequence[Send | SendBinary | Close | W]:
        """Send the first frame."""

    def text(self, content: str) -> Sequence[Send | SendBinary | Close | W]:
        """Take a text frame."""
        if self._state != "open":
            return []
        try:
            frame = json.loads(content)
        except (ValueError, RecursionError):
            frame = None
        if not isinstance(frame, dict) or not isinstance(kind := frame.get("type"), str):
            return [bad_frame('this text frame is no JSON object with a type: send such as {"type": "CloseStream"}')]
        return [] if kind == "KeepAlive" else self._told(kind, frame)

    def refuse(self, problem: Problem) -> Sequence[Send | SendBinary | Close | W]:
        """End the connection with a problem, and drop the waiting works."""
        if self.is_closed:
            return []
        self.leave()
        return [Send(problem.frame()), Close(problem.close_code, problem.code)]

    def drain(self) -> Sequence[Send | SendBinary | Close | W]:
        """End the connection after its works, and read no more: the server is about to end."""
        self._drains = True
        return [] if self.is_busy else self._proceed()

    def leave(self) -> None:
        """Close the protocol and drop all works: the client has gone."""
        self._state = "closed"
        self._queue.clear()
        self._current, self._inflight, self._bytes = None, 0, 0

    @abstractmethod
    def _told(self, kind: str, frame: dict[str, Any]) -> Sequence[Send | SendBinary | Close | W]:
        """Take a text frame of this type."""

    @abstractmethod
    def _size(self, work: W) -> tuple[int, int]:
        """Return what a work counts in ``max_inflight`` and ``max_bytes``."""

    def _add(self, work: W) -> Sequence[Send | SendBinary | Close | W]:
        inflight, size = self._size(work)
        self._inflight += inflight
        self._bytes += size
        self._queue.append(work)
        return self._proceed()

    def _done(self) -> W | None:
        """End the current work and return it; None if it was dropped."""
        work, self._current = self._current, None
        if work is None:
            return None
        inflight, size = self._size(work)
        self._inflight -= inflight
        self._bytes -= size
        return work

    def _proceed(self) -> Sequence[Send | SendBinary | Close | W]:
        """Begin the next work, unless one is under way."""
        if self._current is not None or self._state == "closed":
            return []
        if not self._queue:
            return self._all_done()
        work = self._current = self._queue.popleft()
        return [work]

    def _all_done(self) -> Sequence[Send | SendBinary | Close | W]:
        """Return the actions that follow the last work."""
        return self.refuse(Problem.of(SHUTTING_DOWN)) if self._drains else []


def bad_frame(detail: str) -> Send:
    """Make the answer to an unknown text frame; the connection stays open."""
    return Send(Problem.of(InputError(detail)).frame())
