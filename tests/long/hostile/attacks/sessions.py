"""What becomes of sessions: forgotten ones, a full table, probabilities of long ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np

from hetsyn_client.events import MEDIA_TYPE as EVENTS
from hetsyn_client.events import pack_events
from tests.long.hostile.case import Case, Figure, at_most, exactly
from tests.long.hostile.stage import AttackedServer, Stage
from tests.long.hostile.wire import Client, Raw, events, request
from tests.support.seed import SEED

FORGOTTEN = 10_050  # sessions that end, or are dropped: more than a server remembered
TABLE = 200
CONNECTIONS = 64  # of a client that opens sessions
IDLE_S, SWEEP_S = 1.0, 0.5
DRIFT_STEPS = 20_000


def open_many(server: AttackedServer, name: str, count: int, client: int = 1, *, is_last: bool = False) -> int:
    """Open sessions by requests on many connections. The number of those with status 200.

    Args:
        server: where they are opened.
        name: of the sessions, before their number.
        client: last number of the client's address.
        is_last: the only chunk of each session is its last.
    """
    answered = 0
    end = "&end=true" if is_last else ""
    with ExitStack() as opened:
        source = f"127.0.0.{client}"
        connections = [
            opened.enter_context(Raw(server.port, timeout_s=60.0, source=source))
            for _ in range(min(count, CONNECTIONS))
        ]
        for begin in range(0, count, CONNECTIONS):
            asked = list(zip(connections, range(begin, count), strict=False))
            for connection, n in asked:
                connection.send(request("POST", f"/infer?session={name}-{n}&seq=0{end}", events(1)))
            for connection, _ in asked:
                answered += _answer(connection).startswith(b"HTTP/1.1 200")
    return answered


def _answer(connection: Raw) -> bytes:
    """The next response, as a whole."""
    received = connection.socket.recv(1 << 16)
    while (head := received.partition(b"\r\n\r\n"))[1] == b"" or len(head[2]) < _length(head[0]):
        part = connection.socket.recv(1 << 16)
        if not part:
            break
        received += part
    return received


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])


def attack_ended(stage: Stage) -> Mapping[str, Figure]:
    server = stage.server()
    client = Client(server.port)
    client.chunk("first", seq=0)
    client.chunk("first", seq=1, end="true")
    began_s = time.monotonic()
    ended = open_many(server, "ended", FORGOTTEN, is_last=True)
    return {
        "ended": ended,
        "took_s": time.monotonic() - began_s,
        "last_chunk_again": client.outcome("first", seq=1, end="true"),
        "unnumbered": client.outcome("first"),
    }


def attack_dropped(stage: Stage) -> Mapping[str, Figure]:
    options = (f"--session-idle-s={IDLE_S}", f"--set=sweep_interval_s={SWEEP_S}")
    server = stage.server(*options)
    client = Client(server.port)
    client.chunk("first", seq=0)
    opened = 0
    for part in range(6):  # the table has room for 10,000
        opened += open_many(server, f"dropped-{part}", FORGOTTEN // 5, 10 + part)
    deadline_s = time.monotonic() + 20.0
    while time.monotonic() < deadline_s and server.metric("hetsyn_sessions_held"):
        time.sleep(0.2)
    return {"opened": opened, "unnumbered": client.outcome("first"), "of_the_last": client.outcome("dropped-5-2000")}


def attack_full(stage: Stage) -> Mapping[str, Figure]:
    server = stage.server(f"--max-sessions={TABLE}")
    client = Client(server.port)
    opened = sum(open_many(server, f"idle-{part}", TABLE // 2, 10 + part) for part in range(2))
    one_shot = client.chunk(None, end="true")
    named = client.chunk("one-shot", seq=0, end="true")
    more = client.chunk("more", seq=0)
    return {
        "opened": opened,
        "one_shot": str(one_shot.status),
        "one_shot_named": str(named.status),
        "open_one": client.outcome("idle-1-1"),
        "new_one": str(more.status),
        "retry_after_s": more.headers.get("retry-after", ""),
        "elsewhere": Client(server.port, source="127.0.0.2").outcome("elsewhere", seq=0),
    }


def attack_drift(stage: Stage) -> Mapping[str, Figure]:
    """Probabilities of a long session, against those of its chunks one by one."""
    server = stage.server()
    client = Client(server.port)
    random, count = np.random.default_rng(SEED), 3_000
    times, units = np.sort(random.integers(0, DRIFT_STEPS, count)), random.integers(0, 960, count)
    body = pack_events(DRIFT_STEPS, times, units)
    chunks = 50 if stage.is_quick else 250
    answer: dict[str, object] = {}
    for seq in range(chunks):
        answer = client.infer(body, EVENTS, session="long", seq=seq).json()
    probabilities = answer["probabilities"]
    assert isinstance(probabilities, list)
    return {"steps": chunks * DRIFT_STEPS, "sum_error": abs(sum(probabilities) - 1.0)}


CASES = (
    Case(
        "sessions-ended",
        "After 10,000 others have ended, an ended session is forgotten: its last reply is gone and its id begins anew.",
        attack_ended,
        {"last_chunk_again": exactly("200"), "unnumbered": exactly("409")},
        {"last_chunk_again": "404", "unnumbered": "200"},
    ),
    Case(
        "sessions-dropped",
        "After 10,000 others were dropped, a chunk of a dropped session silently begins another.",
        attack_dropped,
        {"unnumbered": exactly("404"), "of_the_last": exactly("404")},
        {"unnumbered": "200", "of_the_last": "410"},
    ),
    Case(
        "sessions-full",
        "Idle sessions that fill the table refuse requests that need no room in it.",
        attack_full,
        {"one_shot": exactly("200"), "one_shot_named": exactly("200"), "open_one": exactly("200")},
        {"one_shot": "503", "open_one": "200", "new_one": "503", "retry_after_s": "5"},
    ),
    Case(
        "sessions-drift",
        "The probabilities of a long session do not add up to 1.",
        attack_drift,
        {"sum_error": at_most(1e-4)},
        {"steps": 1_000_000, "sum_error": 0.0096},
    ),
)
