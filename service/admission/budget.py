"""Limits what a server holds for its clients: requests, bytes and streams. Each client has a share of each.

A request with its whole body needs a permit. None is given any more when the server shuts down.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv6Address
from math import inf
from typing import Any

from service.clock import Clock
from service.errors import RETRY_S, HetsynError, Overloaded, ShuttingDown
from service.observe.timings import Transport
from service.settings import Limits

LONGEST_NAME = 64  # characters of a client's name that is no address; every session stores it
AGAIN = f"send the chunk again in {RETRY_S:g} s"


class Ledger:
    """Counts a resource of clients, with a limit in all and for each client. Used from one event loop.

    ``full`` and ``share_full`` are the sentences of refusals; ``{}`` stands for the client's own count.
    """

    def __init__(self, most: int, most_of_client: int, full: str, share_full: str) -> None:
        self.total = 0
        self._most, self._most_of_client = most, min(most, most_of_client)
        self._full, self._share_full = full, share_full
        self._of_client: dict[str, int] = {}

    def check(self, client: str, count: int = 1) -> None:
        """Raise Overloaded if a client may not take more."""
        own = self._of_client.get(client, 0)
        if self.total + count > self._most or own + count > self._most_of_client:
            raise self._overloaded(own, count)

    def take(self, client: str, count: int = 1) -> None:
        """Count more for a client; errors as ``check``."""
        own = self._of_client.get(client, 0)
        if self.total + count > self._most or own + count > self._most_of_client:
            raise self._overloaded(own, count)
        if count:
            self.total += count
            self._of_client[client] = own + count

    def give(self, client: str, count: int = 1) -> None:
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
    """Name the client at an address and port: by its IPv4 address, or its IPv6 network of 64 bits."""
    address = str(peer[0])[:LONGEST_NAME] if peer else ""  # a proxy's X-Forwarded-For may contain anything
    if ":" not in address:
        return address
    try:
        full = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(full.ipv4_mapped or full.exploded[:19])


class Admission:
    """Permits for requests in flight. Used from one event loop.

    Attributes:
        queue_timeout_s: time within which the work for a request must begin.
        idle: set while no request is in flight.
        admits: permits are still given.
        is_ending: the server shuts down: no new request may come.
        before_stop: awaited by ``stop`` in order, before it gives no more permits: finish what has come in part, and
            what has come and has no permit yet.
    """

    def __init__(
        self,
        budget: Budget,
        queue_timeout_s: float = inf,
        clock: Clock = time.monotonic,
    ) -> None:
        self.budget = budget
        self.ledger = budget.requests
        self.queue_timeout_s = queue_timeout_s
        self.clock = clock
        self.idle = asyncio.Event()
        self.idle.set()
        self.admits = True
        self._is_ready = True
        self.is_ending = False
        self.before_stop: list[Callable[[], Awaitable[None]]] = []

    @property
    def in_flight(self) -> int:
        return self.ledger.total

    @property
    def is_ready(self) -> bool:
        """Return whether balancers should send requests to this server."""
        return self._is_ready

    def check(self, client: str) -> None:
        """Raise ShuttingDown or Overloaded if a client may send no further request."""
        if self.is_ending or not self.admits:
            raise shutting_down()
        self.ledger.check(client)

    def permit(self, client: str, transport: Transport = "http", came_s: float | None = None) -> Permit:
        """Make a permit, a context manager: taken when the request's body has arrived, and held until the reply."""
        return Permit(self, client, transport, came_s)

    async def finish(self) -> None:
        """Wait until no request is in flight."""
        await self.idle.wait()

    def leave_rotation(self) -> None:
        """Become unready and go on serving, so that balancers notice."""
        self._is_ready = False

    async def stop(self) -> None:
        """Admit no more requests, and wait for those in flight."""
        self._is_ready, self.is_ending = False, True
        for finish in self.before_stop:
            await finish()
        self.admits = False
        await self.idle.wait()


class Permit:
    """A permit of ``Admission.permit``.

    Attributes:
        due_s: deadline for the beginning of the work, in seconds of the clock. When the permit is taken, it becomes
            ``queue_timeout_s`` from then, unless it is earlier.
        came_s: when the request was complete, in seconds of ``time.perf_counter``.
        place: gives back what is held together with the permit; None if there is nothing.
    """

    __slots__ = ("_admission", "_is_taken", "came_s", "client", "due_s", "place", "transport")

    def __init__(
        self, admission: Admission, client: str, transport: Transport = "http", came_s: float | None = None
    ) -> None:
        self._admission = admission
        self.client = client
        self.due_s = inf
        self.transport = transport
        self.came_s = time.perf_counter() if came_s is None else came_s
        self.place: Callable[[], None] | None = None
        self._is_taken = False

    def take(self) -> None:
        """Take the permit; errors as ``Admission.check``."""
        admission = self._admission
        if not admission.admits:
            raise shutting_down()
        admission.ledger.take(self.client)
        admission.idle.clear()
        if (due_s := admission.clock() + admission.queue_timeout_s) < self.due_s:
            self.due_s = due_s
        self._is_taken = True

    def give_back(self) -> None:
        """Give back the permit, if it is taken, and what is held with it."""
        if self._is_taken:
            self._is_taken = False
            admission = self._admission
            admission.ledger.give(self.client)
            if not admission.ledger.total:
                admission.idle.set()
        if self.place is not None:
            give_back, self.place = self.place, None
            give_back()

    def __enter__(self) -> Permit:
        try:
            self.take()
        except HetsynError:
            self.give_back()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()


def waited_too_long() -> Overloaded:
    return Overloaded(f"the chunk waited too long for its turn, and was not applied: send it again in {RETRY_S:g} s")


def shutting_down() -> ShuttingDown:
    return ShuttingDown(f"the server is shutting down: {AGAIN}")
