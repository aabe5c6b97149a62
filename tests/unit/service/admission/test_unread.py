"""What is unread is bounded, in all and by client; what has been unread for longest goes."""

from __future__ import annotations

from service.admission.unread import Unread


def test_the_oldest_goes_where_all_are_too_many() -> None:
    ended: list[str] = []
    unread = Unread[str](100, 1.0, ended.append)
    for item in ("a", "b", "c"):
        unread.enter(item, item, 40)
    assert (ended, unread.bytes) == (["a"], 80)
    unread.leave("b")
    unread.leave("b")
    assert unread.bytes == 40
    unread.enter("d", "d", 60)
    assert ended == ["a"]


def test_a_client_beyond_its_share_makes_room_itself() -> None:
    ended: list[str] = []
    unread = Unread[str](100, 0.5, ended.append)
    unread.enter("other", "2", 30)
    unread.enter("one", "1", 30)
    unread.enter("two", "1", 30)
    assert (ended, unread.bytes) == (["one"], 60)


def test_one_that_is_too_long_goes_itself() -> None:
    ended: list[str] = []
    unread = Unread[str](100, 1.0, ended.append)
    unread.enter("a", "1", 101)
    assert (ended, unread.bytes) == (["a"], 0)
