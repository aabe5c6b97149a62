"""Limits for the bodies of requests: the time of each, their number, and the bytes of all together."""

from __future__ import annotations

import asyncio
from types import TracebackType

from service.admission.fair_share import FairShare
from service.errors import RETRY_S, Overloaded, ShuttingDown, TooSlow
from service.settings import Limits

ENDING_S = 2.0  # time for bodies under way once the server shuts down
FREE_BYTES = 64 * 1024  # not counted: as much of a body is in its connection's buffer anyway


class Uploads:
    """All bodies. Used from one event loop.

    A body that is not complete when its request begins is under way until it is. One more than may be under way
    displaces the oldest, which gets TooSlow. Bytes count from when they arrive until the request is answered. A body of
    up to ``FREE_BYTES`` that arrives in one piece has no bytes that count.

    Args:
        limits: of the bodies.

    Attributes:
        is_ending: the server shuts down, and no more bodies should begin.
    """

    def __init__(self, limits: Limits) -> None:
        self._max_bytes = limits.max_upload_bytes
        self._max_client_bytes = max(limits.max_body_bytes, int(limits.max_upload_bytes * limits.client_share))
        self._timeout_s = limits.body_timeout_s
        self._bytes = 0
        self._client_bytes: dict[str, int] = {}
        self._until_s: dict[asyncio.Timeout, float] = {}  # of bodies under way, in the event loop's time; oldest first
        self._shares: FairShare[asyncio.Timeout] = FairShare(
            limits.max_uploads, limits.client_share, lambda _: True, lambda _: False, self._displace
        )
        self._displaced: set[asyncio.Timeout] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.is_ending = False
        self._finished: asyncio.Event | None = None

    @property
    def bytes(self) -> int:
        """Bytes of all bodies that count."""
        return self._bytes

    @property
    def under_way(self) -> int:
        """Number of bodies under way."""
        return len(self._until_s)

    def begin(self, client: str) -> asyncio.Timeout:
        """The time of a body that is read from now on: a context that raises TimeoutError when it is over."""
        loop = asyncio.get_running_loop()
        allowed_s = ENDING_S if self.is_ending else self._timeout_s
        deadline = asyncio.timeout(None)
        self._shares.enter(deadline, client)
        self._until_s[deadline] = loop.time() + allowed_s
        if self._timer is None:
            self._timer = loop.call_later(allowed_s, self._interrupt)
        return deadline

    def end(self, deadline: asyncio.Timeout) -> None:
        """The body is read no more."""
        self._shares.leave(deadline)
        self._until_s.pop(deadline, None)
        self._displaced.discard(deadline)
        if self._finished is not None and not self._until_s:
            self._finished.set()

    def late(self, deadline: asyncio.Timeout) -> TooSlow | ShuttingDown:
        """Why a body's time was over, as an error."""
        if deadline in self._displaced:
            return TooSlow("the body was not complete when others needed its room: send it faster")
        if self.is_ending:
            return ShuttingDown(f"the server is shutting down: send the chunk again in {RETRY_S:g} s")
        return TooSlow(
            f"the body was not complete after {self._timeout_s:g} s: send it faster, or cut the input into "
            "several chunks"
        )

    def end_soon(self) -> None:
        """Give bodies under way, and new ones, ``ENDING_S`` at most."""
        self.is_ending = True
        latest_s = asyncio.get_running_loop().time() + ENDING_S
        self._until_s = {deadline: min(until_s, latest_s) for deadline, until_s in self._until_s.items()}
        self.close()
        self._interrupt()

    async def finish(self) -> None:
        """Wait until no body is under way."""
        self._finished = self._finished or asyncio.Event()
        if self._until_s:
            self._finished.clear()
            await self._finished.wait()

    def close(self) -> None:
        """Cancel the timer; another event loop may follow."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _interrupt(self) -> None:
        """Interrupt what is overdue, and come again for the next."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for deadline, until_s in self._until_s.items():
            if until_s > loop.time():
                self._timer = loop.call_at(until_s, self._interrupt)
                return
            if deadline.when() is None:  # else it is interrupted already
                deadline.reschedule(loop.time())

    def _displace(self, deadline: asyncio.Timeout) -> None:
        if deadline.when() is None:
            self._displaced.add(deadline)
            deadline.reschedule(asyncio.get_running_loop().time())

    def take(self, count: int, client: str) -> None:
        """Count more bytes.

        Raises:
            Overloaded: there is no room for them.
        """
        of_client = self._client_bytes.get(client, 0)
        if self._bytes + count > self._max_bytes:
            raise Overloaded(f"{self._bytes} bytes of bodies are under way: send the chunk again in {RETRY_S:g} s")
        if of_client + count > self._max_client_bytes:
            raise Overloaded(
                f"{of_client} bytes of bodies from this address are under way: send the chunk again in {RETRY_S:g} s"
            )
        self._bytes += count
        self._client_bytes[client] = of_client + count

    def give(self, count: int, client: str) -> None:
        """Count bytes no longer."""
        if count:
            self._bytes -= count
            self._client_bytes[client] -= count
            if not self._client_bytes[client]:
                del self._client_bytes[client]


class Upload:
    """The body of one request, as a context in which the body is read and the request is answered.

    Args:
        uploads: count the body's bytes until the end of the context.
        client: sender of the body (``fair_share.client_of``).

    Attributes:
        uploads: see above.
        client: see above.
    """

    def __init__(self, uploads: Uploads, client: str) -> None:
        self.uploads = uploads
        self.client = client
        self._bytes = 0

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.uploads.give(self._bytes, self.client)
        self._bytes = 0

    def take(self, count: int) -> None:
        """As ``Uploads.take``, until the end of the context."""
        self.uploads.take(count, self.client)
        self._bytes += count
