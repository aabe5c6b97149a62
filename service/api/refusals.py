"""Refusals that a connection sends by itself, of requests that the application does not see."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus

from fastapi import Response

from service.api import problems
from service.api.exchange import Field, lines_of, response_bytes

# For all headers of a request, its trailers, or an extension of a chunk. The parser copies the whole header for each
# part of it that arrives.
MOST_HEADER_BYTES = 64 * 1024
MOST_FIELDS = 128  # headers of a request
MOST_URL_BYTES = 8 * 1024  # RFC 9112, section 3

HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")  # characters of RFC 3986, section 3.2


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
    """Write a refusal of bytes that are no request.

    Args:
        headers: further headers.
    """
    return response_bytes(refusal.status_code, lines_of((*headers, *refusal.raw_headers)), bytes(refusal.body))


def of_head(
    version: str, url: bytes, headers: Sequence[Field], fields: Mapping[bytes, bytes], received_bytes: int
) -> Response | None:
    """Check the head of a request. Returns its refusal; None if it is accepted.

    Args:
        version: HTTP's, as the parser has it.
        headers: all headers, with names in lower case.
        fields: the last header of each name.
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
