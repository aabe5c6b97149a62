"""What the server holds for its clients, in all and for each, and which connection makes room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission.budget import Budget, Ledger, client_of
from service.admission.connections import Connections
from service.errors import Overloaded
from service.observe.counters import Counters
from service.settings import Limits

MOST, MOST_OF_CLIENT = 6, 3


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(0, 4)), max_size=80))
def test_bounds_hold_and_nothing_is_kept_of_those_that_left(events: list[tuple[bool, str, int]]) -> None:
    ledger, held = Ledger(MOST, MOST_OF_CLIENT, "all", "{} of this client"), Counter[str]()
    for takes, client, count in events:
        if not takes:
            gone = min(count, held[client])
            ledger.give(client, gone)
            held[client] -= gone
        elif held.total() + count > MOST or held[client] + count > MOST_OF_CLIENT:
            sentence = "all" if held.total() + count > MOST else f"{held[client]} of this client"
            with pytest.raises(Overloaded, match=sentence):
                ledger.take(client, count)
        else:
            ledger.take(client, count)
            held[client] += count
        assert ledger.total == held.total()
    for client, count in held.items():
        ledger.give(client, count)
    assert (ledger.total, ledger._of_client) == (0, {})


def test_a_client_may_send_one_body_however_small_its_share_is() -> None:
    budget = Budget(Limits(max_held_bytes=1000, max_body_bytes=600, client_share=0.1))
    budget.bytes.take("a", 600)
    with pytest.raises(Overloaded, match="600 bytes of bodies of this client"):
        budget.bytes.take("a", 1)
    budget.bytes.take("b", 400)
    with pytest.raises(Overloaded, match="no room for more bytes of bodies"):
        budget.bytes.take("c", 1)


class Named:
    """A connection that notes its end."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def end(self, reason: str) -> None:
        self.ended.append(reason)


def test_the_connection_that_is_longest_without_a_complete_request_makes_room() -> None:
    limits = Limits(max_connections=3)
    connections = Connections(limits, Counters(), Budget(limits))
    first, second, third, *more = (Named() for _ in range(6))
    for connection in (first, second, third):
        assert connections.enter(connection)
        connections.waiting[connection] = None
    del connections.waiting[first], connections.waiting[second]
    connections.waiting[first] = None  # answered; the other's answer is under way
    assert connections.enter(more[0])
    assert connections.enter(more[1])  # the one before is a WebSocket, and does not wait
    assert (first.ended, second.ended, third.ended) == (["displaced"], [], ["displaced"])
    assert not connections.enter(more[2])
    connections.leave(third)
    connections.leave(second)
    assert connections.enter(more[2])
    assert len(connections) == 3


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        (("192.0.2.7", 5), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:0db8:0001:0002"),
        (("fe80::1%eth0", 5, 0, 2), "fe80:0000:0000:0000"),
        (("::ffff:192.0.2.7", 5, 0, 0), "192.0.2.7"),
        (("testclient", 5), "testclient"),
        (("192.0.2.7:5", 0), "192.0.2.7:5"),
        (("a:b", 0), "a:b"),
        (("x:" * 30_000, 0), "x:" * 32),
        (None, ""),
    ],
)
def test_a_client_is_an_address_or_an_ipv6_network(peer: Sequence[Any] | None, client: str) -> None:
    assert client_of(peer) == client
