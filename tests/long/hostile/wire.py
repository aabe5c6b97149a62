"""Bytes to and from a server: raw connections, a plain client, and a prober that sees when the server stands still."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from hetsyn_client.events import MEDIA_TYPE as EVENTS
from hetsyn_client.events import pack_events
from tests.support.processor_wait import ProcessorWait, waited_s

HOST = "127.0.0.1"
JSON = "application/json"
SESSION_RECORD = "application/octet-stream"
PROBE_EVERY_S = 0.003


@dataclass(frozen=True)
class Answer:
    """A response.

    Attributes:
        status: 200 to 599.
        headers: with names in lower case.
        body: whole.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Client:
    """A client that keeps its connection as long as it lives, and makes another one if it breaks."""

    def __init__(self, port: int, timeout_s: float = 60.0, source: str = HOST) -> None:
        self._connection = HTTPConnection(HOST, port, timeout=timeout_s, source_address=(source, 0))
        weakref.finalize(self, self._connection.close)

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request and its response.

        Raises:
            OSError, HTTPException: there was no response.
        """
        try:
            self._connection.request(method, path, body, dict(headers or {}))
            response = self._connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())
        except (OSError, HTTPException):
            self._connection.close()  # the next request opens it again
            raise

    def infer(self, body: bytes, content_type: str = JSON, **query: object) -> Answer:
        path = "/infer" + (f"?{urlencode(query)}" if query else "")
        return self.call("POST", path, body, {"Content-Type": content_type})

    def chunk(self, session: str | None = None, steps: int = 5, **query: object) -> Answer:
        """A chunk of packed events without spikes."""
        named = {} if session is None else {"session": session}
        return self.infer(pack_events(steps, [], []), EVENTS, **named, **query)

    def outcome(self, session: str | None = None, steps: int = 5, **query: object) -> str:
        """The status of a chunk, or the name of the error if there is no response."""
        try:
            return str(self.chunk(session, steps, **query).status)
        except (OSError, HTTPException) as error:
            return type(error).__name__


class Raw:
    """A context of a TCP connection that sends any bytes."""

    def __init__(self, port: int, timeout_s: float = 5.0, source: str = HOST) -> None:
        self.socket = socket.create_connection((HOST, port), timeout_s, (source, 0))

    def __enter__(self) -> Raw:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, content: bytes) -> int:
        """Send, as far as the server takes it. The number of bytes that the kernel took."""
        view, sent = memoryview(content), 0
        with suppress(OSError):
            while sent < len(content):
                sent += self.socket.send(view[sent : sent + (1 << 18)])
        return sent

    def receive(self, quiet_s: float = 0.5, until: bytes | None = None) -> bytes:
        """Everything until the server closes, is quiet for so long, or has sent ``until``."""
        received = b""
        self.socket.settimeout(quiet_s)
        try:
            while until is None or until not in received:
                part = self.socket.recv(1 << 16)
                if not part:
                    break
                received += part
        except OSError:
            pass
        return received

    def is_closed(self) -> bool:
        """Whether the server has closed the connection; reads what it sent before."""
        self.socket.settimeout(0.01)
        try:
            while self.socket.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


class Prober:
    """A context in which a client asks for ``/health/live`` all the time: how long does the longest answer take?

    The time in which a thread of the server, or the prober, was ready and had no processor does not count: it is that
    of other programs.
    """

    def __init__(self, port: int, pid: int) -> None:
        self._client, self._pid = Client(port), pid
        self._thread = threading.Thread(target=self._probe, daemon=True)
        self._stopped = threading.Event()
        self._longest_s, self._began_s = 0.0, time.monotonic()

    def __enter__(self) -> Prober:
        self._client.call("GET", "/health/live")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def longest_ms(self) -> float:
        """After the context: the longest answer, with one that never came."""
        return 1e3 * self._longest_s

    def _probe(self) -> None:
        while not self._stopped.is_set():
            began_s, waited_before_s, server = time.monotonic(), waited_s(), ProcessorWait(self._pid)
            with suppress(OSError, HTTPException):
                self._client.call("GET", "/health/live")
            took_s = time.monotonic() - began_s
            if took_s > self._longest_s:
                took_s -= server.longest_s() + waited_s() - waited_before_s
                self._longest_s = max(self._longest_s, took_s)
            self._stopped.wait(PROBE_EVERY_S)


def request(method: str, path: str, body: bytes = b"", *headers: str, content_type: str = EVENTS) -> bytes:
    """A request of HTTP/1.1 with the length of its body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body or method == "POST":
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def events(steps: int) -> bytes:
    """A chunk of packed events without spikes."""
    return pack_events(steps, [], [])


def statuses(received: bytes) -> list[str]:
    """The statuses of the responses in what a connection received."""
    return [status.decode() for status in re.findall(rb"HTTP/1\.\d (\d{3}) ", received)]
