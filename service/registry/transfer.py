"""Exports sessions as bytes and imports them, from this server or another one."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

from service.errors import SessionExists, TokenExpired
from service.keys.ids import client_id
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.registry.commits import MAX_ATTEMPTS, contended, finished
from service.registry.table import SessionTable
from service.session.protocol import check_import, status
from service.session.session import Session
from service.store.record import UNPACK_IN_LOOP_BYTES, Packing, read, renamed

# A record up to this length is read whether or not the server has its model, so that the client learns what is wrong.
IMPORT_BYTES = 1024 * 1024
LARGE_IMPORTS = 1  # read on threads at a time: more would be no faster, and keep the chunks waiting


class SessionTransfer:
    """Exports and imports the sessions of a table. Used from one event loop.

    Args:
        sessions: the table.
        catalog: of the models.
        packing: of exported sessions.
        counters: count sessions.
    """

    def __init__(self, sessions: SessionTable, catalog: ModelCatalog, packing: Packing, counters: Counters) -> None:
        self._sessions = sessions
        self._catalog = catalog
        self._packing = packing
        self._counters = counters
        self._large_imports = asyncio.Semaphore(LARGE_IMPORTS)

    async def export_state(self, session_id: str, due_s: float = inf) -> bytes:
        """Pack a session as ``store.record`` does, after the chunks that arrived before.

        Args:
            session_id: of the session.
            due_s: when its turn has to come at the latest (``SessionEntry.turn``).

        Raises:
            NotFound, StoreUnavailable, StateError: as ``SessionTable.existing``.
            Overloaded: the turn did not come in time.
        """
        with self._sessions.visit(session_id) as entry:
            async with entry.turn(due_s):
                session = await self._sessions.existing(entry)
        self._counters.sessions_exported += 1
        by_s = max(self._sessions.wall_offset_s, -session.known.created_s)  # no record is from before 1970
        return self._packing.pack(client_id(session_id), session.shifted(by_s))

    @property
    def longest_import(self) -> int:
        """Upper bound of the bytes of a session that can be imported: what the largest model can have."""
        return max(IMPORT_BYTES, *map(self._packing.longest, self._catalog.models()))

    async def import_state(
        self, session_id: str, content: bytes, *, replace_it: bool, client: str = "", due_s: float = inf
    ) -> tuple[dict[str, Any], bool]:
        """Import an exported session under an id, as if it had just been used.

        Args:
            session_id: of the imported session; it may differ from the exported one's.
            content: the exported session.
            replace_it: replace an existing or expired session of this id.
            client: that sends it.
            due_s: as of ``export_state``.

        Returns:
            The session's description, and whether the id was free.

        Raises:
            StateError: the content cannot be used.
            SessionExists: there is a session of this id, or a damaged record, and not ``replace_it``.
            TokenExpired: the exported session has expired or is too old.
            Overloaded: there is no room, or the turn did not come in time.
            StoreUnavailable: it may have been stored or not.
        """
        sessions = self._sessions
        if len(content) <= UNPACK_IN_LOOP_BYTES:
            exported = self._unpacked(content, session_id)
        else:
            async with self._large_imports:
                exported = await asyncio.to_thread(self._unpacked, content, session_id)
        session = self._imported(*exported)
        entry = sessions.enter(session_id, client)
        try:
            async with entry.turn(due_s):
                for _ in range(MAX_ATTEMPTS):
                    snapshot = await sessions.latest(entry)
                    if snapshot.damage is not None and not replace_it:
                        raise SessionExists(
                            f"{snapshot.damage}. Or import with replace=true, which replaces it"
                        ) from snapshot.damage
                    now_s = sessions.clock()
                    check_import(session_id, snapshot.known, now_s, sessions.decision_lifetimes, replace=replace_it)
                    if await finished(sessions.commit(entry, snapshot, session)):
                        self._counters.sessions_imported += 1
                        return sessions.description(session_id, session), snapshot.session is None
                raise contended(session_id)
        finally:
            sessions.leave(entry)

    def _unpacked(self, content: bytes, session_id: str) -> tuple[str, Session]:
        """The id of an exported session, and the session under another id; may run on a thread.

        Raises:
            StateError: the content cannot be used.
        """
        record = read(content)
        model = self._catalog.of_session(record.model, record.version)
        return record.session, renamed(self._packing.unpack(record, model, imported=True), session_id)

    def _imported(self, exported_id: str, session: Session) -> Session:
        """An exported session, last used now.

        Raises:
            TokenExpired: the session has expired or is too old.
        """
        session = session.shifted(-self._sessions.wall_offset_s)
        now_s = self._sessions.clock()
        created_s = min(session.known.created_s, now_s)
        session = session._replace(known=session.known._replace(created_s=created_s, used_s=now_s))
        if status(session.known, now_s, self._sessions.lifetimes) not in ("open", "ended"):
            raise TokenExpired(
                f"the exported session {client_id(exported_id)!r} has expired: import it sooner, or begin another"
            )
        return session
