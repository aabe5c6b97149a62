"""A session over one WebSocket (``WS /stream``): chunks go out without waiting for the reply to the one before.

    with LiveStream("http://127.0.0.1:8000", sample_rate_hz=16000) as stream:
        for samples in microphone:
            for frame in stream.send(samples):
                if frame["type"] == "UtteranceEnd":
                    print(frame["start"], frame["end"], frame["label"])
        stream.end()

The server acknowledges each chunk once it is kept. If the connection breaks, the stream opens another one under the
same session, and sends the chunks again that were not acknowledged. None is lost, and none counts twice.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed

from hetsyn_client.access import Access
from hetsyn_client.bodies import Encoding, Matrix, events_body, packed_samples
from hetsyn_client.calls import Calls
from hetsyn_client.errors import InputError, ServiceProblem
from hetsyn_client.live_connection import SentChunk, final_of_ended
from hetsyn_client.steps import target
from hetsyn_client.transport import Transport
from hetsyn_client.values import rows_of
from hetsyn_client.web_socket import Frame, Reconnecting, SessionHasEnded

TOLD = ("Result", "SpeechStarted", "UtteranceEnd")  # the frames of which a caller hears


class LiveStream(Reconnecting):
    """One session. Use it as a context manager; left before ``end``, the session stays on the server.

    Args:
        url: of the server, as ``http://127.0.0.1:8000``.
        sample_rate_hz: of samples; None for events or values.
        channels: of samples, which the server averages, by default one; or numbers of a row of values.
        encoding: of samples (``pcm_s16le``, ``pcm_s24le``, ``pcm_f32le``, ``mulaw``, ``alaw``); by default
            16-bit samples where there is a rate, else values or events.
        session: id of a session to begin or to go on with; by default a new one.
        model: by default the server's default model.
        version: by default the newest.
        form: by default the model's default form.
        interim: whether the server sends a result for each chunk.
        endpointing: whether the server finds utterances; by default as the model says. As a dict: settings, such as
            ``{"silence_s": 0.3}`` (docs/reference/stream-api.md).
        spikes: whether each result has the chunk's spikes, of the input and of the hidden layers.
        timing: whether each result has the time that the server took, by part.
        headers: of the opening request, such as ``{"X-Api-Key": "..."}``.
        key: sent as ``Authorization: Bearer KEY``.
        ca_file: certificates to trust in place of the usual ones, PEM.
        timeout_s: for an answer of the server.
        repeats: how often in a row the stream is opened again before it gives up.
        patience_s: for how long it is opened again at least, once the server has answered a chunk.
        sleep: waits between two tries, in seconds; tests replace it.

    Attributes:
        id: of the session.
        begin: the last ``Begin`` of the server.
    """

    def __init__(
        self,
        url: str,
        *,
        sample_rate_hz: int | None = None,
        channels: int | None = None,
        encoding: Encoding | None = None,
        session: str | None = None,
        model: str | None = None,
        version: str | None = None,
        form: str | None = None,
        interim: bool = True,
        endpointing: bool | dict[str, float] | None = None,
        spikes: bool = False,
        timing: bool = False,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        ca_file: str | Path | None = None,
        timeout_s: float = 30.0,
        repeats: int = 5,
        patience_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if encoding is None:
            if sample_rate_hz is not None and channels is not None:
                raise InputError("a stream is sound or values: give sample_rate_hz or channels, not both, or encoding")
            encoding = "pcm_s16le" if sample_rate_hz is not None else "events" if channels is None else "values"
        self.id = session or secrets.token_urlsafe(16)
        self._kind: Encoding = encoding
        self._channels = channels or 1
        query = {
            "session": self.id, "model": model, "version": version, "form": form, "encoding": self._kind,
            "sample_rate": sample_rate_hz, "channels": channels, "interim": None if interim else "false",
            "endpointing": None if endpointing is None else "off" if endpointing is False else "on",
            "spikes": "true" if spikes else None, "timing": "true" if timing else None,
        }  # fmt: skip
        access = Access.checked(url, headers, key, ca_file)
        super().__init__(access, target("/stream", query), timeout_s, repeats, patience_s, sleep)
        self._unacknowledged: deque[SentChunk] = deque()
        self._late: list[Frame] = []  # that came before the last end
        self._settings = dict(endpointing) if isinstance(endpointing, dict) else {}  # for the next chunk
        self._next_utterance = 0
        self._last_end: Frame | None = None
        self._next_seq: int | None = None
        self.begin: Frame = {}

    def send(self, samples: NDArray[Any]) -> list[Frame]:
        """Send samples of encoding ``pcm_s16le``, ``pcm_s24le`` or ``pcm_f32le``.

        Args:
            samples: whole numbers of that many bits, or floats from -1 to 1 for ``pcm_f32le``: [n], or [n, channels].

        Returns:
            The results that have come meanwhile: frames of type ``Result``, ``SpeechStarted`` and ``UtteranceEnd``. It
            waits for some while too many chunks are not acknowledged.

        Raises:
            InputError: other samples, or a stream of another kind.
            ServiceProblem: the server refused a chunk.
            ServiceUnreachable: the server cannot be reached.
        """
        if self._kind not in ("pcm_s16le", "pcm_s24le", "pcm_f32le"):
            raise InputError(f"this stream is one of {self._kind}: open another one, with sample_rate_hz, for samples")
        return self._send(packed_samples(np.asarray(samples), self._kind, self._channels))

    def send_bytes(self, content: bytes) -> list[Frame]:
        """Send bytes as a frame of the stream's encoding has them; as ``send``.

        They are whole samples, a chunk of packed events, or rows of values.
        """
        return self._send(content)

    def send_events(self, steps: int, times: NDArray[np.int64], units: NDArray[np.int64]) -> list[Frame]:
        """Send the spikes of ``steps`` network steps: ``times`` [spikes] and ``units`` [spikes]; as ``send``."""
        self._check("events")
        return self._send(events_body(steps, times, units).content)

    def send_values(self, values: Matrix) -> list[Frame]:
        """Send rows of values, an array or lists [steps, channels]; as ``send``."""
        self._check("values")
        return self._send(rows_of(values, self._channels).astype("<f4").tobytes())

    def configure(self, **settings: float) -> None:
        """Change settings of the endpointer, such as ``silence_s=0.3``, from the next chunk on."""
        self._settings |= settings

    def finalize(self) -> list[Frame]:
        """End the utterance now. It waits for all chunks before.

        Returns:
            What ``wait`` returns, and last the end of the utterance, with ``trigger`` "forced".

        Raises:
            ServiceProblem: the model has no utterances.
            ServiceUnreachable: the server cannot be reached.
        """
        self._begin()
        frames = self.wait()
        while True:
            before = self._next_utterance
            try:
                self._connected().send(json.dumps({"type": "Finalize"}))
                while True:
                    frame = self._read(self._timeout_s)
                    if self._is_news(frame):
                        frames.append(frame)
                    if frame.get("trigger") == "forced" and frame["utterance"] >= before:
                        return frames
            except (ConnectionClosed, OSError, TimeoutError) as error:
                self._reopen(error)
                if self._last_end is not None and self._last_end["utterance"] >= before:
                    return [*frames, self._last_end]  # only the answer was lost

    @property
    def waits(self) -> bool:
        """Whether a chunk is not acknowledged yet."""
        return bool(self._unacknowledged)

    def receive(self, timeout_s: float) -> list[Frame]:
        """The results that come within a time; errors as of ``send``.

        Args:
            timeout_s: for the first of them.
        """
        late, self._late = self._late, []
        try:
            results = self._told(self._read(timeout_s))
        except TimeoutError:
            return late
        except (ConnectionClosed, OSError) as error:
            self._reopen(error)
            return late
        while self._unacknowledged and (more := self._receive(0)):
            results += more
        return late + results

    def wait(self) -> list[Frame]:
        """Wait until all chunks are acknowledged, and return the results that come; errors as of ``send``.

        Where the connection broke, the results of some chunks may be lost. The chunks are not.
        """
        results: list[Frame] = []
        while self._unacknowledged:
            results += self._receive(self._timeout_s)
        late, self._late = self._late, []
        return late + results

    def end(self) -> Frame:
        """End the session, and return the end of its last utterance: label, probabilities, start and end.

        ``wait`` has what comes before; called again, what the end brought before this.

        Raises:
            ServiceProblem: the server refused a chunk, or there was none.
            ServiceUnreachable: the server cannot be reached.
        """
        self._begin()
        self.wait()
        assert self._next_seq is not None
        if not self._next_seq:
            raise InputError("the session has no chunk yet: send one before you end it")
        final: Frame | None = None
        while True:
            try:
                self._connected().send(json.dumps({"type": "CloseStream", "last_seq": self._next_seq - 1}))
                while True:
                    frame = self._read(self._timeout_s)
                    if frame["type"] == "UtteranceEnd":
                        self._late += [final] if final else []
                        final = frame
                    elif frame["type"] == "Termination":
                        self.close()
                        return final or self._last_end or {}  # an utterance may have ended with the last chunk
            except (ConnectionClosed, OSError, TimeoutError) as error:
                if final is not None:
                    return final
                try:
                    self._reopen(error)
                except SessionHasEnded:
                    return self._ended()  # only the answer was lost

    def _ended(self) -> Frame:
        """The final result of a session that has ended: the server keeps its last reply for a while."""
        calls = Calls(self._access.url, self._repeats)
        with closing(Transport(self._access, self._timeout_s, sleep=self._sleep)) as transport:
            steps = final_of_ended(calls, self.id, self._next_seq, self.begin["step_ms"] / 1000)
            return transport.run(steps)

    def _check(self, kind: str) -> None:
        if kind != self._kind:
            raise InputError(f"this stream is one of {self._kind}: open another one for {kind}")

    def _send(self, content: bytes) -> list[Frame]:
        self._begin()
        assert self._next_seq is not None
        results: list[Frame] = []
        while len(self._unacknowledged) >= self.begin["max_inflight"]:
            results += self._receive(self._timeout_s)
        chunk = SentChunk(self._next_seq, content, self._settings)
        self._settings = {}
        self._unacknowledged.append(chunk)
        self._next_seq += 1
        try:
            chunk.send(self._connected())
        except (ConnectionClosed, OSError) as error:
            self._reopen(error)
        while self._unacknowledged and (more := self._receive(0)):
            results += more
        return results

    def _receive(self, timeout_s: float) -> list[Frame]:
        """The next result; empty if none comes in time, where that is 0, or if the connection broke."""
        try:
            frame = self._read(timeout_s)
        except TimeoutError as error:
            if timeout_s:
                self._reopen(error)
            return []
        except (ConnectionClosed, OSError) as error:
            self._reopen(error)
            return []
        return self._told(frame)

    def _told(self, frame: Frame) -> list[Frame]:
        """What the caller hears of a frame."""
        if frame["type"] in ("Result", "Ack"):
            self._answered()
            self._acknowledge(frame["seq"])
        return [frame] if self._is_news(frame) else []

    def _is_news(self, frame: Frame) -> bool:
        """Whether the caller has not heard of it: after a break, the server repeats what it said of utterances."""
        if frame["type"] not in TOLD:
            return False
        if frame["type"] == "Result":
            return True
        if frame["utterance"] < self._next_utterance:
            return False
        if frame["type"] == "UtteranceEnd":
            self._last_end = frame
            if frame["end"] > frame["start"]:
                self._next_utterance = frame["utterance"] + 1
        return True

    def _acknowledge(self, seq: int) -> None:
        while self._unacknowledged and self._unacknowledged[0].seq <= seq:
            self._unacknowledged.popleft()

    def _read(self, timeout_s: float) -> Frame:
        """The next frame of the server."""
        frame: Frame = json.loads(self._connected().recv(timeout_s))
        if frame["type"] == "Error" and not frame["retryable"]:
            self.close()
            raise ServiceProblem(frame["status"], frame["detail"], frame["expected_seq"], None, frame["problem"])
        if frame["type"] == "Error":
            self._retry_after_s = frame["retry_after_s"] or 0.0
        return frame

    def _begin(self) -> None:
        if self._next_seq is None:  # else it was opened before
            super()._begin()

    def _open(self) -> None:
        connection = self._connect()
        self.begin = self._read(self._timeout_s)
        if self._next_seq is None:
            self._next_seq = self.begin["next_seq"]
        self._acknowledge(self.begin["next_seq"] - 1)
        first = self._unacknowledged[0].seq if self._unacknowledged else self._next_seq
        if self.begin["next_seq"] != first:
            self.close()
            raise ServiceProblem(
                409,
                f"the session goes on with chunk {self.begin['next_seq']}, this stream with {first}: begin another",
                self.begin["next_seq"],
                None,
            )
        for chunk in self._unacknowledged:
            chunk.send(connection)
