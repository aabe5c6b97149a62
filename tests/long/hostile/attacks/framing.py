"""Where a request ends: bodies behind an offer of another protocol, versions, hosts, numbers, half-closed sockets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import quote

from hetsyn_client.events import MEDIA_TYPE as EVENTS
from tests.long.hostile.case import Case, Figure, at_most, exactly
from tests.long.hostile.stage import Stage
from tests.long.hostile.wire import Client, Raw, events, request, statuses

MARK = "smuggled-7f3a"  # the request id that only the hidden request has
BETWEEN_S = 0.3  # so that the body is a segment of its own
OFFERS = ("Upgrade: foo", "Upgrade: h2c\r\nHTTP2-Settings: AA", "Upgrade: websocket\r\nSec-WebSocket-Version: 13")
STARTS = (("POST", f"/infer?session=attacker&seq=0\0{EVENTS}"), ("GET", "/health/live\0text/plain"))
# a number in the query that int() or float() takes, and the documentation does not
ODD_NUMBERS = ("1_0", " 0", "+0", "0.0", "-0", "0e0", "\u0660", "0x0")
# first line and headers, with the statuses that RFC 9112 and 9110 allow
RULES: tuple[tuple[bytes, tuple[str, ...]], ...] = (
    (b"GET /health/live HTTP/1.1\r\n\r\n", ("400",)),
    (b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", ("400",)),
    (b"GET /health/live HTTP/1.1\r\nHost: a b\r\n\r\n", ("400",)),
    (b"GET /health/live HTTP/2.0\r\nHost: a\r\n\r\n", ("400", "505")),
    (b"GET /health/live HTTP/0.9\r\nHost: a\r\n\r\n", ("400", "505")),
    (
        b"POST /infer HTTP/1.1\r\nHost: a\r\nContent-Type: application/vnd.hetsyn.events\r\n"
        b"Transfer-Encoding: gzip, chunked\r\n\r\nc\r\n" + events(1) + b"\r\n0\r\n\r\n",
        ("400", "501"),
    ),
)


def hidden(path: str, method: str = "DELETE") -> bytes:
    """A whole request that stands in the body of another."""
    return request(method, path, b"", f"X-Request-ID: {MARK}")


def split(connection: Raw, method: str, path: str, content_type: str, offer: str, body: bytes) -> bytes:
    """What the connection receives for a request whose body comes later than its head."""
    head = request(method, path, b"x" * len(body), "Connection: upgrade", offer, content_type=content_type)
    connection.send(head[: len(head) - len(body)])
    time.sleep(BETWEEN_S)
    connection.send(body)
    return connection.receive(quiet_s=0.4)


def attack_upgrade(stage: Stage) -> Mapping[str, Figure]:
    server = stage.server()
    client = Client(server.port)
    hidden_answers = deleted = 0
    for number, (method, target) in enumerate(STARTS):
        path, _, content_type = target.partition("\0")
        for offer in OFFERS:
            victim = f"victim-{number}"
            client.chunk(victim, begin="true")
            with Raw(server.port) as connection:
                received = split(connection, method, path, content_type, offer, hidden(f"/sessions/{victim}"))
            hidden_answers += MARK.encode() in received
            deleted += client.call("GET", f"/sessions/{victim}").status != 200
    whole = request("POST", "/infer?session=h2c&seq=0", events(5), "Connection: Upgrade, HTTP2-Settings", OFFERS[1])
    with Raw(server.port) as connection:
        connection.send(whole)
        answered = statuses(connection.receive())
    return {"hidden_answers": hidden_answers, "deleted": deleted, "h2c_status": ",".join(answered)}


def attack_rules(stage: Stage) -> Mapping[str, Figure]:
    server = stage.server()
    client = Client(server.port)
    taken = 0
    for content, allowed in RULES:
        with Raw(server.port) as connection:
            connection.send(content)
            answered = statuses(connection.receive())
        taken += not answered or answered[0] not in allowed
    with Raw(server.port) as connection:
        connection.send(request("POST", "/infer?session=half&seq=0", events(20_000)))
        connection.socket.shutdown(1)
        half_closed = ",".join(statuses(connection.receive(2.0)))
    with Raw(server.port) as connection:
        connection.send(request("POST", "/infer?session=behind&seq=0", events(5)) + b"GARBAGE\r\n\r\n")
        before_garbage = ",".join(statuses(connection.receive()))
    foreign = 0
    for path in ("/infer/", "/models/", "//evil.example/models/"):
        with Raw(server.port) as connection:
            connection.send(f"GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
            head = connection.receive().partition(b"\r\n\r\n")[0].lower()
        foreign += b"location: http://evil.example" in head or b"location: //" in head
    odd = 0
    for number, text in enumerate(ODD_NUMBERS):
        path = f"/infer?session=odd-{number}&seq={quote(text)}"
        odd += client.call("POST", path, events(1), {"Content-Type": EVENTS}).status not in (400, 422)
    return {
        "rules_not_kept": taken,
        "half_closed_status": half_closed,
        "before_garbage_status": before_garbage.partition(",")[0],
        "foreign_locations": foreign,
        "odd_numbers_taken": odd,
    }


def attack_pipeline(stage: Stage) -> Mapping[str, Figure]:
    """A request behind ``Expect``, one that does not wait for the reply before, and replies that nobody reads."""
    server = stage.server()
    client = Client(server.port)
    with Raw(server.port) as connection:
        head = request("POST", "/infer?session=expect&seq=0", events(5), "Expect: 100-continue")
        body = len(events(5))
        connection.send(head[: len(head) - body])
        continued = statuses(connection.receive(1.0))
        connection.send(head[len(head) - body :] + request("GET", "/health/live"))
        continued += statuses(connection.receive(1.0))
    with Raw(server.port) as connection:
        declared = request("POST", "/infer", hidden("/sessions/expect"), content_type="a/b")
        connection.send(declared)
        refused = connection.receive(1.0)
    base_mib = server.rss_mib()
    readers = [Raw(server.port) for _ in range(64 if stage.is_quick else 256)]
    trace = request("POST", "/infer?model=pattern-generation&end=true", events(20_000))
    for reader in readers:
        reader.send(trace)  # its reply of a megabyte and more is not read
    time.sleep(1.5 if stage.is_quick else 5.0)  # the replies are made, and meet full sockets
    held_mib = server.peak_mib() - base_mib
    status = client.call("GET", "/health/live").status
    for reader in readers:
        reader.socket.close()
    return {
        "expect_statuses": ",".join(continued),
        "hidden_answers": int(MARK.encode() in refused),
        "session_after": client.call("GET", "/sessions/expect").status,
        "live_status": status,
        "unread_replies_mib": held_mib,
    }


CASES = (
    Case(
        "framing-upgrade",
        "A body behind an offer of another protocol is parsed as the next request, or is lost.",
        attack_upgrade,
        {"hidden_answers": exactly(0), "deleted": exactly(0), "h2c_status": exactly("200")},
        {"hidden_answers": 1, "deleted": 1, "h2c_status": "422"},
    ),
    Case(
        "framing-rules",
        "Requests that RFC 9112 refuses are taken, and garbage behind a request takes its answer.",
        attack_rules,
        {
            "rules_not_kept": exactly(0),
            "half_closed_status": exactly(""),  # who sends no more has gone
            "before_garbage_status": exactly("200"),
            "foreign_locations": exactly(0),
            "odd_numbers_taken": exactly(0),
        },
        {"before_garbage_status": "400"},
    ),
    Case(
        "framing-pipeline",
        "Expect, early refusals and replies that nobody reads shift answers or hold memory.",
        attack_pipeline,
        {
            "expect_statuses": exactly("100,200"),  # the request behind is not read
            "hidden_answers": exactly(0),
            "session_after": exactly(200),
            "live_status": exactly(200),
            "unread_replies_mib": at_most(256),
        },
    ),
)
