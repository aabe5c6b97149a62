"""Limits what a server holds for its clients: requests, bytes and streams. Each client has a share of each."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Any

from service.errors import RETRY_S, Overloaded
from service.settings import Limits

LONGEST_NAME = 64  # characters of a client's name that is no address; every session stores it
AGAIN = f"send the chunk again in {RETRY_S:g} s"


class Ledger:
    """Counts a resource of clients, with a limit in all and for each client. Used from one event loop.

    Args:
        full: sentence for a refusal at the limit in all; ``{}`` stands for the client's own count.
        share_full: the same for a refusal at the client's limit.
    """

    def __init__(self, most: int, most_of_client: int, full: str, share_full: str) -> None:
        self.total = 0
        self._most, self._most_of_client = most, min(most, most_of_client)
        self._full, self._share_full = full, share_full
        self._of_client: dict[str, int] = {}

    def check(self, client: str, count: int = 1) -> None:
        """Check that a client may take more.

        Raises:
            Overloaded: there is none.
        """
        own = self._of_client.get(client, 0)
        if self.total + count > self._most or own + count > self._most_of_client:
            raise self._overloaded(own, count)

    def take(self, client: str, count: int = 1) -> None:
        """Count more for a client.

        Raises:
            Overloaded: as ``check``.
        """
        own = self._of_client.get(client, 0)
        if self.total + count > self._most or own + count > self._most_of_client:
            raise self._overloaded(own, count)
        if count:
            self.total += count
            self._of_client[client] = own + count

    def give(self, client: str, count: int = 1) -> None:
        """Count less for a client."""
        if not count:
            return
        self.total -= count
        if left := self._of_client[client] - count:
            self._of_client[client] = left
        else:
            del self._of_client[client]

    def _overloaded(self, own: int, count: int) -> Overloaded:
        is_full = self.total + count > self._most
        return Overloaded((self._full if is_full else self._share_full).format(own))


class Budget:
    """The ledgers of a server. A client is its key if there are keys, else its address (``client_of``).

    Attributes:
        requests: requests in flight: from their last byte to their reply.
        bytes: bytes of requests, from their arrival to the reply, and of replies that clients have not read.
        streams: open WebSockets.
    """

    def __init__(self, limits: Limits) -> None:
        share = limits.client_share
        self.requests = Ledger(
            limits.max_waiting,
            max(1, int(limits.max_waiting * share)),
            f"the server has as many requests as it takes: {AGAIN}",
            f"{{}} requests of this client are waiting: {AGAIN}",
        )
        self.bytes = Ledger(
            limits.max_held_bytes,
            max(limits.max_body_bytes, int(limits.max_held_bytes * share)),
            f"the server has no room for more bytes of bodies: {AGAIN}",
            f"{{}} bytes of bodies of this client are under way: {AGAIN}",
        )
        self.streams = Ledger(
            limits.max_connections,
            max(1, int(limits.max_connections * share)),
            "the server has more streams than it takes: open the stream again later",
            "{} streams of this client are open: close some, or send many sessions over one with /streams",
        )


def client_of(peer: Sequence[Any] | None) -> str:
    """Name the client of a connection: its IPv4 address, or its IPv6 network of 64 bits.

    Args:
        peer: address and port, as in ASGI and sockets; None without an address.
    """
    address = str(peer[0])[:LONGEST_NAME] if peer else ""  # a proxy's X-Forwarded-For may contain anything
    if ":" not in address:
        return address
    try:
        full = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(full.ipv4_mapped or full.exploded[:19])
