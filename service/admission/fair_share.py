"""A bounded number of things of many clients: connections, or bodies under way.

A newcomer is not refused because others wait: it displaces the one that has waited for the longest. So slow senders
displace each other, and a request that arrives at once is served.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv6Address
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class FairShare(Generic[T]):
    """What is there, by client, and what may be displaced, oldest first. Used from one event loop.

    Args:
        most: number in all.
        client_share: share of ``most`` that one client may take, above 0, up to 1.
        displace: ends one that had to make room; it has left already.
    """

    def __init__(self, most: int, client_share: float, displace: Callable[[T], None]) -> None:
        self._most = most
        self._most_of_client = max(1, int(most * client_share))
        self._displace = displace
        self._clients: dict[T, str] = {}
        self._counts: dict[str, int] = {}
        self._waiting: dict[T, None] = {}
        self._waiting_of: dict[str, dict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def enter(self, item: T, client: str) -> bool:
        """Take one in, as waiting; displace another where there is no room.

        Returns:
            False if there is no room and nothing waits: the item is not in.
        """
        full_of_client = self._counts.get(client, 0) >= self._most_of_client
        if full_of_client or len(self._clients) >= self._most:
            oldest = next(iter(self._waiting_of.get(client, ()) if full_of_client else self._waiting), None)
            if oldest is None:
                return False
            self.leave(oldest)
            self._displace(oldest)
        self._clients[item] = client
        self._counts[client] = self._counts.get(client, 0) + 1
        self.release(item)
        return True

    def hold(self, item: T) -> None:
        """Let it not be displaced from now on."""
        if item in self._waiting:
            del self._waiting[item]
            self._stop_waiting(item, self._clients[item])

    def release(self, item: T) -> None:
        """Let it be displaced again, after all others that wait now."""
        client = self._clients.get(item)
        if client is not None and item not in self._waiting:
            self._waiting[item] = None
            self._waiting_of.setdefault(client, {})[item] = None

    def leave(self, item: T) -> None:
        """Forget one; it may have left before."""
        self.hold(item)
        client = self._clients.pop(item, None)
        if client is not None:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]

    def _stop_waiting(self, item: T, client: str) -> None:
        waiting = self._waiting_of[client]
        del waiting[item]
        if not waiting:
            del self._waiting_of[client]


def client_of(peer: Sequence[Any] | None) -> str:
    """The client at the other end of a connection: its IPv4 address, or its IPv6 network of 64 bits.

    Args:
        peer: address and port, as ASGI and sockets have them; None where there is no address.
    """
    address = str(peer[0]) if peer else ""
    if ":" not in address:
        return address
    full = IPv6Address(address.partition("%")[0])
    return str(full.ipv4_mapped or full.exploded[:19])
