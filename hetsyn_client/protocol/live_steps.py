"""Sends the chunks of a session over one WebSocket, and reads the server's frames. Pure: it yields ``steps``."""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.access import Access
from hetsyn_client.errors import InputError, ServiceProblem
from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.protocol.calls import Calls, check_names
from hetsyn_client.protocol.reconnecting import ConnectionOptions, Frame, Reconnecting
from hetsyn_client.protocol.steps import Broken, R, Steps, target
from hetsyn_client.results import Classified
from hetsyn_client.sources.bodies import Body, Encoding, Matrix, events_body, packed_samples
from hetsyn_client.values import rows_of

TOLD = ("Result", "SpeechStarted", "UtteranceEnd")  # types of frames that callers get


class LiveOptions(ConnectionOptions, total=False):
    """Options of a stream: ``ConnectionOptions``, and these.

    Attributes:
        channels: channels of sound, by default 1; or numbers of a row of values.
        encoding: encoding of the frames; by default 16-bit samples with ``sample_rate_hz``, values with ``channels``,
            else events.
        session: id of a session, to begin it or to go on with it; by default a new one.
        interim: each chunk has a result; else only the utterances have one.
        endpointing: the server finds utterances; by default as the model says. As a dict: settings, such as
            ``{"silence_s": 0.3}`` (docs/reference/streams.md).
        spikes: each result has the chunk's spikes, of the input and of the hidden layers.
        timing: each result has the server's time by part.
    """

    sample_rate_hz: int | None
    channels: int | None
    encoding: Encoding | None
    session: str | None
    interim: bool
    endpointing: bool | dict[str, float] | None
    spikes: bool
    timing: bool


class SentChunk(NamedTuple):
    """An unacknowledged chunk, with the settings to send before it."""

    seq: int
    content: bytes
    settings: dict[str, float]


