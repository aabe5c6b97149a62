"""Exports sessions as bytes and imports them, from this server or another one."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

from service.admission.turns import on_thread
from service.carried.carry_keys import HOW_TO
from service.carried.token import Tokens
from service.errors import CarryUnavailable, SessionExists, TokenExpired
from service.keys.ids import client_id
from service.observe.counters import Counters
from service.registry.commits import MAX_ATTEMPTS, contended, finished
from service.registry.table import SessionTable
from service.session.protocol import check_import, status
from service.session.session import Session
from service.store.record import renamed

IN_LOOP_BYTES = 64 * 1024  # longer imports are opened and unpacked on a thread
LARGE_IMPORTS = 1  # on threads at a time: more would be no faster, and delay chunks


class SessionTransfer:
    """Exports and imports the sessions of a table. Used from one event loop."""

    def __init__(self, sessions: SessionTable, tokens: Tokens | None, counters: Counters) -> None:
        self._sessions = sessions
        self._tokens = tokens
        self._counters = counters
        self._large_imports = asyncio.Semaphore(LARGE_IMPORTS)

    @property
    def tokens(self) -> Tokens:
        """Seal and open exported sessions. Raises CarryUnavailable if the server has no keys."""
        if self._tokens is None:
            raise CarryUnavailable(f"sessions are exported and imported sealed, and this server has no keys: {HOW_TO}")
        return self._tokens

    async def export_state(self, session_id: str, due_s: float = inf, client: str = "") -> bytes:
        """Seal a session as a token, after the chunks that arrived before.

        Raises:
            NotFound, StoreUnavailable, StateError: as ``SessionTable.existing``.
            Overloaded: the turn did not come in time.
            CarryUnavailable: the server has no keys.
        """
        tokens = self.tokens
        with self._sessions.visit(session_id, client) as entry:
            async with entry.turn(due_s):
                session = await self._sessions.existing(entry)
        self._counters.sessions_exported += 1
        by_s = max(self._sessions.wall_offset_s, -session.known.created_s)  # no record may be from before 1970
        return tokens.seal(client_id(session_id), session.shifted(by_s))  # anybody with the token may import it

    async def import_state(
        self, session_id: str, content: bytes, *, replace_it: bool, client: str = "", due_s: float = inf
    ) -> tuple[dict[str, Any], bool]:
        """Import an exported session under an id, as if it had just been used.

        Returns:
            The session's description, and whether the id was free.

        Raises:
            CarryUnavailable: the server has no keys.
            TokenError, StateError: the content cannot be used.
            SessionExists: there is a session or a damaged record of this id, without ``replace_it``.
            TokenExpired: the exported session has expired or is too old.
            Overloaded: there is no room, or the turn did not come in time.
            StoreUnavailable: it may have been stored or not.
        """
        sessions, tokens = self._sessions, self.tokens
        if len(content) <= IN_LOOP_BYTES:
            exported_id, exported = tokens.unseal(content)
        else:
            async with self._large_imports:
                exported_id, exported = await on_thread(tokens.unseal, content)
        session = self._imported(exported_id, renamed(exported, session_id))
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
                    check_import(session_id, snapshot.known, now_s, sessions.lifetimes, replace=replace_it)
                    if await finished(sessions.commit(entry, snapshot, session)):
                        self._counters.sessions_imported += 1
                        return session.description(client_id(session_id), sessions.clock()), snapshot.session is None
                raise contended(session_id)
        finally:
            sessions.leave(entry)

    def _imported(self, exported_id: str, session: Session) -> Session:
        """Return an exported session with the present as its last use. Raises TokenExpired if it is too old."""
        session = session.shifted(-self._sessions.wall_offset_s)
        now_s = self._sessions.clock()
        created_s = min(session.known.created_s, now_s)
        session = session._replace(known=session.known._replace(created_s=created_s, used_s=now_s))
        if status(session.known, now_s, self._sessions.lifetimes) not in ("open", "ended"):
            raise TokenExpired(
                f"the exported session {client_id(exported_id)!r} has expired: import it sooner, or begin another"
            )
        return session
