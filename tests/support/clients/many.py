"""Connections of ``WS /streams`` as bytes, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hetsyn_client.columns import (
    OPENED,
    RESULTS,
    Opened,
    Results,
    pack_chunks,
    pack_sessions,
    unpack_opened,
    unpack_results,
)
from service.runtime.onnx import Array
from tests.support.clients.described import check_described
from tests.support.clients.live import BINARY, PING, Socket, sent
from tests.support.servers.socket_server import Listening

LINE = "GET /streams?{} HTTP/1.1"
EVENTS = "encoding=events"


def events_content(times: ArrayLike, units: ArrayLike) -> bytes:
    """Pack the content of a frame of events: the times and units of all rows, one after the other."""
    return np.asarray(times, "<u2").tobytes() + np.asarray(units, "<u2").tobytes()


class Left:
    """A connection that has gone."""

    def drain(self) -> None:
        raise AssertionError

    async def drained(self) -> None:
        raise AssertionError

    def cut(self) -> None:
        raise AssertionError


class Hub(Socket):
    """A connection of ``/streams``."""

    async def opens(self, *names: str, first: int = 0) -> Opened:
        """Open sessions under the handles ``first``, ``first + 1``, ..."""
        await self.send(sent(BINARY, pack_sessions(list(range(first, first + len(names))), names)))
        answer = await self.answer()
        assert isinstance(answer, Opened), answer
        return answer

    async def answer(self) -> Opened | Results | dict[str, Any]:
        """The next frame, unpacked."""
        opcode, content = await self.any_frame()
        while opcode == PING:
            opcode, content = await self.any_frame()
        if opcode != BINARY:
            frame: dict[str, Any] = json.loads(content)
            check_described(frame)
            return frame
        if content.startswith(OPENED):
            return unpack_opened(content)
        assert content.startswith(RESULTS)
        return unpack_results(content)

    async def results(self) -> Results:
        answer = await self.answer()
        assert isinstance(answer, Results), answer
        return answer

    async def chunks(self, frame: bytes) -> Results:
        """Send a frame of chunks, and await its results."""
        await self.send(sent(BINARY, frame))
        return await self.results()


async def hub(server: Listening, query: str = EVENTS) -> tuple[Hub, dict[str, Any]]:
    """A connection, and its first frame."""
    opened = Hub(*await server.connect())
    return opened, await opened.open(query, line=LINE)


def silence(
    handles: Sequence[int], seq: int | Sequence[int], steps: int | Sequence[int] = 5, actions: Any = 0
) -> bytes:
    """A frame of silent chunks."""
    return pack_chunks(handles, seq, 0, b"", steps, actions)


def spikes_frame(handles: Sequence[int], seq: Any, rows: Sequence[tuple[int, Array, Array]]) -> bytes:
    """A frame of events: steps, times and units of each row."""
    content = events_content(np.concatenate([times for _, times, _ in rows]), np.concatenate([row[2] for row in rows]))
    return pack_chunks(handles, seq, [len(row[1]) for row in rows], content, [row[0] for row in rows])
