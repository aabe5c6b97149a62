"""The protocol of ``WS /streams``: a state machine without input, output, event loop or clock.

One connection carries chunks of many sessions. Inputs are the client's messages, the answers to works, and the end of
the server. Outputs are actions, in order. A work is one frame of the client: sessions to open, or chunks. One work runs
at a time, so the chunks of each session stay in order, and each frame gets one frame as its answer, in order too.

    state    event                     actions
    ------   -----------------------   --------------------------------------------------------------
    open     frame of rows             Work, once the works before it are done
    open     its answer                SendBinary, then the next Work
    open     other bytes               Error, Close 4422: nothing of the frame was applied
    open     KeepAlive                 none
    open     unknown or bad text       Error
    open     CloseStream               after the works before: Termination, Close 1000
    open     drain                     after the works before: Error, Close 1012
    any      refusal                   Error, Close
    closed   any                       none

A refused row concerns its session alone: its answer has the problem, and the connection goes on. The connection is not
read (``reads``) while ``max_inflight`` rows or ``max_bytes`` wait; unread frames stay with the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from hetsyn_client.columns import CHUNKS, MOST_ROWS, SESSIONS
from service.errors import InputError
from service.live.actions import Close, Send, SendBinary
from service.live.machine import LONGEST, NORMAL, Machine, bad_frame
from service.live.text_frames import StreamsBegin, StreamsTermination
from service.problem import Problem
from service.wire.many_frames import Chunks, Sessions, unpack_chunks, unpack_sessions

MAX_INFLIGHT = MOST_ROWS  # rows
MAX_BYTES = 1024 * 1024
MAX_FRAMES = 64


class RowsWork(NamedTuple):
    """Open sessions, or apply chunks; answer with ``done``. ``size`` is that of the frame, in bytes."""

    rows: Sessions | Chunks
    size: int

    @property
    def row_count(self) -> int:
        return len(self.rows[0])


Action = Send | SendBinary | RowsWork | Close


class Offer(NamedTuple):
    """What all sessions of a connection share."""

    model: str
    version: str
    labels: Sequence[str]
    step_s: float
    max_sessions: int


class ManyStreams(Machine[RowsWork]):
    """One connection.

    Args:
        item_bytes: size of an event, a sample or a row of values.
    """

    def __init__(
        self, offer: Offer, item_bytes: int, *, max_inflight: int = MAX_INFLIGHT, max_bytes: int = MAX_BYTES
    ) -> None:
        super().__init__(max_inflight, max_bytes)
        self._offer = offer
        self._item_bytes = item_bytes
        self._applied = 0

    @property
    def reads(self) -> bool:
        return super().reads and len(self._queue) < MAX_FRAMES

    def begin(self) -> Sequence[Action]:
        offer = self._offer
        frame: StreamsBegin = {
            "type": "Begin",
            "model": offer.model,
            "version": offer.version,
            "labels": list(offer.labels),
            "step_ms": round(1000 * offer.step_s, 9),
            "max_inflight": self._max_inflight,
            "max_rows": MOST_ROWS,
            "max_sessions": offer.max_sessions,
        }
        return [Send(frame)]

    def binary(self, content: bytes) -> Sequence[Action]:
        """Take a binary frame."""
        if self._state != "open":
            return []
        try:
            work = RowsWork(self._unpacked(content), len(content))
        except InputError as error:
            return self.refuse(Problem.of(error))
        return self._add(work)

    def done(self, answer: bytes, applied: int) -> Sequence[Action]:
        """Answer the current work with a frame, after ``applied`` of its chunks were stored."""
        if self._done() is None or self.is_closed:
            return []
        self._applied += applied
        return [SendBinary(answer), *self._proceed()]

    def _told(self, kind: str, frame: dict[str, Any]) -> Sequence[Action]:  # noqa: ARG002
        if kind == "CloseStream":
            self._state = "ending"
            return self._proceed()
        return [bad_frame(f"there is no text frame of type {kind[:LONGEST]!r}: send KeepAlive or CloseStream")]

    def _size(self, work: RowsWork) -> tuple[int, int]:
        return work.row_count, work.size

    def _unpacked(self, content: bytes) -> Sessions | Chunks:
        if content.startswith(CHUNKS):
            return unpack_chunks(content, self._item_bytes)
        if content.startswith(SESSIONS):
            return unpack_sessions(content)
        raise InputError(
            f"the binary frame begins with neither {CHUNKS.decode()} (chunks) nor {SESSIONS.decode()} (sessions to "
            "open): pack it again"
        )

    def _all_done(self) -> Sequence[Action]:
        if self._state == "ending":
            frame: StreamsTermination = {"type": "Termination", "chunks": self._applied}
            self.leave()
            return [Send(frame), Close(NORMAL, "")]
        return super()._all_done()
