"""A large message of a stream while it arrives, and until it is applied: it counts among the bodies of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from service.admission.uploads import FREE_BYTES, Upload, Uploads
from service.errors import HetsynError


class LargeMessage:
    """The incomplete message of a connection. Small ones only have their time.

    Args:
        uploads: bodies under way.
        client: that sends it (``fair_share.client_of``).
        fail: called where it has no room, or takes too long.

    Attributes:
        since_s: since when a message is incomplete, in the event loop's time; infinite if none is.
    """

    def __init__(self, uploads: Uploads, client: str, fail: Callable[[HetsynError], None]) -> None:
        self._uploads = uploads
        self._client = client
        self._fail = fail
        self._upload: Upload | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._complete = asyncio.Event()
        self.since_s = inf

    def count(self, count: int, is_complete: bool) -> None:
        """Count the bytes that have come of a message.

        Args:
            count: of the one that is incomplete now.
            is_complete: one was completed before it.
        """
        if is_complete:
            self._complete.set()
        if not count:
            self.since_s = inf
        elif is_complete or self.since_s == inf:
            self.since_s = asyncio.get_running_loop().time()
        if count <= FREE_BYTES:
            return
        if self._upload is None:
            self._complete.clear()
            self._upload = Upload(self._uploads, self._client)
            self._receiving = asyncio.get_running_loop().create_task(self._receive(self._upload))
        try:
            self._uploads.take(self._upload, count - self._upload.bytes)
        except HetsynError as error:
            self._fail(error)

    def applied(self) -> None:
        """Its chunk is applied, if it was complete: the bytes count no longer."""
        if self._upload is not None and self._complete.is_set():
            self._uploads.give_back(self._upload)
            self._upload = None

    def end(self) -> None:
        """The connection has ended."""
        self.since_s = inf
        if self._receiving is not None:
            self._receiving.cancel()
        if self._upload is not None:
            self._uploads.give_back(self._upload)

    async def _receive(self, upload: Upload) -> None:
        """The time of a large message."""
        try:
            async with self._uploads.begin(upload):
                await self._complete.wait()
        except TimeoutError:
            self._fail(self._uploads.late(upload))
        finally:
            self._uploads.end(upload)
