"""A session over one WebSocket (``WS /stream``): chunks go out without waiting for the reply to the one before.

    with LiveStream("http://127.0.0.1:8000", sample_rate_hz=16000) as stream:
        for samples in microphone:
            for frame in stream.send(samples):
                if frame["type"] == "UtteranceEnd":
                    print(frame["start"], frame["end"], frame["label"])
        stream.end()

The server acknowledges each chunk after it has stored it. If the connection breaks, the stream opens another one for
the same session, and sends the unacknowledged chunks again. None is lost, and none counts twice. ``async_live`` has the
same for asyncio. ``live_steps`` decides what both send, and when.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, Unpack

from hetsyn_client.access import TIMEOUT_S, access_of
from hetsyn_client.network.transport import Transport
from hetsyn_client.protocol.live_steps import LiveOptions, LiveSteps, SteppedStream
from hetsyn_client.protocol.reconnecting import Frame


class LiveStream(SteppedStream[list[Frame]]):
    """One session. Use it as a context manager; left before ``end``, the session stays on the server.

    Its methods raise ServiceProblem if the server refuses, ServiceUnreachable if it does not answer, and InputError for
    input that cannot be sent.

    Args:
        url: as ``http://127.0.0.1:8000``.
        sleep: waits between two tries, in seconds; tests replace it.
        options: those of ``LiveOptions``.
    """

    def __init__(
        self, url: str, *, sleep: Callable[[float], None] = time.sleep, **options: Unpack[LiveOptions]
    ) -> None:
        access = access_of(url, options)
        self._transport = Transport(access, options.get("timeout_s", TIMEOUT_S), sleep=sleep)
        super().__init__(LiveSteps(access, options), self._transport.run)

    def __enter__(self) -> Self:
        self._transport.run(self._steps.begin_once())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The session stays on the server until it expires.

        Chunks that were not acknowledged may not be applied: ``wait`` first.
        """
        self._transport.run(self._steps.close())
        self._transport.close()

    def end(self) -> Frame:
        """End the session, and return the end of its last utterance: label, probabilities, start and end.

        ``wait`` returns the earlier frames, before the end or after it.
        """
        return self._transport.run(self._steps.end())
