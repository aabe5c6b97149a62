"""Sessions that the server dropped, not their clients: counted and logged."""

from __future__ import annotations

import logging
import time
from typing import Literal, NamedTuple

from service.clock import Clock
from service.keys.ids import client_id, owner_of
from service.observe.line_limit import LineLimit

Reason = Literal["idle", "age", "memory", "limit", "missing"]
"""Why: without a chunk for ``session_idle_s``; older than ``session_age_s``; to make room for bytes, or for one more
session (both after the first chunk alone, and idle since); or the store had it no more when the next chunk came."""

REASONS: tuple[Reason, ...] = ("idle", "age", "memory", "limit", "missing")
USUAL: frozenset[Reason] = frozenset({"idle", "age"})  # clients forget sessions
MOST_LINES = 100  # of the log, a second

log = logging.getLogger("hetsyn.sessions")


class Drop(NamedTuple):
    """A session that was dropped.

    Attributes:
        session: its inner id.
        model: the model it ran on; None if that is not known any more.
        age_s: seconds since it began.
        idle_s: seconds since its last chunk.
    """

    session: str
    reason: Reason
    model: str | None = None
    version: str | None = None
    chunks: int | None = None
    age_s: float | None = None
    idle_s: float | None = None

    def members(self) -> dict[str, object]:
        """Return the known members as JSON values; times in milliseconds."""
        known = {name: value for name, value in self._asdict().items() if value is not None}
        key = {"key": owner} if (owner := owner_of(self.session)) else {}
        rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in known.items()}
        return rounded | {"session": client_id(self.session)} | key


class DropLog:
    """Writes a line for each drop, up to ``MOST_LINES`` a second: a sweep may drop thousands of sessions at once."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._limit = LineLimit(MOST_LINES, clock)

    def __call__(self, drop: Drop) -> None:
        if (left_out := self._limit.admit()) is None:
            return
        if left_out:
            log.info("%d more sessions were dropped that have no line of their own", left_out)
        level = logging.INFO if drop.reason in USUAL else logging.WARNING
        members = drop.members()
        members["drop"] = members.pop("reason")  # of a line, among other members
        log.log(level, "session %r was dropped: %s", members["session"], drop.reason, extra=members)
