"""A bounded number of things of many clients: connections, or bodies under way.

A newcomer is not refused because others wait: it displaces one that has waited for long. So slow senders displace each
other, and a request that arrives at once is served.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LONGEST_SEARCH = 256  # items, so that a newcomer costs little even if it is refused
LONGEST_NAME = 64  # characters of what is no address; every session keeps its client's name


class FairShare(Generic[T]):
    """What is there, by client, oldest first. Used from one event loop.

    An item that may not make room when its turn comes, or was used since, goes to the end of the row (the CLOCK
    algorithm). So a use of an item costs nothing here.

    Args:
        most: number in all.
        client_share: share of ``most`` that one client may take, above 0, up to 1.
        may_go: whether an item may make room now.
        was_used: whether an item was used since the last call; it makes room only if no other of those looked at may.
        displace: ends an item that has to make room; it has left already.
    """

    def __init__(
        self,
        most: int,
        client_share: float,
        may_go: Callable[[T], bool],
        was_used: Callable[[T], bool],
        displace: Callable[[T], None],
    ) -> None:
        self._most = most
        self._most_of_client = max(1, int(most * client_share))
        self._may_go = may_go
        self._was_used = was_used
        self._displace = displace
        self._clients: OrderedDict[T, str] = OrderedDict()
        self._of_client: dict[str, OrderedDict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def enter(self, item: T, client: str) -> bool:
        """Take an item in; displace another where there is no room.

        Returns:
            False if there is no room, and none of the next ``LONGEST_SEARCH`` may go: the item is not in.
        """
        same = self._of_client.get(client)
        row: OrderedDict[T, Any] | None = None
        if same is not None and len(same) >= self._most_of_client:
            row = same
        elif len(self._clients) >= self._most:
            row = self._clients
        if row is not None and not self._make_room(row):
            return False
        self._clients[item] = client
        same = self._of_client.get(client)  # the one that went may have been its last
        if same is None:
            same = self._of_client[client] = OrderedDict()
        same[item] = None
        return True

    def leave(self, item: T) -> None:
        """Forget an item; it may have left before."""
        client = self._clients.pop(item, None)
        if client is not None:
            same = self._of_client[client]
            del same[item]
            if not same:
                del self._of_client[client]

    def _make_room(self, row: OrderedDict[T, Any]) -> bool:
        goes: T | None = None
        for _ in range(min(len(row), LONGEST_SEARCH)):
            item = next(iter(row))
            if self._may_go(item):
                if not self._was_used(item):
                    goes = item
                    break
                goes = item if goes is None else goes
            row.move_to_end(item)
        if goes is None:
            return False
        self.leave(goes)
        self._displace(goes)
        return True


def client_of(peer: Sequence[Any] | None) -> str:
    """The client at the other end of a connection: its IPv4 address, or its IPv6 network of 64 bits.

    Args:
        peer: address and port, as ASGI and sockets have them; None where there is no address.
    """
    address = str(peer[0])[:LONGEST_NAME] if peer else ""  # a proxy's X-Forwarded-For may have anything
    if ":" not in address:
        return address
    try:
        full = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(full.ipv4_mapped or full.exploded[:19])
