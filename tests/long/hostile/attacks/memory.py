"""Sessions that hold more memory than the requests that opened them, in a server and in its store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hetsyn_client.events import MEDIA_TYPE as EVENTS
from tests.long.hostile.case import Case, Figure, Skipped, at_most, exactly
from tests.long.hostile.stage import MEBIBYTE, Stage
from tests.long.hostile.wire import JSON, SESSION_RECORD, Client, Prober, Raw, events, request, statuses
from tests.support.servers.server_process import free_port
from tests.support.stores.valkey import BINARY, MISSING, ValkeyServer

SESSIONS, QUICK_SESSIONS = 700, 100
LONGEST_S = 25.0
BUDGET_MIB = 32
BUDGET_OPTION = "--max-session-bytes"
VALKEY_MIB = 64
ODD_RATES_HZ = (
    191_999,
    44_101,
    44_100,
)  # without a large divisor in common with the model's; a server may refuse the first two
SILENT_SAMPLE = b"\0\0"


@dataclass(frozen=True)
class Opening:
    """A request that opens a session.

    Attributes:
        query: beside the session.
        sessions: the most that are opened, if fewer than usual.
    """

    body: bytes
    content_type: str = EVENTS
    query: Mapping[str, str] = field(default_factory=dict)
    sessions: int = SESSIONS


OPENINGS: Mapping[str, Opening] = {
    "bank": Opening(events(1)),
    "rate-191999": Opening(SILENT_SAMPLE, "audio/pcm;encoding=pcm_s16le;rate=191999"),
    "rate-44101": Opening(SILENT_SAMPLE, "audio/pcm;encoding=pcm_s16le;rate=44101"),
    "rate-8000": Opening(SILENT_SAMPLE, "audio/pcm;encoding=pcm_s16le;rate=8000"),
    "trace": Opening(events(20_000), query={"model": "pattern-generation"}, sessions=150),
    "trace-ended": Opening(events(20_000), query={"model": "pattern-generation", "end": "true"}, sessions=150),
}


@dataclass(frozen=True)
class Opened:
    """What opened sessions hold.

    Attributes:
        count: sessions that were opened.
        rss_kib: memory of the process for each.
        state_bytes: what the server says of one.
    """

    count: int
    rss_kib: float
    state_bytes: int


def open_sessions(stage: Stage, opening: Opening, *options: str) -> Opened:
    """Open sessions, one after another, until the server refuses or the time is over."""
    server = stage.server(*options)
    client = Client(server.port)
    for number in range(20):  # what a server learns once does not count
        client.infer(
            opening.body, opening.content_type, session=f"warm-{number}", end="true", **opening.query, begin="true"
        )
    base_mib, deadline_s = server.rss_mib(), time.monotonic() + LONGEST_S
    count = 0
    most = min(opening.sessions // 3, QUICK_SESSIONS) if stage.is_quick else opening.sessions
    while count < most:
        answer = client.infer(
            opening.body, opening.content_type, session=f"held-{count}", **opening.query, begin="true"
        )
        if answer.status != 200 or time.monotonic() > deadline_s:
            break
        count += 1
    shown = client.call("GET", "/sessions/held-0")
    state_bytes = int(shown.json().get("state_bytes", 0)) if shown.status == 200 else 0
    return Opened(count, 1024 * (server.rss_mib() - base_mib) / max(1, count), state_bytes)


def attack_sessions(stage: Stage) -> Mapping[str, Figure]:
    figures: dict[str, Figure] = {}
    hidden_kib = 0.0
    for name, opening in OPENINGS.items():
        if name == "trace-ended" or (stage.is_quick and name == "rate-8000"):
            continue
        opened = open_sessions(stage, opening)
        figures[f"{name}_kib"] = opened.rss_kib
        figures[f"{name}_state_bytes"] = opened.state_bytes
        hidden_kib = max(hidden_kib, opened.rss_kib - opened.state_bytes / 1024)
    figures["most_hidden_kib"] = hidden_kib
    return figures


def attack_budget(stage: Stage) -> Mapping[str, Figure]:
    """A server that may hold few bytes of sessions: how much does it hold? Do those that were open go on?

    Sessions are opened, ended and imported: each way has to count.
    """
    options = (f"{BUDGET_OPTION}={BUDGET_MIB << 20}",) if stage.has_option(BUDGET_OPTION) else ()
    figures: dict[str, Figure] = {"has_a_budget": int(bool(options))}
    server = stage.server(*options)
    client = Client(server.port)
    client.chunk("good", seq=0)
    client.chunk("large", model="shd-size", begin="true")
    record = client.call("GET", "/sessions/large/state").body
    base_mib, count = server.rss_mib(), 60 if stage.is_quick else 100
    for name in ("rate-191999", "trace", "trace-ended"):
        opening = OPENINGS[name]
        statuses = [
            client.infer(
                opening.body, opening.content_type, session=f"{name}-{number}", **opening.query, begin="true"
            ).status
            for number in range(count)
        ]
        figures[f"{name}_taken"] = statuses.count(200)
    imports = [
        client.call("PUT", f"/sessions/put-{number}/state", record, {"Content-Type": SESSION_RECORD}).status
        for number in range(count)
    ]
    return {
        **figures,
        "imports_taken": imports.count(201),
        "held_mib": server.rss_mib() - base_mib,
        "open_session_status": client.outcome("good", seq=1),
        "one_shot_status": client.outcome(None, end="true"),
    }


def attack_valkey(stage: Stage) -> Mapping[str, Figure]:
    if BINARY is None:
        raise Skipped(MISSING)
    folder = Path(stage.folder) / "valkey"
    folder.mkdir()
    valkey = ValkeyServer(folder, "--appendfsync", "no", "--maxmemory", f"{VALKEY_MIB}mb", port=free_port())
    stage.finally_call(lambda: valkey.__exit__(None, None, None))
    valkey.start()
    server = stage.server("--store", valkey.url)
    client = Client(server.port)
    client.chunk("good", seq=0)
    statuses = [
        client.infer(
            SILENT_SAMPLE, f"audio/pcm;encoding=pcm_s16le;rate={rate}", session=f"fill-{rate}-{number}", begin="true"
        ).status
        for rate in ODD_RATES_HZ
        for number in range(200)
    ]
    stored = valkey.command("INFO", "memory").decode()
    used = next(line for line in stored.splitlines() if line.startswith("used_memory:"))
    return {
        "sessions_taken": statuses.count(200),
        "refused_for_lack_of_room": statuses.count(503),
        "valkey_mib": int(used.partition(":")[2]) / MEBIBYTE,
        "good_status": client.outcome("good", seq=1),
    }


def attack_ends(stage: Stage) -> Mapping[str, Figure]:
    """Sessions whose resamplers hold seconds of sound end at once."""
    server = stage.server()
    client, count = Client(server.port), 64
    stalls, rate = [], next(rate for rate in ODD_RATES_HZ if _takes(client, rate))
    for attempt in range(3):
        for number in range(count):
            client.infer(
                b"\0\1", f"audio/pcm;encoding=pcm_s16le;rate={rate}", session=f"end-{attempt}-{number}", begin="true"
            )
        for _ in range(30):  # teaches the server that a step is quick
            client.infer(
                b"\0\1" * 800, "audio/pcm;encoding=pcm_s16le;rate=8000", session=f"normal-{attempt}", begin="true"
            )
        raws = [Raw(server.port, timeout_s=30.0) for _ in range(count)]
        with Prober(server.port, server.process.pid) as prober:
            for number, raw in enumerate(raws):
                body = f'{{"session": "end-{attempt}-{number}", "end": true}}'.encode()
                raw.send(request("POST", "/infer", body, content_type=JSON))
            ended = sum(statuses(raw.receive(30.0, until=b"\r\n\r\n")) == ["200"] for raw in raws)
        for raw in raws:
            raw.socket.close()
        stalls.append(prober.longest_ms)
    return {"stall_ms": min(stalls), "ended": ended, "rate_hz": rate}


def _takes(client: Client, rate: int) -> bool:
    """Whether a server takes sound at a rate."""
    answer = client.infer(
        *(SILENT_SAMPLE, f"audio/pcm;encoding=pcm_s16le;rate={rate}"),
        session=f"takes-{rate}",
        begin="true",
        end="true",
    )
    return answer.status == 200


CASES = (
    Case(
        "memory-sessions",
        "A request of 2 to 12 bytes opens a session that holds up to 1.7 MB, of which the server knows little.",
        attack_sessions,
        {
            "rate-191999_kib": at_most(100),
            "rate-44101_kib": at_most(100),
            "trace_kib": at_most(700),
            "most_hidden_kib": at_most(256),
        },
        {
            "bank_kib": 14,
            "bank_state_bytes": 10_112,
            "rate-191999_kib": 740,
            "rate-191999_state_bytes": 778_112,
            "rate-44101_kib": 173,
            "rate-44101_state_bytes": 186_520,
            "trace_kib": 1_707,
            "trace_state_bytes": 6_436,
        },
    ),
    Case(
        "memory-budget",
        "Sessions are bounded by number alone: nothing bounds the bytes of open, ended and imported ones.",
        attack_budget,
        {
            "has_a_budget": exactly(1),
            "held_mib": at_most(3 * BUDGET_MIB),
            "open_session_status": exactly("200"),
            "one_shot_status": exactly("200"),
        },
    ),
    Case(
        "memory-valkey",
        "Eighty requests of 2 bytes fill a Valkey of 64 MB.",
        attack_valkey,
        {"refused_for_lack_of_room": exactly(0), "good_status": exactly("200")},
        {"sessions_taken": 82},
    ),
    Case(
        "memory-ends",
        "Sixty-four sessions at 191,999 Hz that end at once stop the event loop.",
        attack_ends,
        {"stall_ms": at_most(120), "ended": exactly(64)},
        {"stall_ms": 240},
    ),
)
