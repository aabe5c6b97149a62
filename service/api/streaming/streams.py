"""The sessions of ``WS /stream``: opens them for connections, and passes their chunks to the ingress."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from math import inf
from typing import Any, Protocol

from hetsyn_client.results import Heard
from service.admission.budget import Admission, Permit
from service.engine.endpointing_choice import has_own_endpointing
from service.ingress import SMALL_BYTES, Arrival, Encoded, Ingress, PackedEvents, Source
from service.keys.ids import client_id
from service.keys.keys import Keys
from service.live.actions import Opening, Work
from service.live.query import StreamQuery
from service.observe.context import HasContext
from service.observe.counters import Counters
from service.registry.applying import Told
from service.session.protocol import unknown
from service.session.session import Session
from service.wire.schema import InferRequest

log = logging.getLogger("hetsyn.streams")

REQUEST = "WS /stream"


class Holder(Protocol):
    """A connection that streams a session."""

    def taken(self) -> None:
        """Begin nothing more: another connection has taken the session."""

    def drain(self) -> None:
        """Finish the work that has come, and end the stream."""

    async def drained(self) -> None:
        """Wait until ``drain`` is done."""

    def cut(self) -> None:
        """End the stream, although work is under way."""


class Streams:
    """All streams of a server. Used from one event loop.

    Args:
        admission: ends the streams before it stops.
        cors_origins: origins of pages that may open streams.
        keys: None lets everybody in.
    """

    def __init__(
        self,
        ingress: Ingress,
        admission: Admission,
        counters: Counters,
        cors_origins: Iterable[str] = (),
        keys: Keys | None = None,
    ) -> None:
        self.keys = keys
        self.cors_origins = frozenset(origin.lower() for origin in cors_origins)
        self.ingress = ingress
        self._registry = ingress.registry
        self.counters = counters
        self._holders: dict[str, Holder] = {}
        self._draining: list[Holder] = []
        admission.before_stop.append(self.drain)

    def __len__(self) -> int:
        return len(self._holders)

    async def open(self, query: StreamQuery, holder: Holder, client: str) -> Opening:
        """Open a session for a connection. Another connection that streams it loses it when the opening is certain.

        Args:
            client: of the connection (``budget.client_of``).

        Raises:
            HetsynError: the session takes no chunk, or not of this kind, or the server has no room.
        """
        self.ingress.check(client)
        with await self.ingress.permit(client) as permit:
            session, has_begun = await self._probe(query, permit)
            other = self._holders.get(query.session)
            self._holders[query.session] = holder
            if other is not None:
                other.taken()
                try:  # its chunk may be being committed
                    session, has_begun = await self._probe(query, permit)
                except BaseException:
                    self.leave(query.session, holder)
                    raise
        return self._opening(query, session, has_begun)

    async def check(self, query: StreamQuery, client: str) -> None:
        """Raise the error with which ``open`` would refuse a session now. Nothing is opened."""
        self.ingress.check(client)
        with await self.ingress.permit(client) as permit:
            await self._probe(query, permit)

    def leave(self, session_id: str, holder: Holder) -> None:
        """Note that a connection no longer streams a session, which it may have lost before."""
        if self._holders.get(session_id) is holder:
            del self._holders[session_id]

    def begin(self, source: Source, query: StreamQuery, work: Work, told: Told, context: HasContext) -> Arrival:
        """Apply a chunk, or the end of a session; as ``Ingress.begin``."""
        content, seq, endpointing = work.content, work.seq, work.endpointing
        if work.kind == "end":
            encoded = Encoded(0, lambda _: query.end(seq))
        else:
            make = partial(query.request, seq, endpointing)
            size, events = len(content), None
            if size <= SMALL_BYTES and query.takes_events:
                events = tuple.__new__(PackedEvents, (content, make))  # in half the time of ``PackedEvents()``
            encoded = Encoded(size, lambda _: make(*query.decoded(content)), None, events)
        return self.ingress.begin(source, encoded, told, context)

    async def finalize(self, query: StreamQuery, client: str) -> Sequence[Heard]:
        """End the utterance of a session. A commit that has begun is finished even if this is cancelled.

        Returns:
            The events of its last chunk, with this end last; empty if it has no chunk yet.

        Raises:
            HetsynError: it was not ended.
        """
        with await self.ingress.permit(client) as permit:
            reply = await self._registry.finalize(query.session, permit)
        return () if reply is None else reply.get("events", ())

    async def describe(self, session_id: str, client: str) -> dict[str, Any]:
        """Describe a session, as ``SessionRegistry.describe``."""
        with await self.ingress.permit(client) as permit:
            return await self._registry.describe(session_id, permit.due_s, permit.client)

    def offer(self, request: InferRequest) -> Session:
        """Offer a session, as ``SessionRegistry.offer``."""
        return self._registry.offer(request)

    async def drain(self) -> None:
        """Let all streams finish the chunks that have come, and end them."""
        self._draining = list(self._holders.values())
        for holder in self._draining:
            holder.drain()
        for holder in self._draining:
            await holder.drained()

    def cut(self) -> None:
        """End all streams, although work is under way: their clients send it again to another server."""
        for holder in [*self._draining, *self._holders.values()]:
            try:
                holder.cut()
            except Exception:
                log.exception("a stream could not be ended")

    async def _probe(self, query: StreamQuery, permit: Permit) -> tuple[Session, bool]:
        """Probe a session, as ``SessionRegistry.probe``. One to resume must exist."""
        session, has_begun = await self._registry.probe(query.probe(), permit.due_s, permit.client)
        if query.resume and not has_begun:
            raise unknown(query.session)
        return session, has_begun

    def _opening(self, query: StreamQuery, session: Session, has_begun: bool) -> Opening:
        utterances = session.open_stream.utterances
        if has_begun:
            has_endpointing = utterances is not None and utterances.settings is not None
        elif query.envelope.endpointing is None:
            has_endpointing = has_own_endpointing(session.model, query.smallest)
        else:
            has_endpointing = query.envelope.endpointing != "off"
        manifest, progress, sessions = session.model.manifest, session.known.progress, self._registry.sessions
        expires_at = sessions.wall_offset_s + session.known.created_s + sessions.lifetimes.age_s
        return Opening(
            client_id(query.session),
            manifest.name,
            manifest.version,
            manifest.labels,
            progress.expected_seq,
            progress.total_steps,
            manifest.input.step_s,
            has_begun,
            expires_at if expires_at < inf else None,
            has_endpointing,
            () if utterances is None else utterances.ends,
        )
