"""Limits for the bodies of requests: the time of each, their number, and the bytes of all together."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from types import TracebackType

from service.admission.fair_share import FairShare
from service.errors import RETRY_S, Overloaded, ShuttingDown, TooSlow
from service.settings import Limits

ENDING_S = 2.0  # time for bodies under way once the server shuts down
SLOW_S = 2.0  # a body that has taken longer makes room for the bytes of others
# Not counted: as much of a body is in its connection's buffer anyway. Nor decoded on a thread, which would cost more
FREE_BYTES = 64 * 1024


class Uploads:
    """All bodies. Used from one event loop.

    A body that is not complete when its request begins is under way until it is. One more than may be under way
    displaces the oldest, which gets TooSlow. Bytes count from when they arrive until the request is answered. A body of
    up to ``FREE_BYTES`` that arrives in one piece has no bytes that count.

    Bytes without room displace older bodies, but only those that are under way for ``SLOW_S``. Otherwise large bodies
    of many quick clients would displace each other, and none would arrive.

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
        self._until_s: dict[Upload, float] = {}  # of bodies under way, in the event loop's time; oldest first
        self._shares: FairShare[Upload] = FairShare(
            limits.max_uploads, limits.client_share, lambda _: True, lambda _: False, self._displace
        )
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

    def begin(self, upload: Upload) -> asyncio.Timeout:
        """The time of a body that is read from now on: a context that raises TimeoutError when it is over."""
        loop = asyncio.get_running_loop()
        allowed_s = ENDING_S if self.is_ending else self._timeout_s
        upload.deadline, upload.began_s = asyncio.timeout(None), loop.time()
        self._shares.enter(upload, upload.client)
        self._until_s[upload] = loop.time() + allowed_s
        if self._timer is None:
            self._timer = loop.call_later(allowed_s, self._interrupt)
        return upload.deadline

    def end(self, upload: Upload) -> None:
        """The body is read no more."""
        self._shares.leave(upload)
        self._until_s.pop(upload, None)
        if self._finished is not None and not self._until_s:
            self._finished.set()

    def late(self, upload: Upload) -> TooSlow | ShuttingDown:
        """Why a body's time was over, as an error."""
        if upload.is_displaced:
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
        self._until_s = {upload: min(until_s, latest_s) for upload, until_s in self._until_s.items()}
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
        for upload, until_s in self._until_s.items():
            if until_s > loop.time():
                self._timer = loop.call_at(until_s, self._interrupt)
                return
            if upload.deadline.when() is None:  # else it is interrupted already
                upload.deadline.reschedule(loop.time())

    def _displace(self, upload: Upload) -> None:
        if upload.deadline.when() is None:
            upload.is_displaced = True
            upload.deadline.reschedule(asyncio.get_running_loop().time())
        self.give_back(upload)  # its reader drops them in the next round of the event loop

    def take(self, upload: Upload, count: int) -> None:
        """Count more bytes of a body.

        Raises:
            Overloaded: there is no room for them.
            TooSlow: the body has been displaced.
        """
        if upload.is_displaced:
            raise self.late(upload)
        if self._max_client_bytes < self._max_bytes:
            of_client = self._client_bytes.get(upload.client, 0)
            if not self._make_room(of_client + count - self._max_client_bytes, upload, [upload.client]):
                raise Overloaded(
                    f"{of_client} bytes of bodies of this client are under way: send the chunk again in {RETRY_S:g} s"
                )
        if not self._make_room(self._bytes + count - self._max_bytes, upload, self._client_bytes):
            # nobody learns how many the others send
            raise Overloaded(f"the server has no room for more bytes of bodies: send the chunk again in {RETRY_S:g} s")
        self._bytes += count
        self._client_bytes[upload.client] = self._client_bytes.get(upload.client, 0) + count
        upload.bytes += count

    def give_back(self, upload: Upload) -> None:
        """Count the bytes of a body no longer."""
        if upload.bytes:
            self._bytes -= upload.bytes
            self._client_bytes[upload.client] -= upload.bytes
            if not self._client_bytes[upload.client]:
                del self._client_bytes[upload.client]
            upload.bytes = 0

    def _make_room(self, missing: int, newcomer: Upload, clients: Container[str]) -> bool:
        """Displace bodies that are slow and older than the newcomer, oldest first.

        Args:
            missing: bytes that they have to give back; 0 or less if there is room.
            newcomer: the body that needs the room.
            clients: senders of the bodies.

        Returns:
            False if all of them together have too few bytes: then none is displaced.
        """
        if missing <= 0:
            return True
        slow_s = asyncio.get_running_loop().time() - SLOW_S
        slow: list[Upload] = []
        for upload in self._until_s:
            if missing <= 0 or upload is newcomer or upload.began_s > slow_s:
                break
            if upload.bytes and upload.client in clients:
                slow.append(upload)
                missing -= upload.bytes
        if missing > 0:
            return False
        for upload in slow:
            self._shares.leave(upload)
            self._displace(upload)
        return True


class Upload:
    """The body of one request, as a context in which the body is read and the request is answered.

    Args:
        uploads: count the body's bytes until the end of the context.
        client: sender of the body (``fair_share.client_of``).

    Attributes:
        uploads: see above.
        client: see above.
        deadline: the context in which the body is read; set when it is under way.
        began_s: since when it is under way, in the event loop's time; likewise.
        bytes: of the body, those that count.
        is_displaced: others needed its room.
    """

    deadline: asyncio.Timeout
    began_s: float

    def __init__(self, uploads: Uploads, client: str) -> None:
        self.uploads = uploads
        self.client = client
        self.bytes = 0
        self.is_displaced = False

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.uploads.give_back(self)