class LiveSteps(Reconnecting):
    """The steps of one stream.

    Attributes:
        seq: number of the next chunk; None before the stream is open.
        begin: the last ``Begin`` of the server.
    """

    def __init__(self, access: Access, options: LiveOptions) -> None:
        check_names(options, LiveOptions.__optional_keys__)
        encoding, rate_hz, channels = (options.get(name) for name in ("encoding", "sample_rate_hz", "channels"))
        if encoding is None:
            if rate_hz is not None and channels is not None:
                raise InputError("a stream is sound or values: give sample_rate_hz or channels, not both, or encoding")
            encoding = "pcm_s16le" if rate_hz is not None else "events" if channels is None else "values"
        self.id = options.get("session") or secrets.token_urlsafe(16)
        self.seq: int | None = None
        self.begin: Frame = {}
        self._kind = cast(Encoding, encoding)
        self._channels = cast(int, channels or 1)
        endpointing = options.get("endpointing")
        query = {
            "session": self.id, "model": options.get("model"), "version": options.get("version"),
            "encoding": self._kind, "sample_rate": rate_hz, "channels": channels,
            "interim": None if options.get("interim", True) else "false",
            "endpointing": None if endpointing is None else "off" if endpointing is False else "on",
            "spikes": options.get("spikes") or None, "timing": options.get("timing") or None,
        }  # fmt: skip
        super().__init__(access.url, target("/stream", query), options)
        self._unacknowledged: deque[SentChunk] = deque()
        self._late: list[Frame] = []  # frames before the last end
        self._settings = dict(endpointing) if isinstance(endpointing, dict) else {}  # for the next chunk
        self._next_utterance = 0
        self._last_end: Frame | None = None

    @property
    def waits(self) -> bool:
        """Return whether a chunk is not acknowledged yet."""
        return bool(self._unacknowledged)

    @property
    def _resumes(self) -> bool:
        first = self._unacknowledged[0].seq if self._unacknowledged else self.seq
        return bool(first)

    def samples(self, samples: NDArray[Any]) -> bytes:
        """Pack samples as the stream takes them; InputError if it takes others."""
        if self._kind not in ("pcm_s16le", "pcm_s24le", "pcm_f32le"):
            raise InputError(f"this stream is one of {self._kind}: open another one, with sample_rate_hz, for samples")
        return packed_samples(np.asarray(samples), self._kind, self._channels)

    def events(self, steps: int, times: NDArray[np.int64], units: NDArray[np.int64]) -> bytes:
        """Pack spikes; InputError if the stream takes something else."""
        self._check("events")
        return events_body(steps, times, units).content

    def values(self, values: Matrix) -> bytes:
        """Pack rows of values; InputError if the stream takes something else."""
        self._check("values")
        return rows_of(values, self._channels).astype("<f4").tobytes()

    def _check(self, kind: str) -> None:
        if kind != self._kind:
            raise InputError(f"this stream is one of {self._kind}: open another one for {kind}")

    def close(self) -> Steps[None]:
        yield from self._close()

    def configure(self, settings: Mapping[str, float]) -> None:
        self._settings |= settings

    def begin_once(self) -> Steps[None]:
        if self.seq is None:  # else it was opened before
            yield from self._begin_once()

    def send(self, content: bytes) -> Steps[list[Frame]]:
        """Send a chunk, and return the frames that have come meanwhile."""
        if self.seq is None:
            yield from self._begin_once()
            assert self.seq is not None
        results: list[Frame] = []
        is_first = not self._unacknowledged  # no result can have come yet
        if len(self._unacknowledged) >= self.begin["max_inflight"]:
            results = yield from self._results(self._timeout_s, unacknowledged=self.begin["max_inflight"] - 1)
        chunk = SentChunk(self.seq, content, self._settings)
        self._settings = {}
        self._unacknowledged.append(chunk)
        self.seq += 1
        try:
            yield from self._send_chunk(chunk)
        except Broken as error:
            yield from self._reopen(error)
        return results if is_first else results + (yield from self._results(0))

    def receive(self, timeout_s: float) -> Steps[list[Frame]]:
        """Return the frames that come within a time."""
        late, self._late = self._late, []
        try:
            frame = yield from self._read(timeout_s)
        except Broken as error:
            yield from self._reopen(error)
            return late
        if frame is None:
            return late
        return late + self._told(frame) + (yield from self._results(0))

    def wait(self) -> Steps[list[Frame]]:
        """Wait until all chunks are acknowledged, and return the frames that come."""
        results = yield from self._results(self._timeout_s)
        late, self._late = self._late, []
        return late + results

    def finalize(self) -> Steps[list[Frame]]:
        """End the utterance, and return the frames up to its end."""
        yield from self.begin_once()
        frames = yield from self.wait()
        while True:
            before = self._next_utterance
            try:
                yield from self._send_frame(json.dumps({"type": "Finalize"}))
                while True:
                    frame = cast(Frame, (yield from self._awaited()))
                    if self._is_news(frame):
                        frames.append(frame)
                    if frame.get("trigger") == "forced" and frame["utterance"] >= before:
                        return frames
            except Broken as error:
                yield from self._reopen(error)
                if self._last_end is not None and self._last_end["utterance"] >= before:
                    return [*frames, self._last_end]  # only the answer was lost

    def end(self) -> Steps[Frame]:
        """End the session, and return the end of its last utterance."""
        yield from self.begin_once()
        self._late = yield from self.wait()
        if not self.seq:
            raise InputError("the session has no chunk yet: send one before you end it")
        final: Frame | None = None
        while True:
            try:
                yield from self._send_frame(json.dumps({"type": "CloseStream", "last_seq": self.seq - 1}))
                while True:
                    frame = cast(Frame, (yield from self._awaited()))
                    if frame["type"] == "UtteranceEnd":
                        self._late += [final] if final else []
                        final = frame
                    elif frame["type"] == "Termination":
                        yield from self._close()
                        return final or self._last_end or {}  # an utterance may have ended with the last chunk
            except Broken as error:
                if final is not None:
                    return final
                try:
                    yield from self._reopen(error)
                except ServiceProblem as problem:
                    if problem.problem != "session-ended":
                        raise
                    # only the answer was lost
                    return (yield from self._final_of_ended())

    def _final_of_ended(self) -> Steps[Frame]:
        """Ask for the end of the last utterance of a session that has ended: the server keeps it for a while."""
        calls = Calls(self._url, self._repeats)
        query = {"session": self.id, "seq": self.seq, "end": True}
        reply = calls.read((yield from calls.post_chunk(query, Body(b"", EVENTS_TYPE), is_repeatable=True)).content)
        ends = [event for event in reply.get("events", ()) if event["type"] == "UtteranceEnd"]
        if ends:
            return dict(ends[-1])
        said = {name: reply[name] for name in Classified.__annotations__ if name in reply}
        end = reply["total_steps"] * self.begin["step_ms"] / 1000
        return {"type": "UtteranceEnd", "utterance": 0, "start": 0.0, "end": end, **said, "trigger": "end"}

    def _send_chunk(self, chunk: SentChunk) -> Steps[None]:
        if chunk.settings:
            yield from self._send_frame(json.dumps({"type": "Configure", "endpointing": chunk.settings}))
        yield from self._send_frame(chunk.content)

    def _results(self, timeout_s: float, *, unacknowledged: int = 0) -> Steps[list[Frame]]:
        """Return the results that come until at most ``unacknowledged`` chunks are not acknowledged.

        With a time of 0 it does not wait: it returns those that have come.
        """
        results: list[Frame] = []
        while len(self._unacknowledged) > unacknowledged:
            try:
                frame = yield from (self._awaited() if timeout_s else self._read(0))
            except Broken as error:
                yield from self._reopen(error)
                continue
            if frame is None:
                break
            results += self._told(frame)
        return results

    def _told(self, read: bytes | Frame) -> list[Frame]:
        """Note a frame, and return it if callers get it."""
        frame = cast(Frame, read)
        if frame["type"] in ("Result", "Ack"):
            self._patience.answered()
            self._acknowledge(frame["seq"])
        return [frame] if self._is_news(frame) else []

    def _is_news(self, frame: Frame) -> bool:
        """Return whether the caller has not had the frame: after a break, the server repeats utterances' events."""
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

    def _open(self) -> Steps[None]:
        self.begin = begin = yield from self._begun()
        if self.seq is None:
            self.seq = begin["next_seq"]
        self._acknowledge(begin["next_seq"] - 1)
        first = self._unacknowledged[0].seq if self._unacknowledged else self.seq
        if begin["next_seq"] != first:
            yield from self._close()
            raise ServiceProblem(
                409,
                f"the session goes on with chunk {begin['next_seq']}, this stream with {first}: begin another",
                begin["next_seq"],
                None,
            )
        for chunk in self._unacknowledged:
            yield from self._send_chunk(chunk)


