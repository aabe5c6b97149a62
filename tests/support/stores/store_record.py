"""Records in a store, read and replaced behind the server's back."""

from __future__ import annotations

from collections.abc import Callable

from service.store.base import Change, StateStore, Stored


async def records(store: StateStore, *sessions: str) -> list[bytes | None]:
    found = await store.load(sessions)
    return [stored.record if isinstance(stored, Stored) else None for stored in found]


async def overwrite(store: StateStore, session: str, change: Callable[[bytes], bytes]) -> bytes:
    """Replace a record at revision 7; the new one."""
    (stored,) = await store.load([session])
    assert isinstance(stored, Stored)
    record = change(stored.record)
    await store.commit([Change(session, stored.revision, 7, record, 60.0)])
    return record
