"""What the loads over ``WS /stream`` and ``WS /streams`` have in common."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine

from hetsyn_client.loadtest.carrier import CONNECT_TIMEOUT_S, OPENED_TOGETHER, SWEEP_S, CarrierOwner
from hetsyn_client.loadtest.pool import Pool
from hetsyn_client.loadtest.target import Address
from hetsyn_client.loadtest.websocket import WebSocket


class SocketPool(ABC):
    """The connections of all streams.

    Args:
        address: of the server.
        timeout_s: time limit of one chunk.
        owner: receives the outcomes.

    Attributes:
        waits: number of chunks that were due before their connection was open.
    """

    def __init__(self, address: Address, timeout_s: float, owner: CarrierOwner) -> None:
        self.waits = 0
        self._address = address
        self._timeout_s = timeout_s
        self._owner = owner
        self._tls = address.tls
        self._deletions = Pool(address, OPENED_TOGETHER, timeout_s, owner)
        self._opening: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._is_closed = False

    @abstractmethod
    def sweep(self, now_s: float) -> None:
        """Fail the chunks that have taken longer than the timeout. Call it a few times a second."""

    async def idle(self, timeout_s: float) -> bool:
        """Wait until every job has an outcome. False if the time ran out first."""
        deadline_s = time.perf_counter() + timeout_s
        while self._under_way and (left_s := deadline_s - time.perf_counter()) > 0:
            await asyncio.sleep(min(SWEEP_S, left_s))
            self.sweep(time.perf_counter())
        left_s = deadline_s - time.perf_counter()
        return await self._deletions.idle(max(0.0, left_s)) and not self._under_way

    def opened(self, socket: WebSocket) -> None:  # noqa: B027 - nothing is to be done yet
        """``Begin`` follows."""

    def _open_later(self, opening: Coroutine[None, None, None]) -> None:
        """Open a connection while the load goes on."""
        task = asyncio.ensure_future(opening)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _stop_opening(self) -> None:
        """Open no connection any more."""
        self._is_closed = True
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)

    async def _create(self, socket: WebSocket) -> None:
        """Open a connection.

        Raises:
            OSError: refused, not resolved, or too slow.
        """
        address = self._address
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().create_connection(
                lambda: socket, address.host, address.port, ssl=self._tls
            )
