"""Only a complete and valid opening handshake takes its connection."""

from __future__ import annotations

from typing import Any

import pytest

from service.api.streaming.handshakes import Handshake, acceptance, handshake, query_of
from service.errors import HetsynError, InputError, OriginRefused, UnsupportedInput
from tests.support.clients.live import KEY

HEADERS = [
    (b"host", b"x:8000"),
    (b"upgrade", b"WebSocket"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"sec-websocket-key", KEY.encode()),
    (b"sec-websocket-version", b"13"),
]
URL = b"/stream?encoding=events"


def without(name: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [field for field in HEADERS if field[0] != name] + list(more)


def test_a_valid_one_is_taken() -> None:
    more = [(b"sec-websocket-protocol", b"a, hetsyn.v1"), (b"x-request-id", b"7"), (b"origin", b"http://x:8000")]
    shake = handshake(b"GET", "1.1", URL, [*HEADERS, *more])
    assert shake is not None
    assert shake == Handshake(
        "/stream", KEY, b"encoding=events", ("a", "hetsyn.v1"), "http://x:8000", "x:8000", (more[1],), None
    )
    assert query_of(shake) == [("encoding", "events")]


@pytest.mark.parametrize(
    ("method", "version", "url", "headers"),
    [
        (b"POST", "1.1", URL, HEADERS),
        (b"GET", "1.0", URL, HEADERS),
        (b"GET", "1.1", b"/streamer", HEADERS),
        (b"GET", "1.1", b"/stream/", HEADERS),
        (b"GET", "1.1", b"http://x/stream", HEADERS),
        (b"GET", "1.1", b"/stream?" + b"a" * 9000, HEADERS),
        (b"GET", "1.1", URL, without(b"host")),
        (b"GET", "1.1", URL, [*HEADERS, (b"host", b"y")]),
        (b"GET", "1.1", URL, without(b"upgrade")),
        (b"GET", "1.1", URL, without(b"upgrade", (b"upgrade", b"h2c"))),
        (b"GET", "1.1", URL, without(b"upgrade", (b"upgrade", b"h2c, websocket"))),
        (b"GET", "1.1", URL, without(b"connection", (b"connection", b"close"))),
        (b"GET", "1.1", URL, without(b"sec-websocket-key")),
        (b"GET", "1.1", URL, without(b"sec-websocket-key", (b"sec-websocket-key", b"short"))),
        (b"GET", "1.1", URL, without(b"sec-websocket-key", (b"sec-websocket-key", b"*" * 24))),
        (b"GET", "1.1", URL, [*HEADERS, (b"sec-websocket-key", KEY.encode())]),
        (b"GET", "1.1", URL, without(b"sec-websocket-version", (b"sec-websocket-version", b"8"))),
        (b"GET", "1.1", URL, [*HEADERS, (b"content-length", b"0")]),
        (b"GET", "1.1", URL, [*HEADERS, (b"transfer-encoding", b"chunked")]),
        (b"GET", "1.1", URL, [*HEADERS, (b"expect", b"100-continue")]),
        (b"GET", "1.1", URL, [*HEADERS, (b"origin", b"http://x"), (b"origin", b"http://y")]),
        (b"GET", "1.1", URL, [*HEADERS, *[(b"x", b"")] * 128]),
    ],
)
def test_anything_else_stays_http(method: bytes, version: str, url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    assert handshake(method, version, url, headers) is None


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ([(b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"bearer  abc ")], "abc"),
        ([(b"authorization", b"Basic abc")], ""),
        ([(b"sec-websocket-protocol", b"hetsyn.v1, hetsyn.key.abc")], "abc"),
        ([(b"sec-websocket-protocol", b"hetsyn.key.abc"), (b"sec-websocket-protocol", b"hetsyn.v1")], "abc"),
        ([(b"authorization", b"Bearer abc"), (b"sec-websocket-protocol", b"hetsyn.v1, hetsyn.key.abc")], None),
        ([(b"authorization", b"Bearer abc"), (b"authorization", b"Bearer abc")], None),
    ],
)
def test_a_key_comes_as_a_header_or_as_a_subprotocol_which_is_never_shown(
    headers: list[tuple[bytes, bytes]], credential: str | None
) -> None:
    shake = handshake(b"GET", "1.1", URL, [*HEADERS, *headers])
    assert shake is not None
    assert shake.credential == credential
    assert "abc" not in repr(shake)
    assert "abc" not in str(acceptance(shake, []))


def test_a_key_alone_is_no_protocol() -> None:
    shake = handshake(b"GET", "1.1", URL, [*HEADERS, (b"sec-websocket-protocol", b"hetsyn.key.abc")])
    assert shake is not None
    with pytest.raises(UnsupportedInput, match=r"offer hetsyn\.v1"):
        query_of(shake)


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"origin": "http://elsewhere"}, OriginRefused, "another origin"),
        ({"origin": "null"}, OriginRefused, "another origin"),
        ({"origin": "http://["}, OriginRefused, "another origin"),
        ({"protocols": ("graphql-ws",)}, UnsupportedInput, "offer hetsyn.v1"),
        ({"query": b"a=1" + b"&a=1" * 32}, InputError, "more than 32 parameters"),
    ],
)
def test_a_valid_one_may_be_refused(change: dict[str, Any], kind: type[HetsynError], sentence: str) -> None:
    shake = Handshake("/stream", KEY, b"encoding=events", (), "", "x")._replace(**change)
    with pytest.raises(kind, match=sentence):
        query_of(shake)
