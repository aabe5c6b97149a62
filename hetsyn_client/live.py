"""A session over one WebSocket (``WS /stream``): chunks go out without waiting for the reply to the one before.

    with LiveStream("http://127.0.0.1:8000", sample_rate_hz=16000) as stream:
        for samples in microphone:
            for frame in stream.send(samples):
                if frame["type"] == "UtteranceEnd":
                    print(frame["start"], frame["end"], frame["label"])
        stream.end()

The server acknowledges each chunk once it is kept. If the connection breaks, the stream opens another one under the
same session, and sends the chunks again that were not acknowledged. None is lost, and none counts twice.
``async_live`` has the same for asyncio. What both send, and when, is in ``live_steps``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.bodies import Matrix
from hetsyn_client.live_steps import LiveOptions, LiveSteps, SteppedStream
from hetsyn_client.reconnecting import Frame, access_of, timeout_of
from hetsyn_client.transport import Transport


class LiveStream(SteppedStream):
    """One session. Use it as a context manager; left before ``end``, the session stays on the server.

    Its methods raise ServiceProblem where the server refuses, ServiceUnreachable where it does not answer, and
    InputError for what cannot be sent.

    Args:
        url: of the server, as ``http://127.0.0.1:8000``.
        sleep: waits between two tries, in seconds; tests replace it.
        options: see ``LiveOptions``.
    """

    def __init__(
        self, url: str, *, sleep: Callable[[float], None] = time.sleep, **options: Unpack[LiveOptions]
    ) -> None:
        access = access_of(url, options)
        super().__init__(LiveSteps(access, options))
        self._transport = Transport(access, timeout_of(options), sleep=sleep)

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

    def send(self, samples: NDArray[Any]) -> list[Frame]:
        """Send samples of encoding ``pcm_s16le``, ``pcm_s24le`` or ``pcm_f32le``.

        Args:
            samples: whole numbers of that many bits, or floats from -1 to 1 for ``pcm_f32le``: [n], or [n, channels].

        Returns:
            The results that have come meanwhile: frames of type ``Result``, ``SpeechStarted`` and ``UtteranceEnd``. It
            waits for some while too many chunks are not acknowledged.
        """
        return self.send_bytes(self._steps.samples(samples))

    def send_bytes(self, content: bytes) -> list[Frame]:
        """Send bytes as a frame of the stream's encoding has them; as ``send``.

        They are whole samples, a chunk of packed events, or rows of values.
        """
        return self._transport.run(self._steps.send(content))

    def send_events(self, steps: int, times: NDArray[np.int64], units: NDArray[np.int64]) -> list[Frame]:
        """Send the spikes of ``steps`` network steps: ``times`` [spikes] and ``units`` [spikes]; as ``send``."""
        return self.send_bytes(self._steps.events(steps, times, units))

    def send_values(self, values: Matrix) -> list[Frame]:
        """Send rows of values, an array or lists [steps, channels]; as ``send``."""
        return self.send_bytes(self._steps.values(values))

    def finalize(self) -> list[Frame]:
        """End the utterance now. It waits for all chunks before.

        Returns:
            What ``wait`` returns, and last the end of the utterance, with ``trigger`` "forced".
        """
        return self._transport.run(self._steps.finalize())

    def receive(self, timeout_s: float) -> list[Frame]:
        """Return the results that come within a time, which is for the first of them."""
        return self._transport.run(self._steps.receive(timeout_s))

    def wait(self) -> list[Frame]:
        """Wait until all chunks are acknowledged, and return the results that come.

        Where the connection broke, the results of some chunks may be lost. The chunks are not.
        """
        return self._transport.run(self._steps.wait())

    def end(self) -> Frame:
        """End the session, and return the end of its last utterance: label, probabilities, start and end.

        ``wait`` has what comes before; called again, what the end brought before this.
        """
        return self._transport.run(self._steps.end())
