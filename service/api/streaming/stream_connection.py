"""Runs ``live.protocol`` on a WebSocket: a connection of ``WS /stream``."""

from __future__ import annotations

from collections.abc import Sequence

from service.api.streaming.handshakes import query_of
from service.api.streaming.streams import REQUEST
from service.api.streaming.web_socket import WebSocket
from service.errors import SessionTaken
from service.ingress import Arrival, Source
from service.keys.ids import new_id
from service.live.actions import Action, Work
from service.live.protocol import LiveStream
from service.live.query import StreamQuery, parse_stream_query
from service.session.session import Answer


class StreamConnection(WebSocket[Work]):
    """One session on one WebSocket. Arguments as those of ``WebSocket``."""

    _query: StreamQuery | None = None
    _source: Source | None = None
    _stream: LiveStream | None = None
    _arrival: Arrival | None = None  # the current chunk

    def taken(self) -> None:
        self._fail(SessionTaken("another connection streams this session now: send on there"))

    async def _opened(self) -> LiveStream:
        query_text = query_of(self._handshake, self._many.streams.cors_origins)
        query = parse_stream_query(query_text, new_id()).owned_by(self._key.caller)
        opening = await self._many.streams.open(query, self, self.client)
        # a reload meanwhile must not change what the client was told
        envelope = query.envelope._replace(
            model=opening.model, version=opening.version, endpointing="on" if opening.has_endpointing else None
        )
        self._query = query._replace(envelope=envelope)
        self._source = Source(REQUEST, "stream", self.client)
        self._stream = LiveStream(opening, interim=query.interim)
        return self._stream

    def _receive(self, content: bytes) -> Sequence[Action]:
        assert self._stream is not None
        return self._stream.chunk(content)

    async def _done(self, work: Work) -> Sequence[Action]:
        assert self._query is not None
        assert self._stream is not None
        assert work.kind == "finalize", work.kind
        return self._stream.finalized(await self._many.streams.finalize(self._query, self.client))

    def _begin_work(self, work: Work) -> None:
        if work.kind in ("chunk", "end"):
            assert self._query is not None
            assert self._source is not None
            begin = self._many.streams.begin
            self._arrival = begin(self._source, self._query, work, self._answered, self)
        else:
            super()._begin_work(work)

    def _answered(self, result: Answer | Exception) -> None:
        """Answer a chunk or the end after it was applied or refused."""
        assert self._stream is not None
        arrival, self._arrival = self._arrival, None
        if isinstance(result, Exception):
            session = "" if arrival is None else arrival.session
            refused = self.context.copy().run(self._many.streams.ingress.refused, result, REQUEST, session)
            self._after(self._stream.refuse(refused))
            return
        if not result.session.known.progress.ended:
            self._counters.stream_chunks["stream"] += 1
        self._after(self._stream.applied(result.outcome))
        if not self.is_idle:
            self._pump()

    def _release(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is not None and arrival.drop():
            self._counters.chunks_abandoned += 1
        if self._query is not None:
            self._many.streams.leave(self._query.session, self)
