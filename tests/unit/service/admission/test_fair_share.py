from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission.fair_share import LONGEST_SEARCH, FairShare, client_of

MOST, MOST_OF_CLIENT = 6, 3


class Shares:
    """Items by name; those in ``busy`` may not go."""

    def __init__(self, most: int, client_share: float) -> None:
        self.busy: set[str] = set()
        self.used: set[str] = set()
        self.displaced: list[str] = []
        self.shares = FairShare[str](most, client_share, self._may_go, self._was_used, self.displaced.append)

    def enter(self, *items: str) -> None:
        """Each is of the client that its first letter names."""
        for item in items:
            assert self.shares.enter(item, item[0])

    def _may_go(self, item: str) -> bool:
        return item not in self.busy

    def _was_used(self, item: str) -> bool:
        was_used = item in self.used
        self.used.discard(item)
        return was_used


def test_one_more_displaces_the_one_that_was_not_used_for_longest() -> None:
    items = Shares(3, 1.0)
    items.enter("a", "b", "c")
    items.used = {"a"}
    items.busy = {"b"}
    items.enter("d", "e")
    assert items.displaced == ["c", "a"]
    items.busy = {"b", "d", "e"}
    assert not items.shares.enter("f", "f")
    assert (len(items.shares), "f" in items.shares._of_client) == (3, False)
    items.shares.leave("b")
    items.enter("f")
    assert items.displaced == ["c", "a"]


def test_one_that_was_used_goes_if_no_other_may() -> None:
    items = Shares(3, 1.0)
    items.enter("a", "b", "c")
    items.busy, items.used = {"a"}, {"b", "c"}
    items.enter("d")
    assert items.displaced == ["b"]


def test_a_client_displaces_its_own_beyond_its_share() -> None:
    items = Shares(6, 0.5)
    items.enter("b0", "a0", "a1", "a2", "a3")
    assert items.displaced == ["a0"]
    items.busy = {"a1", "a2", "a3"}
    assert not items.shares.enter("a4", "a")
    items.enter("b1")
    assert items.displaced == ["a0"]


def test_a_client_whose_last_item_goes_has_its_new_one() -> None:
    items = Shares(1, 1.0)
    items.enter("a0", "a1")
    assert items.displaced == ["a0"]
    items.shares.leave("a1")
    assert not items.shares._of_client


def test_the_search_for_room_is_bounded() -> None:
    items = Shares(2 * LONGEST_SEARCH, 1.0)
    names = [f"a{n}" for n in range(2 * LONGEST_SEARCH)]
    items.enter(*names)
    items.busy = set(names[:LONGEST_SEARCH])
    assert not items.shares.enter("anew", "a")
    items.enter("anew")  # the search goes on where it ended
    assert items.displaced == [names[LONGEST_SEARCH]]


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "busy", "used"]), st.integers(0, 30)), max_size=80))
def test_bounds_hold_and_nothing_is_kept_of_those_that_left(events: list[tuple[str, int]]) -> None:
    items, inside = Shares(MOST, MOST_OF_CLIENT / MOST), set[str]()
    for n, (event, number) in enumerate(events):
        name = f"{'abc'[number % 3]}{n if event == 'enter' else number}"
        if event == "enter":
            items.displaced.clear()
            if items.shares.enter(name, name[0]):
                inside.add(name)
            assert len(items.displaced) <= 1
            assert not set(items.displaced) & items.busy
            inside -= set(items.displaced)
        elif event == "leave":
            items.shares.leave(name)
            inside.discard(name)
        else:
            getattr(items, event).add(name)
        assert len(items.shares) == len(inside) <= MOST
        assert all(sum(name[0] == client for name in inside) <= MOST_OF_CLIENT for client in "abc")
    for name in inside:
        items.shares.leave(name)
    assert not items.shares._clients
    assert not items.shares._of_client


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
