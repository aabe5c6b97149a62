"""Bodies that cost more than their length says: JSON full of errors, sound at odd rates, events in disorder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException

import numpy as np

from hetsyn_client.events import HEADER, MAGIC
from hetsyn_client.events import MEDIA_TYPE as EVENTS
from tests.long.hostile.case import Case, Figure, at_most
from tests.long.hostile.stage import AttackedServer, Stage
from tests.long.hostile.wire import JSON, Client, Prober
from tests.support.seed import SEED

LONG, SHORT = 262_000, 63_000  # bytes of a JSON body: below the limit, and decoded on the event loop
DISORDER_STALL_MS = 200
ATTEMPTS = 2  # the quietest counts: other programs only ever make a server slower


@dataclass(frozen=True)
class Cost:
    """What one request took.

    Attributes:
        status: of the response, or the name of the error.
        cpu_s: CPU time of the server.
        peak_mib: memory beside what the server held before.
        stall_ms: the longest answer to ``/health/live`` meanwhile.
    """

    status: str
    cpu_s: float
    peak_mib: float
    stall_ms: float


def cost(server: AttackedServer, body: bytes, content_type: str = JSON, **query: object) -> Cost:
    """Send one request, while another client asks whether the server lives."""
    client = Client(server.port, timeout_s=60.0)
    server.reset_peak()
    base_mib, base_s = server.rss_mib(), server.cpu_s()
    with Prober(server.port, server.process.pid) as prober:
        try:
            status = str(client.infer(body, content_type, **query).status)
        except (OSError, HTTPException) as error:
            status = type(error).__name__
        time.sleep(0.05)
    return Cost(status, server.cpu_s() - base_s, server.peak_mib() - base_mib, prober.longest_ms)


def filled(before: str, element: str, after: str, length: int) -> bytes:
    """A JSON body of about so many bytes, full of one element."""
    count = (length - len(before) - len(after)) // (len(element) + 1)
    return (before + ",".join([element] * count) + after).encode()


DENSE, END = '{"input":{"kind":"dense","spikes":[', "]}}"
BOMBS: Mapping[str, Callable[[int], bytes]] = {
    "rows-of-strings": lambda length: filled(DENSE + "[", '""', "]" + END, length),
    "rows-of-lists": lambda length: filled(DENSE + "[", "[]", "]" + END, length),
    "rows-that-are-numbers": lambda length: filled(DENSE, "1", END, length),
    "empty-rows": lambda length: filled(DENSE, "[]", END, length),
    "times-of-strings": lambda length: filled(
        '{"input":{"kind":"events","steps":1,"units":[],"times":[', '""', END, length
    ),
    "units-of-nulls": lambda length: filled(
        '{"input":{"kind":"events","steps":1,"times":[],"units":[', "null", END, length
    ),
}
OTHERS: tuple[Callable[[int], bytes], ...] = (
    lambda length: b"{" + b",".join(b'"%05x":0' % i for i in range(length // 10)) + b"}",
    lambda length: b'{"input":' + b"[" * (length - 10),
    lambda length: b'{"input":{"kind":"events","steps":' + b"9" * (length - 100) + b',"units":[],"times":[]}}',
    lambda length: b'{"input":{"kind":"events","steps":1,"units":[0],"times":[' + b"9" * (length - 100) + b"]}}",
    lambda length: b'{"seq":1e' + b"9" * (length - 100) + b"}",
    lambda length: b'{"session":"' + b"\\u0000" * ((length - 100) // 6) + b'"}',
    lambda length: b'{"input":{"kind":"' + b"x" * (length - 100) + b'"}}',
)


def bomb(name: str) -> Callable[[Stage], Mapping[str, Figure]]:
    """The attack with one kind of JSON, long and short."""

    def attack(stage: Stage) -> Mapping[str, Figure]:
        server = stage.server()
        large = cost(server, BOMBS[name](LONG))
        server.await_ready()
        small = min((cost(server, BOMBS[name](SHORT)) for _ in range(ATTEMPTS)), key=lambda each: each.cpu_s)
        return {
            "cpu_s": large.cpu_s, "peak_mib": large.peak_mib, "stall_ms": large.stall_ms, "status": large.status,
            "short_cpu_ms": 1e3 * small.cpu_s,
        }  # fmt: skip

    return attack


def attack_others(stage: Stage) -> Mapping[str, Figure]:
    server = stage.server()
    costs = [cost(server, make(LONG)) for make in OTHERS]
    return {
        "cpu_s": max(each.cpu_s for each in costs),
        "peak_mib": max(each.peak_mib for each in costs),
        "stall_ms": max(each.stall_ms for each in costs),
        "statuses": ",".join(each.status for each in costs),
    }


def attack_low_rate(stage: Stage) -> Mapping[str, Figure]:
    server = stage.server()
    samples = np.random.default_rng(SEED).integers(-3_000, 3_000, 200_000).astype("<i2").tobytes()
    found = cost(server, samples, "audio/pcm;encoding=pcm_s16le;rate=1000", end="true")
    return {"peak_mib": found.peak_mib, "stall_ms": found.stall_ms, "status": found.status}


def attack_disorder(stage: Stage) -> Mapping[str, Figure]:
    server = stage.server()
    random, count, steps = np.random.default_rng(SEED), 4_000_000, 20_000
    times, units = random.integers(0, steps, count).astype("<u2"), random.integers(0, 960, count).astype("<u2")
    body = HEADER.pack(MAGIC, steps, count) + times.tobytes() + units.tobytes()
    found = cost(server, body, EVENTS, end="true")
    for _ in range(ATTEMPTS - 1):
        if found.stall_ms > DISORDER_STALL_MS:
            found = min(found, cost(server, body, EVENTS, end="true"), key=lambda each: each.stall_ms)
    return {"stall_ms": found.stall_ms, "peak_mib": found.peak_mib, "status": found.status}


BOUNDS = {"cpu_s": at_most(2), "peak_mib": at_most(256), "stall_ms": at_most(1_000)}
FIRST: Mapping[str, Mapping[str, Figure]] = {
    "rows-of-strings": {"peak_mib": 3_441, "stall_ms": 11_700, "status": "422", "short_cpu_ms": 190},
    "rows-of-lists": {"peak_mib": 3_740, "stall_ms": 18_200, "status": "422"},
    "rows-that-are-numbers": {"peak_mib": 2_215, "stall_ms": 3_000, "status": "422"},
    "times-of-strings": {"peak_mib": 1_473, "stall_ms": 4_500, "status": "422"},
}
CASES = (
    *(
        Case(
            f"json-{name}",
            f"The longest JSON body ({name.replace('-', ' ')}) makes an error for each element.",
            bomb(name),
            {**BOUNDS, "short_cpu_ms": at_most(60)},
            FIRST.get(name, {}),
        )
        for name in BOMBS
    ),
    Case(
        "json-others",
        "Other JSON, as long as it may be: many fields, deep nesting, long numbers and texts.",
        attack_others,
        BOUNDS,
    ),
    Case(
        "sound-low-rate",
        "Sound at 1,000 Hz takes hundreds of times its bytes while it is resampled.",
        attack_low_rate,
        {"peak_mib": at_most(160), "stall_ms": at_most(1_000)},
        {"peak_mib": 327},
    ),
    Case(
        "events-in-disorder",
        "Four million packed events in disorder are sorted on the event loop.",
        attack_disorder,
        {"stall_ms": at_most(DISORDER_STALL_MS)},
        {"stall_ms": 400},
    ),
)
