"""Requests as bytes, and statuses in what a connection received."""

from __future__ import annotations

import pytest

from tests.long.hostile.decoding import BOMBS, LONG, OTHERS, SHORT
from tests.long.hostile.framing import MARK, hidden
from tests.long.hostile.wire import events, request, statuses


def test_a_request_has_the_length_of_its_body() -> None:
    assert request("GET", "/a") == b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head, _, body = request("POST", "/infer", events(5), "X-A: b").partition(b"\r\n\r\n")
    assert body == events(5)
    assert head.splitlines()[2:] == [
        b"X-A: b", b"Content-Type: application/vnd.hetsyn.events", b"Content-Length: %d" % len(body),
    ]  # fmt: skip
    assert MARK.encode() in hidden("/sessions/a")


def test_statuses_are_found_behind_bodies_too() -> None:
    assert statuses(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n{}HTTP/1.1 422 No\r\n\r\n") == [
        "100",
        "200",
        "422",
    ]
    assert statuses(b"") == []
    assert statuses(b'HTTP/1.1 505 No\r\n\r\n{"detail": "speak HTTP/1.1: then') == ["505"]


@pytest.mark.long
def test_bombs_have_their_length() -> None:
    for make in (*BOMBS.values(), *OTHERS):
        for length in (SHORT, LONG):
            assert 0.9 * length < len(make(length)) <= 1.05 * length
