"""What answers a stream: a server, or this process (``service.commands.in_process``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from hetsyn_client.client import StreamingClient
from hetsyn_client.errors import ServiceProblem
from hetsyn_client.live import LiveStream
from hetsyn_client.terminal.source import Source

Frame = dict[str, Any]


class Answers(Protocol):
    """One session. Its frames are those of ``WS /stream``: Result, SpeechStarted, UtteranceEnd.

    Attributes:
        begin: the first frame of the server.
    """

    @property
    def begin(self) -> Frame: ...

    @property
    def waits(self) -> bool:
        """Whether a chunk is not answered yet."""
        ...

    def send(self, content: bytes) -> list[Frame]:
        """Send a chunk; the frames that have come meanwhile."""
        ...

    def receive(self, timeout_s: float) -> list[Frame]:
        """The frames that come within a time."""
        ...

    def end(self) -> list[Frame]:
        """End the session; all frames that are left, the last of them the end of the last utterance."""
        ...


class Backend(Protocol):
    """What answers streams of one model."""

    def describe(self) -> dict[str, Any]:
        """The model, as ``GET /models/{name}`` describes it."""
        ...

    def open(self, source: Source, *, endpointing: bool, spikes: bool) -> AbstractContextManager[Answers]:
        """Begin a session.

        Args:
            source: of which the pieces will be sent.
            endpointing: whether utterances are found in it.
            spikes: whether the results should have the spikes of each layer.
        """
        ...


class Server:
    """A server as a backend.

    Args:
        url: of the server.
        model: by default the server's default model.
        access: ``headers``, ``key`` and ``ca_file``, as of ``StreamingClient``.
    """

    def __init__(self, url: str, model: str | None, **access: Any) -> None:
        self._url = url
        self._model = model
        self._access = access

    def describe(self) -> dict[str, Any]:
        with _key_by_option(), StreamingClient(self._url, **self._access) as client:
            described = client.describe(self._model)
        self._model = described["name"]
        return described

    @contextmanager
    def open(self, source: Source, *, endpointing: bool, spikes: bool) -> Iterator[Answers]:
        stream = LiveStream(
            self._url,
            model=self._model,
            encoding=source.encoding,
            sample_rate_hz=source.rate_hz,
            channels=source.channels,
            endpointing=endpointing,
            spikes=spikes,
            **self._access,
        )
        with _key_by_option(), stream:
            yield _ServerAnswers(stream)


@contextmanager
def _key_by_option() -> Iterator[None]:
    """Where the server refuses a key, say how a command is given one: the server speaks of headers and its operator."""
    try:
        yield
    except ServiceProblem as error:
        if error.problem not in ("key-refused", "key-scope"):
            raise
        what = "one" if error.problem == "key-refused" else "one that has it"
        detail = f"{error.detail.partition(':')[0]}: give {what} with --key KEY or HETSYN_KEY"
        raise ServiceProblem(error.status, detail, None, None, error.problem) from error


class _ServerAnswers:
    """``LiveStream`` as ``Answers``."""

    def __init__(self, stream: LiveStream) -> None:
        self._stream = stream
        self._ends: set[int] = set()  # numbers of the utterances whose end was told

    @property
    def begin(self) -> Frame:
        return self._stream.begin

    @property
    def waits(self) -> bool:
        return self._stream.waits

    def send(self, content: bytes) -> list[Frame]:
        return self._noted(self._stream.send_bytes(content))

    def receive(self, timeout_s: float) -> list[Frame]:
        return self._noted(self._stream.receive(timeout_s))

    def end(self) -> list[Frame]:
        frames = self._noted(self._stream.wait())
        last = self._stream.end()
        frames += self._noted(self._stream.wait())
        if last and last["utterance"] not in self._ends:
            frames.append(last)
        return frames

    def _noted(self, frames: list[Frame]) -> list[Frame]:
        self._ends |= {frame["utterance"] for frame in frames if frame["type"] == "UtteranceEnd"}
        return frames
