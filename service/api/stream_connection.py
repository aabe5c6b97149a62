"""A connection of ``WS /stream``: ``live.protocol`` on a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from uvicorn.server import ServerState

from service.api.handshakes import Handshake, query_of
from service.api.web_socket import WebSocket
from service.errors import SessionTaken
from service.live.actions import Action, Applied, Work
from service.live.protocol import LiveStream
from service.live.query import StreamQuery, parse_stream_query

if TYPE_CHECKING:
    from service.api.connection import Connections


class StreamConnection(WebSocket[Work]):
    """One session on one WebSocket. Arguments as those of ``WebSocket``."""

    def __init__(
        self,
        connections: Connections,
        server_state: ServerState,
        transport: asyncio.Transport,
        handshake: Handshake,
        client: str,
    ) -> None:
        self._streams = connections.many.streams
        self._rows = connections.many.rows
        self._query: StreamQuery | None = None
        self._stream: LiveStream | None = None
        uploads, counters = self._streams.uploads, self._streams.counters
        super().__init__(connections, server_state, transport, handshake, client, uploads, counters)

    def taken(self) -> None:
        self._fail(SessionTaken("another connection streams this session now: send on there"))

    async def _opened(self) -> LiveStream:
        query_text = query_of(self._handshake, self._streams.allowed_origins)
        query = parse_stream_query(query_text, self._streams.new_id())
        opening = await self._streams.open(query, self, self.client)
        # a model that is reloaded meanwhile shall not change what the client was told
        named: dict[str, str | None] = {"model": opening.model, "version": opening.version, "form": opening.form}
        named["endpointing"] = "on" if opening.has_endpointing else None
        self._query = query._replace(envelope=query.envelope.model_copy(update=named))
        self._stream = LiveStream(opening, interim=query.interim)
        return self._stream

    def _receive(self, content: bytes) -> Sequence[Action]:
        assert self._stream is not None
        return self._stream.chunk(content)

    async def _done(self, work: Work) -> Sequence[Action]:
        assert self._query is not None
        assert self._stream is not None
        if work.kind == "reset":
            return self._stream.deleted(await self._streams.reset(self._query, self.client))
        if work.kind == "finalize":
            return self._stream.finalized(await self._streams.finalize(self._query, self.client))
        applied = await self._streams.apply(self._query, work, self.client)
        if work.kind == "chunk":
            self._counters.stream_chunks["stream"] += 1
        return self._stream.applied(applied)

    def _begin_work(self, work: Work) -> None:
        if self._query is not None and self._rows.takes(self._query, work):
            self._rows.add(self, self._query, work, self.client)
        else:
            super()._begin_work(work)

    def answered(self, applied: Applied) -> None:
        """The chunk was applied, with those of other connections."""
        assert self._stream is not None
        self._counters.stream_chunks["stream"] += 1
        self._after(self._stream.applied(applied))
        if not self.is_idle:
            self._pump()

    def not_plain(self, work: Work) -> None:
        """The chunk has to be applied by itself."""
        super()._begin_work(work)

    def _release(self) -> None:
        if self._rows.discard(self):
            self._streams.counters.chunks_abandoned += 1
        if self._query is not None:
            self._streams.leave(self._query.session, self)
