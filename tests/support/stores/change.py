"""Changes of one session, as a store commits them."""

from __future__ import annotations

from service.store.base import Change, CommitResult, new_revision

COMMITTED, FENCED = CommitResult.committed, CommitResult.fenced


def put(session: str, expected: int, revision: int, record: bytes = b"record", keep_s: float = 60.0) -> Change:
    return Change(session, expected, revision, record, keep_s)


def delete(session: str, expected: int) -> Change:
    return Change(session, expected, new_revision(), None, 0.0)
