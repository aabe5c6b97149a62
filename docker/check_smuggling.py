"""Tries to pass a request by the proxy within the body of another; part of docker/check.

    python docker/check_smuggling.py http://127.0.0.1:8000

Each request offers another protocol, or none, and its body is a request that deletes a session. Proxy and server must
agree where the body ends: no request has two answers, and the session stays. The counters of a replica must not be
readable through the proxy. The proxy must not take HTTP/2.
"""

from __future__ import annotations

import itertools
import socket
import sys
import time
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
from streaming_threads import CheckFailed

from hetsyn_client.events import MEDIA_TYPE, pack_events

VICTIM = "not-smuggled"
SMUGGLED = f"DELETE /sessions/{VICTIM} HTTP/1.1\r\nHost: x\r\nX-Request-ID: smuggled\r\n\r\n".encode()
LAST = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-ID: last\r\nConnection: close\r\n\r\n"
LINES = ("GET /health/live", "PUT /nowhere", "DELETE /sessions/nobody", "POST /infer?end=true")
OFFERS = (
    "",
    "Connection: upgrade\r\nUpgrade: foo\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
)
STREAMS = ("/stream", "/streams")
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # with no settings
METRICS = ("/metrics", "/%6detrics", "/%6D%65trics", "/metrics?a=b", "http://x/metrics", "/metrics/", "//metrics")
PAUSE_S = 0.05  # so that what follows is a segment of its own
TIMEOUT_S = 1.0


def answers(url: str, parts: list[bytes]) -> bytes:
    """Read all that comes back on one connection."""
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), address.port or 80), TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
            time.sleep(PAUSE_S)
        received = b""
        # HAProxy holds back what follows a request that offered a protocol and was answered before its body
        with suppress(TimeoutError):
            while data := connection.recv(65_536):
                received += data
    return received


def check_bodies(url: str) -> None:
    """Check that no body is taken for a request."""
    count = 0
    for line, offer, is_chunked, cut in itertools.product(LINES, OFFERS, (False, True), (None, 0, 20)):
        framing, body = f"Content-Length: {len(SMUGGLED)}", SMUGGLED
        if is_chunked:
            framing, body = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
        fields = f"Host: x\r\nX-Request-ID: first\r\nContent-Type: {MEDIA_TYPE}\r\n{offer}{framing}"
        head = f"{line} HTTP/1.1\r\n{fields}\r\n\r\n"
        parts = [head.encode() + body + LAST] if cut is None else [head.encode() + body[:cut], body[cut:], LAST]
        received = answers(url, parts).lower()
        ids = [part.partition(b"\r\n")[0] for part in received.split(b"x-request-id: ")[1:]]
        if ids not in ([b"first"], [b"first", b"last"]) or received.count(b"http/1.1 ") != len(ids):
            raise CheckFailed(f"{parts} got answers to {ids}: {received!r}")
        if httpx.get(f"{url}/sessions/{VICTIM}", trust_env=False).status_code != 200:
            raise CheckFailed(f"{parts} deleted a session")
        count += 1
    print(f"smuggling: {count} requests with requests as bodies, none of which was obeyed")


def check_streams(url: str) -> None:
    """Check that nothing after the handshake of a stream is taken for a request."""
    bodies = {
        "": SMUGGLED,
        f"Content-Length: {len(SMUGGLED)}\r\n": SMUGGLED,
        "Transfer-Encoding: chunked\r\n": b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
    }
    count = 0
    for path, (framing, body), is_cut in itertools.product(STREAMS, bodies.items(), (False, True)):
        head = f"GET {path}?encoding=events HTTP/1.1\r\nHost: x\r\nX-Request-ID: first\r\n{OFFERS[-1]}{framing}\r\n"
        received = answers(url, [head.encode(), body] if is_cut else [head.encode() + body])
        if received.startswith(b"HTTP/1.1 101 ") == bool(framing):
            raise CheckFailed(f"{head!r} got {received!r}")
        if b"smuggled" in received or httpx.get(f"{url}/sessions/{VICTIM}", trust_env=False).status_code != 200:
            raise CheckFailed(f"{head!r} was obeyed: {received!r}")
        count += 1
    print(f"streams: {count} handshakes with requests behind them, none of which was obeyed")


def check_metrics(url: str) -> None:
    """Check that the counters of one replica cannot be read through the proxy."""
    for path in METRICS:
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        received = answers(url, [request.encode()])
        if not received.startswith(b"HTTP/1.1 404 "):
            raise CheckFailed(f"{path} got {received[:200]!r}")
    print(f"metrics: not through the proxy, in {len(METRICS)} spellings")


def check_http2(url: str) -> None:
    """Check that a connection carries one request at a time."""
    received = answers(url, [HTTP2])
    if not received.startswith(b"HTTP/1.1 400 "):
        raise CheckFailed(f"HTTP/2 got {received[:200]!r}")
    print("HTTP/2: not through the proxy")


def main(url: str) -> None:
    chunk = pack_events(5, [], [])
    httpx.post(
        f"{url}/infer?session={VICTIM}&begin=true", content=chunk, headers={"Content-Type": MEDIA_TYPE}, trust_env=False
    ).raise_for_status()
    check_bodies(url)
    check_streams(url)
    check_metrics(url)
    check_http2(url)
    httpx.delete(f"{url}/sessions/{VICTIM}", trust_env=False).raise_for_status()


if __name__ == "__main__":
    try:
        main(sys.argv[1].rstrip("/"))
    except CheckFailed as failure:
        sys.exit(f"failed: {failure}")
