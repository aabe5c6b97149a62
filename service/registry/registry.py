"""The sessions of a server: the asyncio shell around the session protocol, the engine and the session table.

A chunk is applied as a whole or not at all. If its caller disconnects, it is dropped, unless its commit has begun: then
it is applied. A retry under its number is computed, or gets the stored reply. Only ``SessionTable.commit`` changes a
session, after the engine has computed the chunk.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from math import inf
from typing import Any

from hetsyn_client.results import Reply
from service.admission.budget import Permit
from service.batching.batcher import Batcher
from service.errors import NotFound, StoreError
from service.keys.ids import client_id
from service.observe.counters import Counters
from service.registry.commits import MAX_ATTEMPTS, contended, finished
from service.registry.table import SessionTable
from service.session.advance import Advance
from service.session.protocol import check_delete
from service.session.session import Session
from service.wire.schema import InferRequest

log = logging.getLogger("hetsyn.sessions")


class SessionRegistry:
    """Has the parts that apply chunks to sessions, and describes and deletes sessions. Used from one event loop."""

    def __init__(self, sessions: SessionTable, advance: Advance, batcher: Batcher, counters: Counters) -> None:
        self.sessions = sessions
        self.advance = advance
        self.batcher = batcher
        self.counters = counters

    async def delete(self, session_id: str, due_s: float = inf, client: str = "") -> None:
        """Delete a session, after the chunks that arrived before. A session with a damaged record is deleted too.

        Raises:
            NotFound: there is no such session.
            StoreUnavailable: it may have been deleted or not.
            Overloaded: other processes keep changing the session, or the turn did not come in time.
        """
        sessions = self.sessions
        with sessions.visit(session_id, client) as entry:
            async with entry.turn(due_s):
                for _ in range(MAX_ATTEMPTS):
                    asked_s, snapshot = sessions.clock(), await sessions.latest(entry)
                    if snapshot.damage is None:
                        check_delete(session_id, snapshot.known, asked_s, sessions.lifetimes)
                    if await finished(sessions.remove(entry, snapshot)):
                        self.counters.sessions_deleted += 1
                        return
                raise contended(session_id)

    async def describe(self, session_id: str, due_s: float = inf, client: str = "") -> dict[str, Any]:
        """Describe a session as JSON values, after the chunks that arrived before.

        Raises:
            NotFound: there is no such session.
            StoreUnavailable: the store does not answer.
            StateError: the stored record cannot be used.
            Overloaded: the turn did not come in time.
        """
        with self.sessions.visit(session_id, client) as entry:
            async with entry.turn(due_s):
                session = await self.sessions.existing(entry)
        return session.description(client_id(session_id), self.sessions.clock())

    async def probe(self, request: InferRequest, due_s: float = inf, client: str = "") -> tuple[Session, bool]:
        """Find the session that a chunk would go on with, after earlier chunks. Nothing is applied.

        Returns:
            The session and True, or the session that the chunk would begin and False.

        Raises:
            HetsynError: the chunk would be refused, for another reason than its number.
        """
        sessions, envelope = self.sessions, request.envelope
        session: Session | None = None
        with suppress(NotFound), sessions.visit(request.session or "", client) as entry:
            async with entry.turn(due_s):
                session = await sessions.existing(entry)
                session.check_model(envelope)
        has_begun = session is not None
        session = session or self.advance.begin(envelope, sessions.clock())
        self.advance.plan(session, session.known.progress.expected_seq, request)
        return session, has_begun

    def offer(self, request: InferRequest) -> Session:
        """Make the session that a chunk of a new id would begin, or raise the error that refuses the chunk."""
        session = self.advance.begin(request.envelope, self.sessions.clock())
        self.advance.plan(session, 0, request)
        return session

    async def finalize(self, session_id: str, permit: Permit) -> Reply | None:
        """End the utterance of a session now, after earlier chunks. After an error the session is unchanged.

        It changes the last chunk's reply, and takes no number. When repeated, it answers that nothing was heard since.

        Returns:
            The last reply, with the end of the utterance as its last event; None if no chunk was applied yet.
        """
        sessions = self.sessions
        try:
            entry = sessions.find(session_id, permit.client)
        except NotFound:
            return None
        try:
            async with entry.turn(permit.due_s):
                for _ in range(MAX_ATTEMPTS):
                    asked_s, snapshot = sessions.clock(), await sessions.latest(entry)
                    if snapshot.damage is not None:
                        raise snapshot.damage
                    if snapshot.session is None:
                        return None
                    check_delete(session_id, snapshot.known, asked_s, sessions.lifetimes)
                    finalized = await self.advance.finalize(session_id, snapshot.session, permit, sessions.clock)
                    if finalized.session is None or await finished(sessions.commit(entry, snapshot, finalized.session)):
                        return finalized.reply
                raise contended(session_id)
        finally:
            sessions.leave(entry)

    async def sweep_forever(self, interval_s: float) -> None:
        """Sweep the table and check the store at an interval, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self._sweep(interval_s)
            except Exception as error:
                log.error("a sweep failed", exc_info=error)

    async def _sweep(self, duration_s: float) -> None:
        """Remove expired sessions, spread over a time, so that no chunk waits for more than a few slices."""
        sessions, store = self.sessions, self.sessions.store
        await self._check()  # before and after the sweep, because a sweep of many sessions takes the whole interval
        for share in sessions.quota.sweeping(sessions.clock()):
            await asyncio.sleep(share * duration_s)
            if store is not None:  # one slice at a time, so that chunks do not wait for all of them
                await store.dropped()
        await self._check()
        if store is not None:
            with suppress(StoreError):  # the next sweep tries again
                await store.expire()

    async def _check(self) -> None:
        with suppress(StoreError):  # ``trouble`` keeps it
            await self.sessions.check()
