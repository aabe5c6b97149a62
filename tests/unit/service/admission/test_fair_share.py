from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.admission.fair_share import FairShare, client_of

MOST, MOST_OF_CLIENT = 6, 3


def test_one_more_displaces_the_one_that_has_waited_longest() -> None:
    displaced: list[str] = []
    shares = FairShare[str](3, 1.0, displaced.append)
    for item in "abc":
        assert shares.enter(item, item)
    shares.hold("a")
    shares.release("a")  # it was of use: now it waits the shortest
    shares.hold("b")
    for item in "de":
        assert shares.enter(item, item)
    assert displaced == ["c", "a"]
    for item in "de":
        shares.hold(item)
    assert not shares.enter("f", "f")  # nothing waits
    assert len(shares) == 3
    shares.leave("b")
    assert shares.enter("f", "f")


def test_a_client_displaces_its_own_beyond_its_share() -> None:
    displaced: list[str] = []
    shares = FairShare[str](MOST, 0.5, displaced.append)
    assert shares.enter("other", "b")
    for item in ("one", "two", "three", "four"):
        assert shares.enter(item, "a")
    assert displaced == ["one"]
    for item in ("two", "three", "four"):
        shares.hold(item)
    assert not shares.enter("five", "a")
    assert shares.enter("another", "b")
    assert displaced == ["one"]


class Model(RuleBasedStateMachine):
    """Against a list in which the first waiting item is the next to go."""

    def __init__(self) -> None:
        super().__init__()
        self.displaced: list[int] = []
        self.shares = FairShare[int](MOST, MOST_OF_CLIENT / MOST, self.displaced.append)
        self.items: dict[int, tuple[str, bool]] = {}  # client, waits; in the order of their waiting
        self.next = 0

    @rule(client=st.sampled_from("abc"))
    def enter(self, client: str) -> None:
        of_client = [item for item, (owner, _) in self.items.items() if owner == client]
        candidates = of_client if len(of_client) >= MOST_OF_CLIENT else list(self.items)
        full = len(of_client) >= MOST_OF_CLIENT or len(self.items) >= MOST
        oldest = next((item for item in candidates if self.items[item][1]), None)
        self.displaced.clear()
        entered = self.shares.enter(self.next, client)
        assert entered == (not full or oldest is not None)
        assert self.displaced == ([oldest] if full and oldest is not None else [])
        if entered:
            if full and oldest is not None:
                del self.items[oldest]
            self.items[self.next] = (client, True)
        self.next += 1

    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        item = data.draw(st.integers(0, self.next))
        self.shares.hold(item)
        if item in self.items:
            self.items[item] = (self.items[item][0], False)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        item = data.draw(st.integers(0, self.next))
        self.shares.release(item)
        if item in self.items and not self.items[item][1]:
            client, _ = self.items.pop(item)
            self.items[item] = (client, True)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        item = data.draw(st.integers(0, self.next))
        self.shares.leave(item)
        self.items.pop(item, None)

    @invariant()
    def counts(self) -> None:
        assert len(self.shares) == len(self.items) <= MOST


TestModel = Model.TestCase


@given(st.lists(st.sampled_from("ab"), max_size=20))
def test_nothing_is_kept_of_those_that_left(clients: list[str]) -> None:
    shares = FairShare[int](MOST, 0.5, lambda _: None)
    for item, client in enumerate(clients):
        shares.enter(item, client)
        if item % 2:
            shares.hold(item)
    for item in range(len(clients)):
        shares.leave(item)
    assert not any((shares._clients, shares._counts, shares._waiting, shares._waiting_of))


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        (("192.0.2.7", 5), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:0db8:0001:0002"),
        (("fe80::1%eth0", 5, 0, 2), "fe80:0000:0000:0000"),
        (("::ffff:192.0.2.7", 5, 0, 0), "192.0.2.7"),
        (("testclient", 5), "testclient"),
        (None, ""),
    ],
)
def test_a_client_is_an_address_or_an_ipv6_network(peer: Sequence[Any] | None, client: str) -> None:
    assert client_of(peer) == client
