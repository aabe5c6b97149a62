"""Clients in threads: they stream a recording again and again, and compare the replies with an undisturbed stream's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hetsyn_client.client import StreamingClient
from hetsyn_client.errors import HetsynError
from hetsyn_client.results import Reply

CHUNK_S = 0.1
SPEED = 2.0  # times real time
CLIENTS = 4
WAIT_S = 60.0


class CheckFailed(Exception):
    """The stack does not do what its documentation promises."""


class StreamingThread(threading.Thread):
    """A client that streams a recording again and again, each time in a new session.

    Args:
        recording: WAV file.
        expected: content of the reply to each chunk.
        repeats: how often the client repeats a chunk.

    Attributes:
        stopping: set it to end the thread after the present session.
        begun: sessions begun.
        chunks: chunks answered as expected.
        repeated: chunks that the client sent again.
        error: what went wrong, or None.
    """

    def __init__(self, url: str, recording: Path, expected: list[Any], repeats: int) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._recording = recording
        self._expected = expected
        self._repeats = repeats
        self.stopping = False
        self.begun = self.chunks = self.repeated = 0
        self.error: str | None = None

    def run(self) -> None:
        with StreamingClient(self._url, repeats=self._repeats, sleep=self._pause) as client:
            while not self.stopping and self.error is None:
                self.begun += 1
                self._stream(client)

    def _stream(self, client: StreamingClient) -> None:
        began_s = time.monotonic()
        count = 0
        try:
            for reply in client.stream_file(self._recording, CHUNK_S):
                if content(reply) != self._expected[count]:
                    self.error = f"chunk {count} got another answer: {reply}"
                    return
                count += 1
                self.chunks += 1
                time.sleep(max(0.0, began_s + count * CHUNK_S / SPEED - time.monotonic()))
        except HetsynError as error:
            self.error = f"chunk {count}: {error}"

    def _pause(self, pause_s: float) -> None:
        self.repeated += 1
        time.sleep(pause_s)


class StreamingThreads:
    """A context in which ``CLIENTS`` threads stream. ``options`` are those of ``StreamingThread``."""

    def __init__(self, url: str, recording: Path, expected: list[Any], **options: Any) -> None:
        self.all = [StreamingThread(url, recording, expected, **options) for _ in range(CLIENTS)]

    def __enter__(self) -> StreamingThreads:
        for stream in self.all:
            stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self.all:
            stream.stopping = True
        for stream in self.all:
            stream.join(WAIT_S)

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait for a condition.

        Raises:
            CheckFailed: it did not come about in time, or a stream broke.
        """
        deadline_s = time.monotonic() + WAIT_S
        while not condition():
            self.check()
            if time.monotonic() > deadline_s:
                raise CheckFailed(f"not within {WAIT_S:g} s: {what}")
            time.sleep(0.02)
        self.check()

    def wait_for_sessions(self) -> None:
        """Wait until every session that is open now has ended and another has begun."""
        begun = [stream.begun for stream in self.all]
        self.wait_for(
            "sessions go on to their end",
            lambda: all(stream.begun > count for stream, count in zip(self.all, begun, strict=True)),
        )

    def check(self) -> None:
        """
        Raises:
            CheckFailed: a stream broke.
        """
        for stream in self.all:
            if stream.error is not None:
                raise CheckFailed(stream.error)

    def summary(self) -> str:
        chunks = sum(stream.chunks for stream in self.all)
        repeated = sum(stream.repeated for stream in self.all)
        return f"{chunks} chunks of {CLIENTS} clients, no error, equal answers; {repeated} chunks were sent again"


def content(reply: Reply) -> dict[str, Any]:
    """Return a reply without the session's id."""
    return {name: value for name, value in reply.items() if name != "session"}
