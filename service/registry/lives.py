"""How old sessions are, and why one is dropped."""

from __future__ import annotations

from collections.abc import Iterator

from service.observe.drops import Drop, Reason
from service.observe.histogram import Histogram
from service.session.protocol import Lifetimes
from service.session.session import Session

_BOUNDS_S = (60.0, 600.0, 3_600.0, 21_600.0, 86_400.0)
_NAMES = ("<1m", "1m-10m", "10m-1h", "1h-6h", "6h-1d", ">1d")


class Ages:
    """Open sessions by their age."""

    def __init__(self) -> None:
        self._histogram = Histogram(_BOUNDS_S)

    def observe(self, session: Session | None, now_s: float) -> None:
        """Count a session, if there is one and it is open."""
        if session is not None and not session.known.progress.ended:
            self._histogram.observe(now_s - session.known.created_s)

    def by_name(self) -> Iterator[tuple[str, int]]:
        """The name of each range of ages, and the number of sessions in it."""
        return zip(_NAMES, self._histogram.counts, strict=True)


def dropped(session_id: str, session: Session, reason: Reason, now_s: float) -> Drop:
    """A session that is dropped.

    Args:
        session_id: of the session.
        session: as it was.
        reason: why.
        now_s: time, by the clock of sessions.
    """
    known, model = session.known, session.model
    age_s, idle_s = now_s - known.created_s, now_s - known.used_s
    return Drop(session_id, reason, model.name, model.version, known.progress.expected_seq, age_s, idle_s)


def over(session: Session, now_s: float, lifetimes: Lifetimes) -> Reason:
    """Why a session has expired."""
    return "idle" if now_s - session.known.used_s >= lifetimes.idle_s else "age"
