"""Which worker of a server a client's connection belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qsl

from service.api.handshakes import Handshake
from service.workers.routing import session_of
from service.workers.siblings import Siblings


class Home:
    """Moves one connection at most once: with the first request that says something of a session, or as a stream.

    Args:
        siblings: workers of the same server; None is this process alone.

    Attributes:
        is_open: no request has said yet where the connection belongs.
    """

    __slots__ = ("_siblings", "is_open")

    def __init__(self, siblings: Siblings | None) -> None:
        self._siblings = siblings
        self.is_open = siblings is not None

    def moves(self, data: bytes, transport: asyncio.Transport) -> bool:
        """Move the connection to the worker that has the session of its next request; whether it has moved.

        Args:
            data: the beginning of the request.
            transport: of the connection; closed if it has moved.
        """
        assert self._siblings is not None
        moved = self._siblings.moves(_fd(transport), data)
        self.is_open = moved is None
        if moved:
            transport.abort()
        return bool(moved)

    def moves_stream(self, shake: Handshake, head: Callable[[], bytes], transport: asyncio.Transport) -> bool:
        """Move the connection of a stream to the worker that has its session; whether it has moved.

        Args:
            shake: its handshake.
            head: the handshake's bytes.
            transport: as of ``moves``.
        """
        if self._siblings is None:
            return False
        session = session_of(parse_qsl(shake.query.decode("latin-1")))
        if session is None:
            return False
        if moved := self._siblings.move(self._siblings.routing.worker_of(session), _fd(transport), head()):
            transport.abort()
        return moved


def _fd(transport: asyncio.Transport) -> int:
    return int(transport.get_extra_info("socket").fileno())
