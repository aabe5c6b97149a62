"""The sessions of a server: the asyncio shell around the protocol, the engine and where sessions are kept.

A chunk is applied as a whole though its caller goes away, and the retry by number gets the stored reply. Nothing of a
session changes but in ``SessionTable.commit``, after the engine has done the chunk.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import replace
from typing import Any

from service.admission.permits import BUSY_RETRY_S, Admission
from service.errors import HetsynError, Overloaded
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.registry.table import SessionEntry, SessionTable
from service.session.advance import Advance, Step
from service.session.protocol import (
    Known,
    Reload,
    Replay,
    check_delete,
    check_import,
    decide,
    expired,
    status,
    unknown,
)
from service.session.session import Session
from service.store.record import Packing, read, renamed
from service.store.session_store import Snapshot, find_model
from service.wire.schema import InferRequest, Reply

MAX_ATTEMPTS = 10  # to decide on one request; each after the first means that another process was faster

log = logging.getLogger("hetsyn.sessions")


class SessionRegistry:
    """Decides, advances and counts. Used from one event loop.

    Args:
        sessions: keeps them, in this process or in a store.
        advance: applies a chunk.
        packing: of exported sessions.
    """

    def __init__(
        self,
        sessions: SessionTable,
        advance: Advance,
        catalog: ModelCatalog,
        packing: Packing,
        admissions: Admission,
        counters: Counters,
    ) -> None:
        self.sessions = sessions
        self._advance = advance
        self._catalog = catalog
        self._packing = packing
        self._admissions = admissions
        self._counters = counters

    async def infer(self, request: InferRequest) -> Reply:
        """Apply a chunk, in order of arrival within its session, and answer it; within a permit.

        Raises:
            HetsynError: any but ArtifactError leaves the client something to do; the session is as it was.
        """
        return await self._admissions.complete(self._infer(request))

    async def delete(self, session_id: str) -> None:
        """Drop a session, after the chunks that came before. One whose record is damaged is dropped too.

        Raises:
            NotFound: there is none.
            SessionGone: it was dropped for lying idle.
            StoreUnavailable: nobody knows whether it was dropped.
        """
        sessions = self.sessions
        with sessions.visit(session_id) as entry:
            async with entry.lock:
                for _ in range(MAX_ATTEMPTS):
                    snapshot = await sessions.latest(entry)
                    if snapshot.damage is None:
                        check_delete(session_id, _known(snapshot), sessions.clock(), sessions.decision_lifetimes)
                    if await sessions.remove(entry, snapshot):
                        self._counters.sessions_deleted += 1
                        return
                raise _contended(session_id)

    async def describe(self, session_id: str) -> dict[str, Any]:
        """A session as JSON can say it, after the chunks that came before.

        Raises:
            NotFound, SessionGone: there is none.
            StoreUnavailable, StateError: the store does not answer, or what it has cannot be used.
        """
        with self.sessions.visit(session_id) as entry:
            async with entry.lock:
                return self._described(entry.id, await self._existing(entry))

    async def export_state(self, session_id: str) -> bytes:
        """The session as ``store.record`` packs it, after the chunks that came before.

        Raises:
            NotFound, SessionGone, StoreUnavailable, StateError: as ``describe``.
        """
        with self.sessions.visit(session_id) as entry:
            async with entry.lock:
                session = await self._existing(entry)
        self._counters.sessions_exported += 1
        return self._packing.pack(session_id, session.shifted(self.sessions.wall_offset_s))

    async def import_state(self, session_id: str, content: bytes, *, replace_it: bool) -> tuple[dict[str, Any], bool]:
        """Put an exported session under an id, as if it had just been used.

        Returns:
            The session's description, and whether it is new.

        Raises:
            StateError: the content cannot be used.
            SessionGone: the content is of a session that was dropped, or past its age.
            SessionExists, SessionGone: there is or was a session of this id, and not ``replace_it``.
            Overloaded, StoreUnavailable: it cannot be kept now.
        """
        sessions = self.sessions
        session = self._imported(content, session_id)
        if replace_it:
            sessions.release_id(session_id)
        entry = sessions.enter(session_id)
        try:
            async with entry.lock:
                for _ in range(MAX_ATTEMPTS):
                    snapshot = await sessions.latest(entry)
                    if snapshot.damage is not None and not replace_it:
                        raise snapshot.damage
                    now_s = sessions.clock()
                    check_import(session_id, _known(snapshot), now_s, sessions.decision_lifetimes, replace=replace_it)
                    if await sessions.commit(entry, snapshot, session):
                        self._counters.sessions_imported += 1
                        return self._described(session_id, session), snapshot.session is None
                raise _contended(session_id)
        finally:
            sessions.leave(entry)

    async def sweep_forever(self, interval_s: float) -> None:
        """Let go of what is over, again and again; until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.sessions.sweep_slowly(interval_s)
            except Exception as error:
                log.error("a sweep failed", exc_info=error)

    async def _infer(self, request: InferRequest) -> Reply:
        entry = self.sessions.enter(request.envelope.session or secrets.token_urlsafe(16))
        try:
            async with entry.lock:
                return await self._answer(entry, request)
        finally:
            self.sessions.leave(entry)

    async def _answer(self, entry: SessionEntry, request: InferRequest) -> Reply:
        sessions, envelope = self.sessions, request.envelope
        for attempt in range(MAX_ATTEMPTS):
            if attempt:  # another process was here: decide again on what it left
                snapshot, authoritative = await sessions.latest(entry), True
            else:
                may_be_first = envelope.session is None or envelope.seq == 0
                snapshot, authoritative = await sessions.current(entry, may_be_first=may_be_first)
            decision = self._decide(entry, snapshot, request, authoritative)
            if isinstance(decision, Replay):
                self._counters.chunks_replayed += 1
                return decision.reply
            if isinstance(decision, Step):
                after, reply = await self._advance.apply(entry.id, decision, request, sessions.clock)
                if await sessions.commit(entry, snapshot, after):
                    self._advance.count(reply)
                    return reply
        raise _contended(entry.id)

    def _decide(
        self, entry: SessionEntry, snapshot: Snapshot, request: InferRequest, authoritative: bool
    ) -> Step | Replay[Reply] | Reload:
        """What to do with a chunk. From what is not authoritative nothing but a step follows.

        Raises:
            HetsynError: the chunk is not applied.
        """
        try:
            if snapshot.damage is not None:
                raise snapshot.damage
            envelope, session, known = request.envelope, snapshot.session, _known(snapshot)
            now_s, lifetimes = self.sessions.clock(), self.sessions.decision_lifetimes
            is_missing = authoritative and entry.seen_before and session is None
            if is_missing:
                entry.seen_before = False  # a client hears of it once
            if session is not None and envelope.names_a_model and status(known, now_s, lifetimes) != "none":
                session.check_model(envelope)
            decision = decide(
                entry.id,
                known,
                envelope.seq,
                request.digest,
                now_s,
                lifetimes,
                authoritative=authoritative,
                missing_from_store=is_missing,
            )
            if isinstance(decision, Replay | Reload):
                return decision
            if session is None or decision.seq == 0:
                session = self._advance.begin(envelope, now_s)
            return self._advance.plan(session, decision.seq, request)
        except HetsynError:
            if authoritative:
                raise
            return Reload()

    async def _existing(self, entry: SessionEntry) -> Session:
        """
        Raises:
            NotFound, SessionGone, StoreUnavailable, StateError: there is no session, or none that can be used.
        """
        snapshot = await self.sessions.latest(entry)
        if snapshot.damage is not None:
            raise snapshot.damage
        if snapshot.session is None:
            raise unknown(entry.id)
        check_delete(entry.id, snapshot.session.known, self.sessions.clock(), self.sessions.decision_lifetimes)
        return snapshot.session

    def _imported(self, content: bytes, session_id: str) -> Session:
        """The session of an exported record under an id, used now.

        Raises:
            StateError: the content cannot be used.
            SessionGone: it is of a session that was dropped, or past its age.
        """
        record = read(content)
        session = renamed(self._packing.unpack(record, find_model(self._catalog, record)), session_id)
        session = session.shifted(-self.sessions.wall_offset_s)
        now_s = self.sessions.clock()
        created_s = min(session.known.created_s, now_s)
        session = replace(session, known=replace(session.known, created_s=created_s, used_s=now_s))
        if status(session.known, now_s, self.sessions.lifetimes) not in ("open", "ended"):
            raise expired(record.session, self.sessions.lifetimes)
        return session

    def _described(self, session_id: str, session: Session) -> dict[str, Any]:
        progress, stream = session.known.progress, session.stream
        return {
            "session": session_id,
            "model": session.model.name,
            "version": session.model.version,
            "form": session.form,
            "expected_seq": progress.expected_seq,
            "total_steps": progress.total_steps,
            "ended": progress.ended,
            "kind": stream.kind if stream else None,
            "state_bytes": stream.bytes if stream else 0,
            "label": progress.last.reply.label if progress.last else None,
            "idle_s": self.sessions.idle_s(session),
        }


def _known(snapshot: Snapshot) -> Known[Reply] | None:
    return snapshot.session.known if snapshot.session else None


def _contended(session_id: str) -> Overloaded:
    return Overloaded(
        f"session {session_id!r} is changed by other replicas all the time: send the chunk again in {BUSY_RETRY_S:g} s",
        BUSY_RETRY_S,
    )
