"""Answers that clients do not read, bounded in bytes: they wait in this process and in the system's buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Unread(Generic[T]):
    """What is unread, by whose it is, in the order in which it became so. Used from one event loop.

    Beyond the bounds, those go that have been unread for longest: of the one client that is beyond its share, else of
    all. A client that reads slowly makes room only for others who do the same.

    Args:
        max_bytes: of all.
        client_share: share of them that one client may take, above 0, up to 1.
        end: ends an item; it has left already.
    """

    def __init__(self, max_bytes: int, client_share: float, end: Callable[[T], None]) -> None:
        self._max_bytes = max_bytes
        self._max_of_client = int(max_bytes * client_share)
        self._end = end
        self._items: dict[T, tuple[str, int]] = {}
        self._of_client: dict[str, int] = {}
        self.bytes = 0

    def enter(self, item: T, client: str, count: int) -> None:
        """Count an item, and end others, or it, where that is too much.

        Args:
            item: that is not in yet.
            client: who does not read it (``fair_share.client_of``).
            count: bytes of memory.
        """
        self._items[item] = client, count
        self._of_client[client] = self._of_client.get(client, 0) + count
        self.bytes += count
        while self._of_client.get(client, 0) > self._max_of_client:
            self._drop(next(item for item, (owner, _) in self._items.items() if owner == client))
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._items)))

    def leave(self, item: T) -> None:
        """Count an item no longer; it may have left before."""
        client, count = self._items.pop(item, ("", 0))
        if count:
            self.bytes -= count
            self._of_client[client] -= count
            if not self._of_client[client]:
                del self._of_client[client]

    def _drop(self, item: T) -> None:
        self.leave(item)
        self._end(item)
