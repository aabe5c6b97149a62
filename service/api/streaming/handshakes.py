"""Recognises opening handshakes of WebSockets, and writes the answers (RFC 6455, section 4.2).

Only a complete and valid handshake for ``/stream`` or ``/streams`` counts. Any other offer of another protocol is
ignored, as RFC 9110 allows, and its request is answered as HTTP.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from fastapi import Response

from service.api import messages
from service.api.infer import parse_query
from service.api.messages import Field, lines_of, response_bytes
from service.api.origins import check_origin
from service.api.streaming.frames import accept_key
from service.errors import UnsupportedInput
from service.keys.credential import of_bearer
from service.live.text_frames import SUBPROTOCOL

PATH, MANY_PATH = "/stream", "/streams"
PATHS = {PATH.encode(), MANY_PATH.encode()}
VERSION = b"13"
CONTEXT = (b"x-request-id", b"traceparent", b"tracestate")
KEY_PROTOCOL = "hetsyn.key."  # followed by the key: a page cannot set headers of a WebSocket
BODY = frozenset((b"content-length", b"transfer-encoding", b"expect", b"trailer", b"te"))


class Credential(str):
    """A client's credential. Its ``repr`` does not show it, so that no traceback has it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Credential(...)"


class Handshake(NamedTuple):
    """An opening handshake.

    Attributes:
        key: ``Sec-WebSocket-Key``.
        protocols: offered subprotocols; without the key in the one that has it.
        origin: origin of the page that opens the connection; empty without.
        context: the headers that ``observe.context`` reads.
        credential: from ``Authorization``, or from that subprotocol; None if there is none, or more than one.
    """

    path: str
    key: str
    query: bytes
    protocols: tuple[str, ...]
    origin: str
    host: str
    context: tuple[Field, ...] = ()
    credential: Credential | None = None


def handshake(method: bytes, version: str, url: bytes, headers: Sequence[Field]) -> Handshake | None:
    """Read the opening handshake of a request; None if it is none. The names of the headers are in lower case."""
    path, _, query = url.partition(b"?")
    if method != b"GET" or version != "1.1" or path not in PATHS or b"#" in url:
        return None
    length = len(url) + sum(len(name) + len(value) + len(": \r\n") for name, value in headers)
    if any(name in BODY for name, _ in headers) or messages.of_head(version, url, headers, dict(headers), length):
        return None
    if [token.lower() for token in _tokens(headers, b"upgrade")] != ["websocket"]:
        return None
    if "upgrade" not in (token.lower() for token in _tokens(headers, b"connection")):
        return None
    key, versions = _values(headers, b"sec-websocket-key"), _values(headers, b"sec-websocket-version")
    if versions != [VERSION] or len(key) != 1 or not _is_key(key[0]):
        return None
    origins, hosts = _values(headers, b"origin"), _values(headers, b"host")
    if len(origins) > 1:
        return None
    offered = _tokens(headers, b"sec-websocket-protocol")
    return Handshake(
        path.decode(),
        key[0].decode(),
        query,
        tuple(KEY_PROTOCOL if name.startswith(KEY_PROTOCOL) else name for name in offered),
        origins[0].decode("latin-1") if origins else "",
        hosts[0].decode("latin-1"),
        tuple(field for field in headers if field[0] in CONTEXT),
        _credential(_values(headers, b"authorization"), offered),
    )


def query_of(shake: Handshake, cors_origins: Collection[str] = ()) -> list[tuple[str, str]]:
    """Parse the query of a handshake, and check its origin.

    Args:
        cors_origins: origins of pages that may open streams; the server's own host always may.

    Raises:
        OriginRefused: the page has another origin; browsers let any page open a WebSocket to any host.
        InputError, UnsupportedInput: the query or the subprotocols cannot be used.
    """
    check_origin(shake.origin, shake.host, cors_origins)
    if shake.protocols and SUBPROTOCOL not in shake.protocols:
        raise UnsupportedInput(f"none of the offered subprotocols is spoken: offer {SUBPROTOCOL}, or none")
    return parse_query(shake.query)


def acceptance(shake: Handshake, headers: Iterable[Field]) -> bytes:
    """Write the answer that makes the connection a WebSocket, with further headers."""
    fields = [
        *headers,
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", accept_key(shake.key).encode()),
        *_ids(shake),
    ]
    if SUBPROTOCOL in shake.protocols:
        fields.append((b"sec-websocket-protocol", SUBPROTOCOL.encode()))
    return response_bytes(101, lines_of(fields), b"")


def refusal(shake: Handshake, response: Response, headers: Iterable[Field]) -> bytes:
    """Write the answer that ends the connection: a problem, with further headers."""
    response.headers["Connection"] = "close"
    return messages.to_bytes(response, (*headers, *_ids(shake)))


def _ids(shake: Handshake) -> list[Field]:
    return [field for field in dict.fromkeys(shake.context) if field[0] == b"x-request-id"]


def _credential(headers: Sequence[bytes], offered: Sequence[str]) -> Credential | None:
    given = [of_bearer(value.decode("latin-1")) or "" for value in headers]
    given += [name.removeprefix(KEY_PROTOCOL) for name in offered if name.startswith(KEY_PROTOCOL)]
    return Credential(given[0]) if len(given) == 1 else None


def _is_key(text: bytes) -> bool:
    try:
        return len(text) == 24 and len(b64decode(text, validate=True)) == 16
    except binascii.Error:
        return False


def _values(headers: Sequence[Field], of: bytes) -> list[bytes]:
    return [value.strip() for name, value in headers if name == of]


def _tokens(headers: Sequence[Field], of: bytes) -> list[str]:
    return [
        token
        for value in _values(headers, of)
        for part in value.decode("latin-1").split(",")
        if (token := part.strip())
    ]
