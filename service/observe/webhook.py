"""Posts what the server has dropped to a URL of the operator, from a thread of its own.

Nothing waits for it: events go into a queue with a bound, and what does not fit is counted and left out. A receiver
that is slow, down or wrong costs lines of log and events, never a chunk.
"""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from collections import Counter, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from service.observe.drops import Drop

MOST_WAITING = 1_000  # events
MOST_EVENTS = 100  # of one request
TIMEOUT_S = 5.0
PAUSES_S = (1.0, 4.0)  # before the second and the third try
CLOSING_S = 2.0  # for what waits when the server ends
TRIED_AGAIN = frozenset({408, 425, 429})  # statuses below 500 that mean "later"

log = logging.getLogger("hetsyn.webhook")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: it would make a GET of the POST, to a host that nobody has named."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Webhook:
    """Hands drops to a URL. Called from one event loop.

    Args:
        url: ``http://`` or ``https://``. It may hold a secret, so no line of log has it.
        pauses_s: before each further try.
        timeout_s: of each try.

    Attributes:
        counts: of events, by what became of them: ``delivered``, ``failed``, or ``discarded`` for want of room.
    """

    def __init__(self, url: str, pauses_s: Sequence[float] = PAUSES_S, timeout_s: float = TIMEOUT_S) -> None:
        self.counts: Counter[str] = Counter()
        self._url = url
        self._host = urlsplit(url).hostname
        self._pauses_s = pauses_s
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._waiting: deque[dict[str, Any]] = deque()
        self._has_some = threading.Event()
        self._is_ending = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, drop: Drop) -> None:
        """Post a drop, soon. It returns at once."""
        if len(self._waiting) >= MOST_WAITING:
            self.counts["discarded"] += 1
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._waiting.append({"event": "session-dropped", "time": now, **drop.members()})
        self._has_some.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Post what waits, for ``CLOSING_S`` at most. Blocks."""
        self._is_ending.set()
        self._has_some.set()
        if self._thread is not None:
            self._thread.join(CLOSING_S)
        self.counts["discarded"] += len(self._waiting)
        self._waiting.clear()

    def _run(self) -> None:
        while True:
            self._has_some.wait()
            self._has_some.clear()
            while self._waiting:
                events = [self._waiting.popleft() for _ in range(min(MOST_EVENTS, len(self._waiting)))]
                self._post(events)
            if self._is_ending.is_set():
                return

    def _post(self, events: Sequence[dict[str, Any]]) -> None:
        body = json.dumps({"events": events, "discarded": self.counts["discarded"]}).encode()
        trouble = ""
        for pause_s in (0.0, *self._pauses_s):
            if pause_s and self._is_ending.wait(pause_s):
                break
            try:
                self._send(body)
            except HTTPError as error:
                trouble = f"HTTP {error.code}"
                error.close()
                if error.code < 500 and error.code not in TRIED_AGAIN:
                    break
            except (OSError, HTTPException, ValueError) as error:
                trouble = str(error) or type(error).__name__
            else:
                self.counts["delivered"] += len(events)
                return
        self.counts["failed"] += len(events)
        log.warning("%d events were not delivered to the webhook at %s: %s", len(events), self._host, trouble)

    def _send(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "hetsyn"}
        request = urllib.request.Request(self._url, body, headers, method="POST")
        self._opener.open(request, timeout=self._timeout_s).close()  # whatever else the receiver says is not read
