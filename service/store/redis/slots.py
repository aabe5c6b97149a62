"""The addresses of a cluster: those in a URL, and those that its nodes tell for each slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from service.errors import StoreUnusable

SLOTS = REDIS_CLUSTER_HASH_SLOTS
_PORT = 6379


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class ClusterAddress:
    """What the URL of a cluster says.

    Attributes:
        seeds: nodes that tell the others.
        scheme: of a node's URL: ``redis``, or ``rediss`` with TLS.
        user_info: user and password as the URL has them, with ``@``; empty without.
        query: of a node's URL, with ``?``; empty without.
    """

    seeds: tuple[Address, ...]
    scheme: str
    user_info: str
    query: str

    def node_url(self, address: Address) -> str:
        return f"{self.scheme}://{self.user_info}{address}/0{self.query}"


def read_address(scheme: str, netloc: str, path: str, query: str) -> ClusterAddress:
    """The parts of a cluster's URL, read.

    Raises:
        StoreUnusable: a host is missing, a port is no port, or a database is named.
    """
    if path not in ("", "/"):
        raise StoreUnusable(f"the store's URL is not valid ({path!r}: a cluster has no databases, end it with /)")
    user_info, at, hosts = netloc.rpartition("@")
    seeds = []
    for host in hosts.split(","):
        try:
            parts = urlsplit(f"//{host}")
            seeds.append(Address(parts.hostname or "", parts.port or _PORT))
        except ValueError as error:
            raise StoreUnusable(f"the store's URL is not valid ({error})") from error
    if not all(seed.host for seed in seeds):
        raise StoreUnusable(
            "the store's URL has an empty host: write it as valkey-cluster://10.0.0.1:6379,10.0.0.2:6379/"
        )
    return ClusterAddress(tuple(seeds), scheme, f"{user_info}{at}", f"?{query}" if query else "")


def slot_of(key: str) -> int:
    return key_slot(key.encode())


def read_slots(answer: Sequence[Any], asked: Address) -> list[Address | None]:
    """The primary of each slot.

    Args:
        answer: to CLUSTER SLOTS.
        asked: the node that gave it; it leaves out its own host if it does not know it.
    """
    primaries: list[Address | None] = [None] * SLOTS
    for first, last, primary, *_ in answer:
        host = _text(primary[0])
        address = Address(asked.host if host in ("", "?") else host, int(primary[1]))
        primaries[int(first) : int(last) + 1] = [address] * (int(last) - int(first) + 1)
    return primaries


def probe_keys(prefix: str, primaries: Sequence[Address | None]) -> Iterator[tuple[Address, str]]:
    """For each primary, a key that it has."""
    missing = {address for address in primaries if address is not None}
    number = 0
    while missing:
        key = f"{prefix}{{?{number}}}probe"
        address = primaries[slot_of(key)]
        if address in missing:
            missing.remove(address)
            yield address, key
        number += 1


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
