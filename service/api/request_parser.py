"""httptools' parser for a server that speaks no protocol but HTTP/1.1."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from httptools import HttpParserUpgrade, HttpRequestParser


class Receiver(Protocol):
    """What the parser calls, with the URL and the headers of the request that it has parsed."""

    url: bytes
    headers: list[tuple[bytes, bytes]]


class RequestParser:
    """Ignores offers of other protocols, as RFC 9110 (section 7.8) allows.

    Some clients offer HTTP/2 in their first request (the header ``Upgrade: h2c``). httptools takes the body of such a
    request for the other protocol: it would be lost, or parsed as the next request. So the request is parsed once more
    without its offer. Until then ``should_upgrade`` is true, and its callbacks should do nothing.

    Args:
        receiver: has the callbacks of ``httptools.HttpRequestParser``.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._parser = _parser(receiver)

    def get_method(self) -> bytes:
        """Method of the request."""
        return self._parser.get_method()

    def get_http_version(self) -> str:
        """Such as ``1.1``."""
        return self._parser.get_http_version()

    def should_keep_alive(self) -> bool:
        """Whether the client may send another request."""
        return self._parser.should_keep_alive()

    def should_upgrade(self) -> bool:
        """Whether the request has an offer that is still to be ignored."""
        return self._parser.should_upgrade() and self.get_method() != b"CONNECT"

    def feed_data(self, data: bytes) -> None:
        """Parse more bytes.

        Raises:
            HttpParserError: the bytes are not HTTP, or a callback failed.
            HttpParserUpgrade: the request has the method CONNECT.
        """
        while True:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as offer:
                if not self.should_upgrade():
                    raise
                data = self._head() + data[offer.args[0] :]
                self._parser = _parser(self._receiver)
            else:
                return

    def _head(self) -> bytes:
        """The request line and the headers, without the offer."""
        line = b"%b %b HTTP/%b" % (self.get_method(), self._receiver.url, self.get_http_version().encode())
        fields = (b"%b: %b" % field for field in self._receiver.headers if field[0] != b"upgrade")
        return b"\r\n".join((line, *fields, b"", b""))


def _parser(receiver: Receiver) -> HttpRequestParser:
    parser = HttpRequestParser(receiver)
    with suppress(AttributeError):  # httptools before 0.6.3
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
    return parser
