"""The webhook: events arrive, and a receiver that is slow, down or wrong costs events and nothing else."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from service.observe import webhook as module
from service.observe.drops import Drop
from service.observe.webhook import MOST_EVENTS, MOST_WAITING, Webhook

DROP = Drop("a", "idle", "digits", "1", 3, 100.0, 60.0)


class Receiver(ThreadingHTTPServer):
    """Answers with ``statuses``, then with 204; ``opened`` holds it back."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.bodies: list[dict[str, Any]] = []
        self.opened = threading.Event()
        self.opened.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?token=secret-of-the-hook"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for body in self.bodies for event in body["events"]]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.opened.wait()
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        if status < 300:
            self.server.bodies.append(body)
        self.send_response(status)
        self.send_header("Location", "http://127.0.0.1:9/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # where a redirect would lead

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.opened.set()
        server.shutdown()
        thread.join()


def until(condition: Any) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_a_drop_arrives(receiver: Receiver) -> None:
    hook = Webhook(receiver.url)
    hook(DROP)
    hook.close()
    (body,) = receiver.bodies
    (event,) = body["events"]
    assert event.pop("time").endswith("+00:00")
    assert event == {
        "event": "session-dropped", "session": "a", "reason": "idle", "model": "digits", "version": "1",
        "chunks": 3, "age_s": 100.0, "idle_s": 60.0,
    }  # fmt: skip
    assert body["discarded"] == 0
    assert hook.counts["delivered"] == 1


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_receiver_that_has_trouble_is_asked_again(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status, status]
    hook = Webhook(receiver.url, pauses_s=(0.001, 0.001))
    hook(DROP)
    until(lambda: hook.counts["delivered"])
    hook.close()
    assert len(receiver.events) == 1


@pytest.mark.parametrize("status", [302, 307, 400, 404])
def test_a_refusal_is_final(receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture) -> None:
    receiver.statuses = [status]
    hook = Webhook(receiver.url, pauses_s=(0.001, 0.001))
    hook(DROP)
    until(lambda: hook.counts["failed"])
    hook.close()
    assert (receiver.events, receiver.statuses) == ([], [])
    assert f"HTTP {status}" in caplog.text
    assert "secret" not in caplog.text


def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    hook = Webhook("http://127.0.0.1:9/hook?token=secret", pauses_s=(0.001, 0.001))
    hook(DROP)
    until(lambda: hook.counts["failed"])
    hook.close()
    assert "1 events were not delivered to the webhook at 127.0.0.1" in caplog.text
    assert "secret" not in caplog.text


def test_a_slow_receiver_delays_nobody(receiver: Receiver) -> None:
    receiver.opened.clear()
    hook = Webhook(receiver.url)
    hook(DROP)
    until(lambda: not hook._waiting)  # it is on its way
    began_s = time.perf_counter()
    for _ in range(MOST_WAITING + 50):
        hook(DROP)
    assert time.perf_counter() - began_s < 1.0
    assert hook.counts["discarded"] == 50
    receiver.opened.set()
    until(lambda: hook.counts["delivered"] == MOST_WAITING + 1)
    hook.close()
    assert max(len(body["events"]) for body in receiver.bodies) == MOST_EVENTS
    assert receiver.bodies[-1]["discarded"] == 50


def test_a_receiver_that_never_answers_does_not_hold_the_server(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(module, "CLOSING_S", 0.05)
    receiver.opened.clear()
    hook = Webhook(receiver.url)
    for _ in range(MOST_EVENTS + 1):
        hook(DROP)
    until(lambda: len(hook._waiting) <= MOST_EVENTS)
    began_s = time.monotonic()
    hook.close()
    assert time.monotonic() - began_s < 2.0
