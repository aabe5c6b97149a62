"""What is under load: how a chunk becomes a request, and what a response means.

The rest of the package knows nothing of the server: it moves bytes. To put another server under the same
load, write a ``Target`` for it:

    class Echo:
        address = Address.parse("http://127.0.0.1:9000")

        def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:
            return post(self.address, "/echo", "application/octet-stream", chunk)

        def judge(self, response: Response) -> Outcome:
            return Outcome.APPLIED if response.status == 200 else Outcome.FAILED

        def drop(self, session: str) -> bytes | None:
            return None  # it keeps no sessions

    measurement = asyncio.run(measure(Echo(), load, OpenLoop(streams=100), RunSettings(duration_s=10)))

``PlainTarget`` is such a target for any server that takes a chunk at one path.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

from hetsyn_client.errors import InputError


class Response(NamedTuple):
    """retry_after_s: what the server said of when to try again, if anything."""

    status: int
    body: bytes
    retry_after_s: float | None


class Outcome(Enum):
    """What a response means to the stream that sent the chunk."""

    APPLIED = auto()  # the next chunk follows
    REFUSED = auto()  # the server is full; nothing was applied, so the next chunk takes this one's number
    FAILED = auto()  # the session is lost; the next chunk begins another


class Target(Protocol):
    """A server that streams of chunks go to. ``request`` and ``judge`` run once a chunk: keep them cheap."""

    @property
    def address(self) -> Address: ...

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:
        """The whole HTTP/1.1 request, head and body, for a session's chunk number ``seq`` (from 0)."""

    def judge(self, response: Response) -> Outcome: ...

    def drop(self, session: str) -> bytes | None:
        """The request that removes a session which was left open; None where there is nothing to remove."""


@dataclass(frozen=True)
class Address:
    """Where a server listens. path: what comes before its own paths, as "" or "/speech"."""

    host: str
    port: int
    is_tls: bool = False
    path: str = ""

    @staticmethod
    def parse(url: str) -> Address:
        """
        Raises:
            InputError: not a URL of http or https, or with a query.
        """
        hint = f"{url!r} is not the address of a server: write http://HOST:PORT"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InputError(hint) from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InputError(hint)
        is_tls = parts.scheme == "https"
        return Address(parts.hostname, port or (443 if is_tls else 80), is_tls, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.authority}{self.path}"


def post(address: Address, path: str, content_type: str, body: bytes) -> bytes:
    """A POST request. path: with its query, below the address's."""
    head = (
        f"POST {address.path}{path} HTTP/1.1\r\nHost: {address.authority}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class HetsynTarget:
    """``POST /infer`` of ``hetsyn serve``, with raw bodies. Model, version and form go with a session's first chunk."""

    def __init__(self, address: Address, content_type: str, model: str, version: str, form: str) -> None:
        self.address = address
        self._content_type = content_type
        self._opening = "&" + urlencode({"model": model, "version": version, "form": form})

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool, is_numbered: bool = True) -> bytes:
        number = f"&seq={seq}" if is_numbered else ""
        opening = self._opening if seq == 0 else ""
        end = "&end=true" if is_last else ""
        return post(self.address, f"/infer?session={session}{number}{opening}{end}", self._content_type, chunk)

    def judge(self, response: Response) -> Outcome:
        if response.status == 200:
            return Outcome.APPLIED
        if response.status == 503 and response.retry_after_s is not None:
            return Outcome.REFUSED
        return Outcome.FAILED

    def drop(self, session: str) -> bytes | None:
        address = self.address
        head = f"DELETE {address.path}/sessions/{quote(session)} HTTP/1.1\r\nHost: {address.authority}\r\n\r\n"
        return head.encode("ascii")


class PlainTarget:
    """Every chunk to one path of a server that keeps no sessions; any 2xx is fine."""

    def __init__(self, address: Address, path: str, content_type: str) -> None:
        self.address = address
        self._path = path
        self._content_type = content_type

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:  # noqa: ARG002
        return post(self.address, self._path, self._content_type, chunk)

    def judge(self, response: Response) -> Outcome:
        if 200 <= response.status < 300:
            return Outcome.APPLIED
        return Outcome.REFUSED if response.status in (429, 503) else Outcome.FAILED

    def drop(self, session: str) -> bytes | None:  # noqa: ARG002
        return None
