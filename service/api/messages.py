"""Messages of HTTP/1.1 as bytes: parses and checks the heads of requests, and writes responses.

Requests that two parsers could read differently are refused here, before an application sees them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple, Protocol

from fastapi import Response
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from service.api import problems

Field = tuple[bytes, bytes]
STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}

# For all headers of a request, its trailers, or an extension of a chunk. The parser copies the whole header for each
# part of it that arrives.
MOST_HEADER_BYTES = 64 * 1024
MOST_FIELDS = 128  # headers of a request
MOST_URL_BYTES = 8 * 1024  # RFC 9112, section 3

HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")  # characters of RFC 3986, section 3.2


class Head(NamedTuple):
    """A request without its body.

    Attributes:
        path: decoded ``raw_path``.
        headers: with names in lower case.
        fields: the last header of each name.
        expects: the client waits for 100 before it sends the body.
        keep_alive: the connection stays after the response.
    """

    method: bytes
    version: str
    raw_path: bytes
    path: str
    query: bytes
    headers: list[Field]
    fields: Mapping[bytes, bytes]
    client: str
    expects: bool
    keep_alive: bool


class Taken(Exception):
    """The connection speaks another protocol from now on."""


class Receiver(Protocol):
    """The parser's callbacks, with the URL and the headers of the parsed request."""

    url: bytes
    headers: list[tuple[bytes, bytes]]

    def takes_offer(self, rest: bytes) -> bool:
        """Return whether the connection accepts the offer of a request. ``rest`` are the bytes after its headers."""


class RequestParser:
    """Ignores offers of other protocols, as RFC 9110 (section 7.8) allows, except those that its receiver accepts.

    Some clients offer HTTP/2 in their first request (the header ``Upgrade: h2c``). httptools takes their body for
    the other protocol: it would be lost, or parsed as the next request. So the request is parsed again without its
    offer. Until then ``should_upgrade`` is true, and the callbacks for complete headers and complete requests should
    do nothing.

    An offer is accepted only with complete headers and without a body. This parser must not get the bytes that follow:
    they would be read as requests.

    Args:
        receiver: has the callbacks of ``httptools.HttpRequestParser``.
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


def _refusal(status: HTTPStatus, detail: str) -> Response:
    return problems.of_http(status, detail, {"Connection": "close"})


MALFORMED = _refusal(HTTPStatus.BAD_REQUEST, "these bytes are no request: send HTTP/1.1 (RFC 9112)")
NO_HOST = _refusal(
    HTTPStatus.BAD_REQUEST, "the request has no header Host, several, or one that names no host: send one"
)
LATE = _refusal(HTTPStatus.REQUEST_TIMEOUT, "the headers did not arrive in time: send the request again, faster")
LONG_URL = _refusal(
    HTTPStatus.REQUEST_URI_TOO_LONG, f"the URL is longer than {MOST_URL_BYTES} bytes: send what is long in the body"
)
LONG_HEADERS = _refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"the headers are longer than {MOST_HEADER_BYTES} bytes, or more than {MOST_FIELDS}: send fewer",
)
CODING = _refusal(
    HTTPStatus.NOT_IMPLEMENTED,
    "no transfer coding but 'chunked', in HTTP/1.1, is taken: send the body with Content-Length, or chunked alone",
)
VERSION = _refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this version of HTTP is not spoken: send HTTP/1.1")


def to_bytes(refusal: Response, headers: Iterable[Field]) -> bytes:
    """Write a refusal of bytes that are no request, with further headers."""
    return response_bytes(refusal.status_code, lines_of((*headers, *refusal.raw_headers)), bytes(refusal.body))


def of_head(
    version: str, url: bytes, headers: Sequence[Field], fields: Mapping[bytes, bytes], received_bytes: int
) -> Response | None:
    """Check the head of a request (``Head``). Returns its refusal; None if it is accepted.

    Args:
        received_bytes: bytes in which the head came; some may belong to the body, or to the next request.
    """
    if version not in ("1.0", "1.1"):
        return VERSION
    host = fields.get(b"host")
    if host is None:
        if version == "1.1":
            return NO_HOST
    elif HOST.fullmatch(host) is None or (len(fields) < len(headers) and _count(headers, b"host") > 1):
        return NO_HOST
    if (coding := fields.get(b"transfer-encoding")) is not None and (
        version == "1.0" or coding.strip().lower() != b"chunked" or _count(headers, b"transfer-encoding") > 1
    ):
        return CODING
    if len(url) > MOST_URL_BYTES:
        return LONG_URL
    if len(headers) > MOST_FIELDS:
        return LONG_HEADERS
    if received_bytes > MOST_HEADER_BYTES:
        length = len(url) + sum(len(name) + len(value) + len(": \r\n") for name, value in headers)
        if length > MOST_HEADER_BYTES:
            return LONG_HEADERS
    return None


def _count(headers: Sequence[Field], of: bytes) -> int:
    return sum(name == of for name, _ in headers)


def response_bytes(status: int, lines: bytes, body: bytes) -> bytes:
    """Write a response. ``lines`` are its headers (``lines_of``)."""
    return b"%b%b\r\n%b" % (STATUS_LINES[status], lines, body)


def lines_of(headers: Iterable[Field]) -> bytes:
    """Write headers as lines."""
    return b"".join(b"%b: %b\r\n" % field for field in headers)
