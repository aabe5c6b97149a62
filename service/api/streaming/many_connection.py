"""Runs ``live.many`` on a WebSocket: a connection of ``WS /streams``."""

from __future__ import annotations

from collections.abc import Sequence

from service.admission.uploads import FREE_BYTES
from service.api.streaming.handshakes import query_of
from service.api.streaming.many_streams import ConnectionSessions
from service.api.streaming.web_socket import WebSocket
from service.errors import Overloaded
from service.live.many import Action, ManyStreams, RowsWork
from service.live.many_query import parse_many_query
from service.wire.many_frames import Sessions


class ManyConnection(WebSocket[RowsWork]):
    """Many sessions on one WebSocket. Arguments as those of ``WebSocket``."""

    _sessions: ConnectionSessions | None = None
    _machine: ManyStreams | None = None

    async def _opened(self) -> ManyStreams:
        query = query_of(self._handshake, self._many.streams.cors_origins)
        asked = parse_many_query(query, self._key.caller)
        self._sessions = ConnectionSessions(self._many, self, asked, self.client)
        self._machine = ManyStreams(self._sessions.offer, self._sessions.item_bytes)
        return self._machine

    def _takes(self) -> bool:
        """Count the bytes of the frames that wait. If there is no room, no more is read until they are done."""
        if not super()._takes():
            return False
        if self._machine is not None and (waiting := self._machine.held_bytes) > FREE_BYTES:
            try:
                self._hold(waiting)
            except Overloaded:
                return False
        return True

    def _receive(self, content: bytes) -> Sequence[Action]:
        assert self._machine is not None
        return self._machine.binary(content)

    async def _done(self, work: RowsWork) -> Sequence[Action]:
        assert self._sessions is not None
        assert self._machine is not None
        if isinstance(work.rows, Sessions):
            return self._machine.done(await self._sessions.open(work.rows), 0)
        answer, applied = await self._sessions.apply(work.rows)
        self._counters.stream_chunks["streams"] += applied
        return self._machine.done(answer, applied)

    def _release(self) -> None:
        if self._sessions is not None:
            self._sessions.release()
