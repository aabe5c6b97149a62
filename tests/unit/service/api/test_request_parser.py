"""Requests that offer another protocol, in pieces of every size."""

from __future__ import annotations

import httptools
import pytest

from service.api.request_parser import RequestParser, Taken

PLAIN = b"POST /a?b=c HTTP/1.1\r\nhost: x\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 3\r\n\r\nabc"
OFFER = PLAIN.replace(b"x-a", b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\nx-a", 1)
CHUNKED = OFFER.replace(
    b"content-length: 3\r\n\r\nabc", b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
)
EMPTY = b"GET /d HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Requests:
    """The requests of a connection, with the callbacks of the parser."""

    def __init__(self) -> None:
        self.parser = RequestParser(self)
        self.takes = False
        self.complete: list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]] = []

    def takes_offer(self, rest: bytes) -> bool:
        return self.takes and not rest

    def on_message_begin(self) -> None:
        self.url, self.headers, self.body = b"", list[tuple[bytes, bytes]](), b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            self.complete.append((self.parser.get_method(), self.url, self.headers, self.body))


def parsed(content: bytes, size: int) -> Requests:
    requests = Requests()
    for start in range(0, len(content), size):
        requests.parser.feed_data(content[start : start + size])
    return requests


@pytest.mark.parametrize("size", [*range(1, 40), 1000])
def test_an_offer_is_ignored(size: int) -> None:
    requests = parsed(OFFER + EMPTY + CHUNKED + PLAIN, size).complete
    kept = [(b"host", b"x"), (b"connection", b"keep-alive, Upgrade"), (b"x-a", b"1"), (b"x-a", b"2")]
    assert requests == [
        (b"POST", b"/a?b=c", [*kept, (b"content-length", b"3")], b"abc"),
        (b"GET", b"/d", [(b"connection", b"Upgrade")], b""),
        (b"POST", b"/a?b=c", [*kept, (b"transfer-encoding", b"chunked")], b"abc"),
        (b"POST", b"/a?b=c", [kept[0], *kept[2:], (b"content-length", b"3")], b"abc"),
    ]


def test_the_version_and_what_follows_from_it_are_kept() -> None:
    parser = parsed(EMPTY.replace(b"1.1", b"1.0"), 1000).parser
    assert parser.get_http_version() == "1.0"
    assert not parser.should_keep_alive()
    assert parsed(EMPTY, 1000).parser.should_keep_alive()


def test_a_tunnel_is_refused() -> None:
    with pytest.raises(httptools.HttpParserError, match="there is no tunnel"):
        parsed(b"CONNECT x:1 HTTP/1.1\r\n\r\n" + PLAIN, 1000)


@pytest.mark.parametrize("content", [b"?", OFFER[:-3] + b"abcd?", OFFER.replace(b": 3", b": -3")])
def test_what_is_not_http_is_refused(content: bytes) -> None:
    with pytest.raises(httptools.HttpParserError):
        parsed(content + b"\r\n\r\n", 1000)


@pytest.mark.parametrize("size", [*range(1, 40), 1000])
def test_an_offer_that_is_taken_ends_the_parsing(size: int) -> None:
    requests = Requests()
    requests.takes = True
    last = (len(EMPTY) - 1) // size * size
    for start in range(0, last, size):
        requests.parser.feed_data(EMPTY[start : start + size])
    with pytest.raises(Taken):
        requests.parser.feed_data(EMPTY[last:])
    assert requests.complete == []


def test_an_offer_with_bytes_behind_it_is_the_receivers_choice_too() -> None:
    requests = Requests()
    requests.takes = True
    requests.parser.feed_data(EMPTY + PLAIN)
    assert [request[1] for request in requests.complete] == [b"/d", b"/a?b=c"]
