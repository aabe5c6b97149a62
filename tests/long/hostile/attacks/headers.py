"""Heads of requests without an end: one header, many headers, a URL, content types that a cache keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tests.long.hostile.case import Case, Figure, at_most
from tests.long.hostile.stage import MEBIBYTE, AttackedServer, Stage
from tests.long.hostile.wire import Prober, Raw

LONGEST_S = 20.0
QUICK_S = 5.0
PIECE = b"a" * MEBIBYTE
CONTENT_TYPES = 256


def _sent(stage: Stage, start: bytes, piece: Callable[[int], bytes], pieces: int) -> Mapping[str, Figure]:
    """Send pieces of a head until the server closes, the time is over, or there are no more."""
    server = stage.server()
    base_mib = server.rss_mib()
    deadline_s = time.monotonic() + (QUICK_S if stage.is_quick else LONGEST_S)
    taken = number = 0
    with Prober(server.port, server.process.pid) as prober, Raw(server.port, timeout_s=30.0) as connection:
        taken += connection.send(start)
        while number < pieces and time.monotonic() < deadline_s and not connection.is_closed():
            connection.socket.settimeout(30.0)
            taken += connection.send(piece(number))
            number += 1
        time.sleep(0.3)
        held_mib = server.peak_mib() - base_mib
    return {"taken_mib": taken / MEBIBYTE, "stall_ms": prober.longest_ms, "held_mib": held_mib}


def attack_endless(stage: Stage) -> Mapping[str, Figure]:
    return _sent(stage, b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: ", lambda _: PIECE, 100)


def attack_many(stage: Stage) -> Mapping[str, Figure]:
    start = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
    return _sent(stage, start, lambda _: b"".join(b"a%d: b\r\n" % i for i in range(100_000)), 30)


def attack_url(stage: Stage) -> Mapping[str, Figure]:
    return _sent(stage, b"GET /", lambda _: PIECE, 50)


def attack_content_types(stage: Stage) -> Mapping[str, Figure]:
    server = stage.server()
    base_mib = server.rss_mib()
    deadline_s = time.monotonic() + (QUICK_S if stage.is_quick else LONGEST_S)
    for number in range(CONTENT_TYPES):
        _send_content_type(server, b"audio/pcm;encoding=pcm_s16le;rate=8000;x%d=" % number + PIECE)
        # what passes the limit of the headers, and fills a cache all the same
        _send_content_type(server, b"audio/pcm;encoding=pcm_s16le;rate=8000;x%d=" % number + PIECE[:60_000])
        if time.monotonic() > deadline_s:
            break
    time.sleep(0.3)
    return {"kept_mib": server.rss_mib() - base_mib, "content_types": number + 1}


def _send_content_type(server: AttackedServer, content_type: bytes) -> None:
    head = b"POST /infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: "
    with Raw(server.port) as connection:
        connection.send(head + content_type + b"\r\nContent-Length: 2\r\n\r\nab")
        connection.receive(quiet_s=2.0)


BOUNDS = {"taken_mib": at_most(8), "stall_ms": at_most(1_000), "held_mib": at_most(16)}
CASES = (
    Case(
        "headers-endless",
        "One header without an end is copied anew with every read.",
        attack_endless,
        BOUNDS,
        {"taken_mib": 95, "stall_ms": 5_300, "held_mib": 132},
    ),
    Case(
        "headers-many",
        "Three million small headers are kept until the request is complete.",
        attack_many,
        BOUNDS,
        {"taken_mib": 31, "held_mib": 164},
    ),
    Case("headers-url", "A URL of 50 MiB is taken.", attack_url, BOUNDS, {"taken_mib": 50}),
    Case(
        "headers-content-types",
        "A cache keeps content types of any length for good.",
        attack_content_types,
        {"kept_mib": at_most(16)},
        {"kept_mib": 514, "content_types": 256},
    ),
)
