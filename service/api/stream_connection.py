"""A connection of ``WS /stream``: ``live.protocol`` on a WebSocket."""

from __future__ import annotations

from collections.abc import Sequence

from hetsyn_client.results import Outcome
from service.api.handshakes import query_of
from service.api.web_socket import WebSocket
from service.errors import SessionTaken
from service.keys.ids import new_id
from service.live.actions import Action, Work
from service.live.protocol import LiveStream
from service.live.query import StreamQuery, parse_stream_query
from service.problem import Problem


class StreamConnection(WebSocket[Work]):
    """One session on one WebSocket. Arguments as those of ``WebSocket``."""

    _query: StreamQuery | None = None
    _stream: LiveStream | None = None

    def taken(self) -> None:
        self._fail(SessionTaken("another connection streams this session now: send on there"))

    async def _opened(self) -> LiveStream:
        query_text = query_of(self._handshake, self._many.streams.cors_origins)
        query = parse_stream_query(query_text, new_id()).owned_by(self._key.caller)
        opening = await self._many.streams.open(query, self, self.client)
        # a model that is reloaded meanwhile shall not change what the client was told
        named: dict[str, str | None] = {"model": opening.model, "version": opening.version}
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
            return self._stream.deleted(await self._many.streams.reset(self._query, self.client))
        if work.kind == "finalize":
            return self._stream.finalized(await self._many.streams.finalize(self._query, self.client))
        outcome = await self._many.streams.apply(self._query, work, self.client)
        if isinstance(outcome, Problem):
            return self._stream.refuse(outcome)
        if work.kind == "chunk":
            self._counters.stream_chunks["stream"] += 1
        return self._stream.applied(outcome.reply)

    def _begin_work(self, work: Work) -> None:
        if self._query is not None and self._many.rows.takes(self._query, work):
            self._many.rows.add(self, self._query, work, self.client)
        else:
            super()._begin_work(work)

    def answered(self, outcome: Outcome) -> None:
        """The chunk was applied, with those of other connections."""
        assert self._stream is not None
        self._counters.stream_chunks["stream"] += 1
        self._after(self._stream.applied(outcome))
        if not self.is_idle:
            self._pump()

    def not_plain(self, work: Work) -> None:
        """The chunk has to be applied by itself."""
        super()._begin_work(work)

    def _release(self) -> None:
        if self._many.rows.discard(self):
            self._counters.chunks_abandoned += 1
        if self._query is not None:
            self._many.streams.leave(self._query.session, self)
