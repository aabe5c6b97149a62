"""Through the proxy: hidden requests, answers of others, paths behind another spelling, and requests sent again."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from http.client import HTTPException

from hetsyn_client.events import MEDIA_TYPE as EVENTS
from tests.long.hostile.attacks.framing import BETWEEN_S, MARK, hidden, split
from tests.long.hostile.case import Case, Figure, at_most, exactly
from tests.long.hostile.proxy import start_proxy
from tests.long.hostile.stage import SLOW, Stage
from tests.long.hostile.wire import Client, Raw, events, request

BYSTANDERS = 4
SPELLINGS = ("/metrics", "/%6detrics", "/metric%73", "/%6D%65trics", "//metrics", "/./metrics", "/metrics?x")
SLOW_STEPS = 20_000
CHUNKS = 8


def attack_smuggling(stage: Stage) -> Mapping[str, Figure]:
    server = stage.server()
    port, client = start_proxy(stage, [server.port]), Client(server.port)
    hidden_answers = deleted = 0
    starts = (
        ("GET", "/health/live", "text/plain"),
        ("PUT", "/nothing", "text/plain"),
        ("POST", "/infer?session=attacker&seq=0", EVENTS),
    )
    for number, (method, path, content_type) in enumerate(starts):
        victim = f"victim-{number}"
        client.chunk(victim, begin="true")
        with Raw(port, timeout_s=10.0) as connection:
            body = hidden(f"/sessions/{victim}")
            received = split(connection, method, path, content_type, "Upgrade: foo", body)
        hidden_answers += MARK.encode() in received
        deleted += client.call("GET", f"/sessions/{victim}").status != 200
    return {"hidden_answers": hidden_answers, "deleted": deleted}


def attack_answers_of_others(stage: Stage) -> Mapping[str, Figure]:
    """A first request that waits hides a second that is slow: does anybody else get the answer to the second?"""
    server = stage.server(environment=SLOW)
    port, client = start_proxy(stage, [server.port]), Client(server.port)
    wrong: list[str] = []
    asked = [0]
    trials = 1 if stage.is_quick else 3

    def ask(index: int, stopped: threading.Event) -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            name = f"bystander-{index}-{number}"
            try:
                bystander = Client(port, timeout_s=30.0)
                for path, expected in (("/health/live", b"live"), (f"/models/{name}", name.encode())):
                    asked[0] += 1
                    if expected not in (answer := bystander.call("GET", path)).body:
                        wrong.append(f"{path}: {answer.status}")
            except (OSError, HTTPException) as error:
                wrong.append(type(error).__name__)
            stopped.wait(0.02)

    for trial in range(trials):
        client.chunk("busy", model="shd-size", begin="true")
        busy = threading.Thread(target=lambda: Client(server.port).chunk("busy", SLOW_STEPS, model="shd-size"))
        busy.start()
        time.sleep(0.1)
        slow = request(
            "POST",
            f"/infer?session=slow-{trial}&seq=0&model=shd-size",
            events(SLOW_STEPS),
            f"X-Request-ID: {MARK}",
        )
        with Raw(port, timeout_s=10.0) as connection:
            head = request("DELETE", "/sessions/busy", slow, "Connection: upgrade", "Upgrade: foo", content_type="a/b")
            connection.send(head[: len(head) - len(slow)])
            time.sleep(BETWEEN_S)
            connection.send(slow)
            connection.receive(quiet_s=5.0, until=b"\r\n\r\n")
            stopped = threading.Event()
            threads = [threading.Thread(target=ask, args=(index, stopped)) for index in range(BYSTANDERS)]
            for thread in threads:
                thread.start()
            time.sleep(2.0 if stage.is_quick else 4.0)
            stopped.set()
            for thread in (*threads, busy):
                thread.join()
    return {"wrong_answers": len(wrong), "asked": asked[0], "which": "; ".join(sorted(set(wrong))[:3])}


def attack_metrics(stage: Stage) -> Mapping[str, Figure]:
    server = stage.server()
    port = start_proxy(stage, [server.port])
    shown = 0
    for path in SPELLINGS:
        with Raw(port) as connection:
            connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            shown += b"hetsyn_" in connection.receive(1.0)
    return {"spellings_that_show_metrics": shown}


def attack_repetition(stage: Stage) -> Mapping[str, Figure]:
    """Servers that stand still for longer than the proxy waits: how many steps do they compute for each asked for?

    The proxy waits for 1 s here, to save time.
    """
    servers = [stage.server(), stage.server()]
    port = start_proxy(stage, [server.port for server in servers], {r"timeout server \S+": "timeout server 1s"})
    before = sum(server.metric("hetsyn_steps_total") for server in servers)
    outcomes: list[str] = []

    def send(index: int) -> None:
        outcomes.append(Client(port, timeout_s=60.0).outcome(f"again-{index}", SLOW_STEPS, seq=0))

    threads = [threading.Thread(target=send, args=(index,)) for index in range(CHUNKS)]
    for server in servers:
        server.send(signal.SIGSTOP)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for server in servers:
        server.send(signal.SIGCONT)
    deadline_s, in_flight = time.monotonic() + 20.0, 1.0
    while time.monotonic() < deadline_s and in_flight:
        time.sleep(0.2)
        in_flight = sum(server.metric("hetsyn_requests_in_flight") for server in servers)
    computed = sum(server.metric("hetsyn_steps_total") for server in servers) - before
    return {"computed_for_each_step": computed / (CHUNKS * SLOW_STEPS), "outcomes": ",".join(sorted(outcomes))}


CASES = (
    Case(
        "proxy-smuggling",
        "The proxy and a server disagree where a body ends: a hidden request gets round every rule of the proxy.",
        attack_smuggling,
        {"hidden_answers": exactly(0), "deleted": exactly(0)},
        {"deleted": 2},
    ),
    Case(
        "proxy-answers-of-others",
        "A client gets the answer to another client's request.",
        attack_answers_of_others,
        {"wrong_answers": exactly(0)},
        {"wrong_answers": 4},
    ),
    Case(
        "proxy-metrics",
        "Another spelling of a path gets round the proxy's rule for it.",
        attack_metrics,
        {"spellings_that_show_metrics": exactly(0)},
        {"spellings_that_show_metrics": 1},
    ),
    Case(
        "proxy-repetition",
        "The proxy sends slow chunks to another server while the first still computes them, so overload feeds itself.",
        attack_repetition,
        {"computed_for_each_step": at_most(1.25)},
        {"computed_for_each_step": 1.75},
    ),
)