class SteppedStream(Generic[R]):
    """Base of both streams: ``run`` carries out steps, and returns the frames or an awaitable."""

    def __init__(self, steps: LiveSteps, run: Callable[[Steps[list[Frame]]], R]) -> None:
        self._steps = steps
        self._run = run

    @property
    def id(self) -> str:
        """Return its id on the server."""
        return self._steps.id

    @property
    def seq(self) -> int | None:
        """Return the number of the next chunk; None before the stream is open."""
        return self._steps.seq

    @property
    def begin(self) -> Frame:
        """Return the last ``Begin`` of the server."""
        return self._steps.begin

    @property
    def waits(self) -> bool:
        """Return whether a chunk is not acknowledged yet."""
        return self._steps.waits

    def configure(self, **settings: float) -> None:
        """Change settings of the endpointer, such as ``silence_s=0.3``, from the next chunk on."""
        self._steps.configure(settings)

    def send(self, samples: NDArray[Any]) -> R:
        """Send samples of encoding ``pcm_s16le``, ``pcm_s24le`` or ``pcm_f32le``.

        Args:
            samples: whole numbers of 16 or 24 bits, or floats from -1 to 1 for ``pcm_f32le``: [n], or [n, channels].

        Returns:
            The results that have come meanwhile: frames of type ``Result``, ``SpeechStarted`` and ``UtteranceEnd``. It
            waits for results if too many chunks are unacknowledged.
        """
        return self.send_bytes(self._steps.samples(samples))

    def send_bytes(self, content: bytes) -> R:
        """Send bytes of the stream's encoding, as ``send``.

        They are whole samples, a chunk of packed events, or rows of values.
        """
        return self._run(self._steps.send(content))

    def send_events(self, steps: int, times: NDArray[np.int64], units: NDArray[np.int64]) -> R:
        """Send the spikes of ``steps`` network steps: ``times`` [spikes] and ``units`` [spikes]; as ``send``."""
        return self.send_bytes(self._steps.events(steps, times, units))

    def send_values(self, values: Matrix) -> R:
        """Send rows of values, an array or lists [steps, channels]; as ``send``."""
        return self.send_bytes(self._steps.values(values))

    def finalize(self) -> R:
        """End the utterance after all chunks before.

        Returns:
            The frames of ``wait``, and last the end of the utterance, with ``trigger`` "forced".
        """
        return self._run(self._steps.finalize())

    def receive(self, timeout_s: float) -> R:
        """Wait for the first result up to a time, and return all that have come."""
        return self._run(self._steps.receive(timeout_s))

    def wait(self) -> R:
        """Wait until all chunks are acknowledged, and return the results that come.

        If the connection broke, the results of some chunks may be lost. The chunks are not.
        """
        return self._run(self._steps.wait())
