"""Backends that answer streams: a server, or this process (``service.commands.in_process``)."""

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
    """One session: the methods of ``LiveStream`` that the commands need."""

    @property
    def begin(self) -> Frame: ...

    @property
    def waits(self) -> bool: ...

    def send_bytes(self, content: bytes) -> list[Frame]: ...

    def receive(self, timeout_s: float) -> list[Frame]: ...

    def wait(self) -> list[Frame]: ...

    def end(self) -> Frame: ...


class Backend(Protocol):
    """Answers streams of one model."""

    def describe(self) -> dict[str, Any]:
        """Describe the model, as ``GET /models/{name}`` does."""
        ...

    def open(self, source: Source, *, endpointing: bool) -> AbstractContextManager[Answers]:
        """Begin a session for the pieces of a source, with or without its utterances."""
        ...


class Server:
    """A server as a backend; ``access`` is ``headers``, ``key`` and ``ca_file`` of ``StreamingClient``."""

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
    def open(self, source: Source, *, endpointing: bool) -> Iterator[Answers]:
        stream = LiveStream(
            self._url,
            model=self._model,
            encoding=source.encoding,
            sample_rate_hz=source.rate_hz,
            channels=source.channels,
            endpointing=endpointing,
            **self._access,
        )
        with _key_by_option(), stream:
            yield stream


@contextmanager
def _key_by_option() -> Iterator[None]:
    """Add to a refusal for a missing key how to give a command one: the server's sentence is about headers."""
    try:
        yield
    except ServiceProblem as error:
        if error.problem not in ("key-refused", "key-scope"):
            raise
        what = "one" if error.problem == "key-refused" else "one that has it"
        detail = f"{error.detail.partition(':')[0]}: give {what} with --key KEY or HETSYN_KEY"
        raise ServiceProblem(error.status, detail, None, None, error.problem) from error
