"""Bodies of requests, within limits of length, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, MutableMapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

from service.admission.budget import AGAIN, Budget
from service.errors import ShuttingDown, TooLarge, TooSlow

ENDING_S = 2.0  # time for bodies under way once the server shuts down
# Not counted: as much of a body is in its connection's buffer anyway. Nor decoded on a thread, which would cost more
FREE_BYTES = 64 * 1024
MOST_DIGITS = 20  # of a length in bytes
SHORTER = "cut the input into several chunks"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
"""ASGI's ``receive``."""


class ClientDisconnect(Exception):
    """The client disconnected before it had sent its whole request, or before its answer."""


class Uploads:
    """All bodies. Used from one event loop.

    A body that is not complete when its request begins is under way until it is. Bytes count from when they arrive
    until the request is answered. A body of up to ``FREE_BYTES`` that arrives in one piece has no bytes that count.

    Args:
        budget: of the bytes, and of the requests, which may be too many before a body has come.
        timeout_s: time for one body to arrive.

    Attributes:
        is_ending: the server shuts down, and no more bodies should begin.
    """

    def __init__(self, budget: Budget, timeout_s: float) -> None:
        self.ledger = budget.bytes
        self._requests = budget.requests
        self._timeout_s = timeout_s
        self._under_way: set[Upload] = set()
        self._finished = asyncio.Event()
        self._finished.set()
        self.is_ending = False

    @property
    def bytes(self) -> int:
        """Bytes that the server holds for its clients."""
        return self.ledger.total

    @property
    def under_way(self) -> int:
        """Number of bodies under way."""
        return len(self._under_way)

    def check(self, client: str) -> None:
        """Refuse a request before its body has come.

        Raises:
            Overloaded: the server has as many requests as it takes, in all or of this client.
            ShuttingDown: the server shuts down.
        """
        if self.is_ending:
            raise shutting_down()
        self._requests.check(client)

    def begin(self, upload: Upload) -> asyncio.Timeout:
        """A body arrives from now on; the context of its time."""
        upload.deadline = asyncio.timeout(ENDING_S if self.is_ending else self._timeout_s)
        self._under_way.add(upload)
        self._finished.clear()
        return upload.deadline

    def end(self, upload: Upload) -> None:
        """The body is read no more."""
        self._under_way.discard(upload)
        if not self._under_way:
            self._finished.set()

    def late(self) -> TooSlow | ShuttingDown:
        """Why a body's time was over, as an error."""
        if self.is_ending:
            return shutting_down()
        return TooSlow(f"the body was not complete after {self._timeout_s:g} s: send it faster, or {SHORTER}")

    def end_soon(self) -> None:
        """Give bodies under way, and new ones, ``ENDING_S`` at most."""
        self.is_ending = True
        latest_s = asyncio.get_running_loop().time() + ENDING_S
        for upload in self._under_way:
            due_s = upload.deadline.when()
            if due_s is not None and due_s > latest_s and not upload.deadline.expired():
                upload.deadline.reschedule(latest_s)

    async def finish(self) -> None:
        """Wait until no body is under way."""
        await self._finished.wait()


class Upload:
    """The body of one request, as a context in which the body is read and the request is answered.

    Args:
        uploads: of the server; it counts the body's bytes until the end of the context.
        client: sender of the body (``budget.client_of``).

    Attributes:
        deadline: the context in which the body is read; set when it is under way.
    """

    deadline: asyncio.Timeout

    def __init__(self, uploads: Uploads, client: str) -> None:
        self._uploads = uploads
        self._client = client
        self._bytes = 0

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bytes:
            self._uploads.ledger.give(self._client, self._bytes)
            self._bytes = 0

    def take(self, count: int) -> None:
        """Count more bytes of the body.

        Raises:
            Overloaded: there is no room for them.
        """
        self._uploads.ledger.take(self._client, count)
        self._bytes += count

    async def read(self, receive: Receive, declared: bytes, max_bytes: int, advice: str = SHORTER) -> bytes:
        """Read the body.

        Args:
            receive: of the request.
            declared: the header ``Content-Length``; empty if there is none.
            max_bytes: longest body.
            advice: what to do about a body that is too long.

        Raises:
            TooLarge: the body is longer than ``max_bytes``; reading stops there.
            TooSlow: the body did not arrive in time.
            Overloaded: other requests, or the bytes of other bodies, take all the room.
            ShuttingDown: the server ends.
            ClientDisconnect: the client disconnected.
        """
        digits = declared.lstrip(b"0")  # thousands of zeros are valid, but ``int`` refuses so many digits
        if digits.isdigit() and (len(digits) > MOST_DIGITS or int(digits) > max_bytes):
            raise _too_large(max_bytes, advice)
        first = _Begun(receive())
        message = first.message
        if message is None or message.get("more_body", False):
            self._uploads.check(self._client)  # else the permit, which it gets at once, says so
            async with self.under_way():
                return await self._rest(message or await first, receive, max_bytes, advice)
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body: bytes = message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(max_bytes, advice)
        if len(body) > FREE_BYTES:
            self.take(len(body))
        return body

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """A context in which the body arrives.

        Raises:
            TooSlow, ShuttingDown: it has not come in time.
        """
        try:
            async with self._uploads.begin(self):
                yield
        except TimeoutError:
            raise self._uploads.late() from None
        finally:
            self._uploads.end(self)

    async def _rest(self, message: Message, receive: Receive, max_bytes: int, advice: str) -> bytes:
        parts: list[bytes] = []
        length = 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part: bytes = message.get("body", b"")
            length += len(part)
            if length > max_bytes:
                raise _too_large(max_bytes, advice)
            self.take(len(part))
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)
            message = await receive()


class _Begun:
    """A call of ``receive`` that has run as far as it can without waiting; to be awaited once if it waits.

    Nearly every body is there: it needs no time, and no context of one.

    Args:
        call: of ``receive``.

    Attributes:
        message: the result; None if the call waits for the client.
    """

    def __init__(self, call: Awaitable[Message]) -> None:
        self.message: Message | None = None
        self._call = call.__await__()
        try:
            self._waits_for = next(self._call)
        except StopIteration as done:
            self.message = done.value

    def __await__(self) -> Generator[Any, Any, Message]:
        try:
            while True:
                try:
                    value = yield self._waits_for
                except BaseException as error:
                    self._waits_for = self._call.throw(error)
                else:
                    self._waits_for = self._call.send(value)
        except StopIteration as done:
            message: Message = done.value
            return message


def shutting_down() -> ShuttingDown:
    """The error for a request that another server has to serve."""
    return ShuttingDown(f"the server is shutting down: {AGAIN}")


def _too_large(max_bytes: int, advice: str) -> TooLarge:
    return TooLarge(f"the body is longer than {max_bytes} bytes: {advice}")
