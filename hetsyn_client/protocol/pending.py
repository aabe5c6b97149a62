"""Keeps the chunks of many sessions until the server has acknowledged them. Pure, for ``LiveStreams``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from hetsyn_client.columns import APPLIED, END, ENDED, MOST_ROWS, Opened, Results, pack_chunks
from hetsyn_client.errors import ServiceProblem, SessionLost
from hetsyn_client.protocol.steps import Broken


class Content(NamedTuple):
    """The content of a chunk.

    Attributes:
        steps: network steps of events; else 0.
        length: events, samples or rows of values.
        first: times of events; the whole content of samples and values.
        second: units of events.
    """

    steps: int = 0
    length: int = 0
    first: bytes = b""
    second: bytes = b""


class _Row(NamedTuple):
    handle: int
    seq: int
    action: int
    content: Content


class _Session:
    """A session of a connection.

    Attributes:
        next_seq: number of the next chunk.
        rows: rows that were not acknowledged.
        under_way: rows that the server has not answered.
        is_behind: a row was refused temporarily, and those after it too.
        pause_s: how long the server asks to wait before they are sent again.
    """

    def __init__(self, session_id: str, next_seq: int) -> None:
        self.id = session_id
        self.next_seq = next_seq
        self.rows: deque[_Row] = deque()
        self.under_way = 0
        self.is_behind = False
        self.pause_s = 0.0

    @property
    def first_seq(self) -> int:
        """Return the number of the first chunk that was not acknowledged."""
        return self.rows[0].seq if self.rows else self.next_seq

    def acknowledge(self, seq: int) -> None:
        while self.rows and self.rows[0].seq <= seq:
            self.rows.popleft()


class Pending:
    """The sessions of a connection, by handle.

    Attributes:
        under_way: rows that the server has not answered.
    """

    def __init__(self) -> None:
        self._sessions: dict[int, _Session] = {}
        self.under_way = 0

    def __contains__(self, handle: int) -> bool:
        return handle in self._sessions

    def ids(self, *, begun: bool) -> dict[int, str]:
        """Return handles and ids of the sessions with a stored chunk (``begun``), or of the others."""
        return {handle: one.id for handle, one in self._sessions.items() if (one.first_seq > 0) == begun}

    def add(self, handle: int, session_id: str, next_seq: int) -> None:
        """Add an opened session."""
        self._sessions[handle] = _Session(session_id, next_seq)

    def remove(self, handle: int) -> None:
        """Forget a session."""
        self._sessions.pop(handle, None)

    def frames(self, handles: Sequence[int], action: int, content: Sequence[Content]) -> Iterator[bytes]:
        """Number and keep a chunk of each session, and yield the frames to send. A yielded frame counts as sent."""
        rows = []
        for handle, one in zip(handles, content, strict=True):
            session = self._sessions[handle]
            row = _Row(handle, session.next_seq, action, one)
            session.rows.append(row)
            session.next_seq += 1
            if not session.is_behind:  # else it is sent with those before it
                rows.append(row)
        return self._packed(rows)

    def take(self, results: Results) -> tuple[list[int], float]:
        """Take results.

        Returns:
            The sessions to send again (``repeat``), and the seconds to wait before.
        """
        self.under_way -= len(results.seq)
        again: list[int] = []
        pause_s = 0.0
        columns = (results.handle.tolist(), results.seq.tolist(), results.action.tolist(), results.status.tolist())
        for row, (handle, seq, action, status) in enumerate(zip(*columns, strict=True)):
            session = self._sessions.get(handle)
            if session is None:
                continue
            session.under_way -= 1
            more = results.more.get(row, {})
            if status == APPLIED:
                session.acknowledge(seq)
                if action == END:  # also if a chunk before it was refused, and had counted (a store failed late)
                    del self._sessions[handle]
                    continue
            elif more.get("retryable") or session.is_behind:
                session.is_behind = True
                session.pause_s = max(session.pause_s, more.get("retry_after_s") or 0.0)
            else:
                session.rows.clear()  # the caller sees the refusal, and the rows after it are refused too
            if session.is_behind and not session.under_way:
                again.append(handle)
                pause_s = max(pause_s, session.pause_s)
        return again, pause_s

    def reopen(self, handles: Sequence[int], opened: Opened) -> None:
        """Take the answer to sessions that were reopened on another connection.

        Raises:
            ServiceProblem: one of them cannot go on.
            Broken: one of them can go on later.
        """
        columns = zip(handles, opened.next_seq.tolist(), opened.state.tolist(), strict=True)
        for row, (handle, next_seq, state) in enumerate(columns):
            session = self._sessions[handle]
            if more := opened.more.get(row):
                if more["retryable"]:
                    raise Broken(str(more["detail"]))
                kind = SessionLost if more["problem"] == "not-found" else ServiceProblem
                detail = f"session {session.id!r}: {more['detail']}"
                raise kind(int(opened.status[row]), detail, more["expected_seq"], None, more["problem"])
            next_seq -= state == ENDED  # the server sends the last result again
            session.acknowledge(next_seq - 1)
            first = session.first_seq
            if first != next_seq:
                detail = f"session {session.id!r} goes on with chunk {next_seq}, this stream with {first}"
                raise ServiceProblem(409, f"{detail}: begin another", next_seq, None)

    def repeat(self, handles: Iterable[int] | None = None) -> Iterator[bytes]:
        """Yield frames of the unacknowledged chunks: the first chunk of all sessions, then the second, and so on.

        Args:
            handles: sessions to repeat; None for all, on a new connection.
        """
        if handles is None:
            handles, self.under_way = list(self._sessions), 0
        waves: list[list[_Row]] = []
        for handle in handles:
            session = self._sessions[handle]
            session.is_behind, session.pause_s, session.under_way = False, 0.0, 0
            for wave, row in enumerate(session.rows):
                if wave == len(waves):
                    waves.append([])
                waves[wave].append(row)
        for rows in waves:
            yield from self._packed(rows)

    def _packed(self, rows: Sequence[_Row]) -> Iterator[bytes]:
        for at in range(0, len(rows), MOST_ROWS):
            part = rows[at : at + MOST_ROWS]
            for row in part:
                self._sessions[row.handle].under_way += 1
            self.under_way += len(part)
            content = b"".join([row.content.first for row in part] + [row.content.second for row in part])
            yield pack_chunks(
                [row.handle for row in part],
                [row.seq for row in part],
                [row.content.length for row in part],
                content,
                [row.content.steps for row in part],
                [row.action for row in part],
            )
