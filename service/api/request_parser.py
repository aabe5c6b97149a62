"""Parses HTTP/1.1 with httptools, and ignores offers of other protocols."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser


class Taken(Exception):
    """The connection speaks another protocol from now on."""


class Receiver(Protocol):
    """The parser's callbacks, with the URL and the headers of the parsed request."""

    url: bytes
    headers: list[tuple[bytes, bytes]]

    def takes_offer(self, rest: bytes) -> bool:
        """Return whether the connection accepts the offer of a request with complete headers.

        Args:
            rest: the bytes after the headers.
        """


class RequestParser:
    """Ignores offers of other protocols, as RFC 9110 (section 7.8) allows, except those that its receiver accepts.

    Some clients offer HTTP/2 in their first request (the header ``Upgrade: h2c``). httptools takes the body of such a
    request for the other protocol: it would be lost, or parsed as the next request. So the request is parsed again
    without its offer. Until then ``should_upgrade`` is true, and the callbacks for complete headers and complete
    requests should do nothing.

    An offer is accepted only with complete headers and without a body. This parser must not get the bytes that follow:
    they would be read as requests.

    Args:
        receiver: has the callbacks of ``httptools.HttpRequestParser``.

    Attributes:
        should_upgrade, get_method, get_http_version, should_keep_alive: httptools'.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._begin()

    def _begin(self) -> None:
        self._parser = parser = HttpRequestParser(self._receiver)
        with suppress(AttributeError):  # httptools before 0.6.3
            parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.should_upgrade = parser.should_upgrade
        self.get_method = parser.get_method
        self.get_http_version = parser.get_http_version
        self.should_keep_alive = parser.should_keep_alive

    def feed_data(self, data: bytes) -> None:
        """Parse more bytes.

        Raises:
            HttpParserError: the bytes are not HTTP, a callback failed, or the request has the method CONNECT.
            Taken: the receiver has accepted an offer.
        """
        while True:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as offer:
                if self.get_method() == b"CONNECT":
                    raise HttpParserError("there is no tunnel") from None
                rest = data[offer.args[0] :]
                if self._receiver.takes_offer(rest):
                    raise Taken from None
                data = self._head() + rest
                self._begin()
            else:
                return

    def _head(self) -> bytes:
        """Return the request line and the headers, without the offer."""
        line = b"%b %b HTTP/%b" % (self.get_method(), self._receiver.url, self.get_http_version().encode())
        fields = (b"%b: %b" % field for field in self._receiver.headers if field[0] != b"upgrade")
        return b"\r\n".join((line, *fields, b"", b""))
