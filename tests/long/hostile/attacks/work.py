"""Work for clients that have gone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from http.client import HTTPException

from tests.long.hostile.case import Case, Figure, at_most, exactly
from tests.long.hostile.stage import SLOW, Stage
from tests.long.hostile.wire import Client, Raw, events, request

ABANDONED = 1_023
STEPS = 20_000
GOOD = 20
PATIENCE_S = 5.0  # of a good client for one chunk
ELSEWHERE = "127.0.0.9"  # its address
SETTLED_S = 10.0
DRAIN_S = 12.0


def attack_abandoned(stage: Stage) -> Mapping[str, Figure]:
    server = stage.server(environment=SLOW)
    Client(server.port).chunk("warm", 10, model="shd-size", begin="true")
    Client(server.port).chunk("good", 1, begin="true")
    for number in range(ABANDONED):
        with Raw(server.port) as connection:
            connection.send(
                request("POST", f"/infer?session=gone-{number}&seq=0&model=shd-size&end=true", events(STEPS))
            )
        if number % 100 == 0:
            time.sleep(0.02)
    base_s, began_s = server.cpu_s(), time.monotonic()
    waits_s, failed = [], 0
    for _ in range(GOOD):
        if failed > 2:  # the others would wait in vain too
            failed += 1
            continue
        asked_s = time.monotonic()
        try:
            failed += Client(server.port, timeout_s=PATIENCE_S, source=ELSEWHERE).chunk("good", 1).status != 200
        except (OSError, HTTPException):
            failed += 1
        waits_s.append(time.monotonic() - asked_s)
    while (in_flight := int(server.metric("hetsyn_requests_in_flight"))) and time.monotonic() - began_s < SETTLED_S:
        time.sleep(0.05)
    settled_s, cpu_s = time.monotonic() - began_s, server.cpu_s() - base_s
    return {
        "good_failed": failed,
        "good_median_ms": 1e3 * statistics.median(waits_s),
        "good_longest_ms": 1e3 * max(waits_s),
        "in_flight_after_10_s": in_flight,
        "settled_s": settled_s,
        "wasted_cpu_s": cpu_s,
        "sigterm_s": server.end(DRAIN_S),
    }


def attack_present(stage: Stage) -> Mapping[str, Figure]:
    """The same, and the clients stay: good ones get an answer, and the server ends within a bounded time."""
    options = ("--finish-s=3",) if stage.is_quick and stage.has_option("--finish-s") else ()
    server = stage.server(*options, environment=SLOW)
    Client(server.port).chunk("warm", 10, model="shd-size", begin="true")
    Client(server.port).chunk("good", 1, begin="true")
    connections = []
    for number in range(ABANDONED // 4):
        connections.append(Raw(server.port))
        connections[-1].send(
            request("POST", f"/infer?session=stays-{number}&seq=0&model=shd-size&end=true", events(STEPS))
        )
    failed, waits_s = 0, []
    for _ in range(GOOD // 2):
        asked_s = time.monotonic()
        try:
            answer = Client(server.port, timeout_s=PATIENCE_S, source=ELSEWHERE).chunk("good", 1)
            failed += answer.status not in (200, 503)
        except (OSError, HTTPException):
            failed += 1
        waits_s.append(time.monotonic() - asked_s)
    ended_s = server.end(45.0 if not stage.is_quick else 30.0)
    for connection in connections:
        connection.socket.close()
    return {"good_without_answer": failed, "good_longest_ms": 1e3 * max(waits_s), "sigterm_s": ended_s}


CASES = (
    Case(
        "work-abandoned",
        "Chunks whose clients have gone are computed, all of them, before anybody else's, and SIGTERM waits for them.",
        attack_abandoned,
        {
            "good_failed": exactly(0),
            "good_median_ms": at_most(500),
            "in_flight_after_10_s": exactly(0),
            "sigterm_s": at_most(10),
        },
        {"good_failed": 20, "in_flight_after_10_s": 978, "sigterm_s": DRAIN_S},
    ),
    Case(
        "work-present",
        "Two hundred and fifty expensive chunks whose clients wait shut out a cheap one, and hold up SIGTERM.",
        attack_present,
        {"good_without_answer": exactly(0), "sigterm_s": at_most(25)},
    ),
)
