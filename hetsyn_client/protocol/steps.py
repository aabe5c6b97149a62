"""The steps of a client on the network, as values.

The rules of ``calls``, ``session_steps``, ``live_steps`` and ``many`` are generators that yield these steps;
``transport`` (blocking) and ``async_transport`` (asyncio) carry them out. So the rules are written once, without
threads or event loops, and are tested without a network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlencode

T = TypeVar("T")
R = TypeVar("R")  # a method's result, or an awaitable of it


class Headers(Protocol):
    """Headers of a response, in any case."""

    def get(self, name: str, default: str, /) -> str: ...


class Response(NamedTuple):
    """The answer to a ``Request``; ``reason`` is the phrase of the status."""

    status: int
    reason: str
    headers: Headers
    content: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """Send a request; answered by ``Response``, or by ``Broken``. ``target`` is path and query."""

    method: str
    target: str
    content: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_headers(self) -> dict[str, str]:
        """Return the headers, the content type among them."""
        return {**self.headers, **({} if self.content_type is None else {"Content-Type": self.content_type})}


class Pause(NamedTuple):
    """Wait."""

    seconds: float


class Now(NamedTuple):
    """Tell the time, in seconds of a clock that never goes back."""


class OpenSocket(NamedTuple):
    """Open a WebSocket at this path and query; answered by a socket, or by ``Broken``."""

    target: str


class SendFrame(NamedTuple):
    """Send a frame, binary or of text; ``Broken`` if the connection is gone."""

    socket: Any
    content: bytes | str


class ReadFrame(NamedTuple):
    """Read a frame; answered by its content, by None if none comes in time, or by ``Broken``."""

    socket: Any
    timeout_s: float


class CloseSocket(NamedTuple):
    """Close a WebSocket. It never fails."""

    socket: Any


Step = Request | Pause | Now | OpenSocket | SendFrame | ReadFrame | CloseSocket
Steps = Generator[Step, Any, T]
"""Steps that end with a result."""


class Carrier(ABC):
    """Base of both transports. Its methods carry out a step each: one returns answers, the other awaitables of them."""

    def _do(self, step: Step) -> Any:
        # a chunk takes three of the first two steps; ``match`` would take twice as long
        if isinstance(step, ReadFrame):
            return self._read(step.socket, step.timeout_s)
        if isinstance(step, SendFrame):
            return self._sent(step.socket, step.content)
        if isinstance(step, Request):
            return self.exchange(step)
        if isinstance(step, Pause):
            return self._sleep(step.seconds)
        if isinstance(step, OpenSocket):
            return self._opened(step.target)
        if isinstance(step, Now):
            return self._now()
        return self._closed(step.socket)

    _sleep: Callable[[float], Any]

    @abstractmethod
    def exchange(self, request: Request) -> Any: ...

    @abstractmethod
    def _now(self) -> Any: ...

    @abstractmethod
    def _opened(self, target: str) -> Any: ...

    @abstractmethod
    def _closed(self, socket: Any) -> Any: ...

    @abstractmethod
    def _sent(self, socket: Any, content: bytes | str) -> Any: ...

    @abstractmethod
    def _read(self, socket: Any, timeout_s: float) -> Any: ...


class Broken(Exception):
    """There is no answer.

    Attributes:
        waited_s: seconds of waiting for it.
        status: the server's status when it refused a WebSocket.
        retry_after_s: seconds to wait before the next try, if the server named them.
    """

    def __init__(
        self,
        reason: str,
        *,
        waited_s: float = 0.0,
        status: int | None = None,
        retry_after_s: float | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(reason)
        self.waited_s = waited_s
        self.status = status
        self.retry_after_s = retry_after_s
        self.body = body


def target(path: str, query: Mapping[str, Any]) -> str:
    """Write a path with a query, without the parameters that are None."""
    named = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in query.items()
        if value is not None
    }
    return f"{path}?{urlencode(named)}" if named else path


def retry_after_s(headers: Headers) -> float | None:
    """Read the seconds of ``Retry-After``; None if there is none, or if it is a date."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


async def carried_out(steps: Steps[T], do: Callable[[Step], Awaitable[Any]]) -> T:
    """Carry out steps to their result, or to their error. ``do`` carries out one, and may raise ``Broken``."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await do(step)
            except Broken as broken:
                step = steps.throw(broken)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()
