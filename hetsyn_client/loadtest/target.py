"""The server under load: how a chunk becomes a request, and what a response means.

The rest of the package knows no server: it moves bytes. To put another server under the same load, write a ``Target``:

    class Echo:
        address = Address.parse("http://127.0.0.1:9000")

        def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:
            return post(self.address, "/echo", "application/octet-stream", chunk)

        def judge(self, response: Response) -> ChunkOutcome:
            return ChunkOutcome.APPLIED if response.status == 200 else ChunkOutcome.FAILED

        def drop(self, session: str) -> bytes | None:
            return None  # it keeps no sessions

    measurement = asyncio.run(measure(Echo(), load, OpenLoop(streams=100), RunSettings(duration_s=10)))

``PlainTarget`` is such a target for any server that takes a chunk at one path.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

from hetsyn_client.access import Access
from hetsyn_client.errors import InputError


class Response(NamedTuple):
    """A server's response.

    Attributes:
        status: HTTP status.
        body: not decoded.
        retry_after_s: of the header ``Retry-After``, if there is one.
    """

    status: int
    body: bytes
    retry_after_s: float | None


class ChunkOutcome(Enum):
    """What a response means for the stream that sent the chunk."""

    APPLIED = auto()  # the next chunk follows
    REFUSED = auto()  # the server is full; nothing was applied, so the next chunk takes this one's number
    FAILED = auto()  # the session is lost; the next chunk begins another


class Target(Protocol):
    """A server that takes streams of chunks. ``request`` and ``judge`` run once a chunk: keep them cheap."""

    @property
    def address(self) -> Address: ...

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:
        """The whole HTTP/1.1 request, head and body, for a session's chunk number ``seq`` (from 0)."""

    def judge(self, response: Response) -> ChunkOutcome: ...

    def drop(self, session: str) -> bytes | None:
        """The request that deletes an open session; None for a server without sessions."""


@dataclass(frozen=True)
class Address:
    """Address of a server, and what opens it.

    Attributes:
        host: name or IP address.
        port: of TCP.
        is_tls: whether it speaks HTTPS.
        path: prefix of its own paths, such as "" or "/speech".
        headers: of every request. They may have a key, so they are not shown.
        ca_file: certificates to trust in place of the usual ones, PEM.
    """

    host: str
    port: int
    is_tls: bool = False
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    ca_file: Path | None = None

    @staticmethod
    def parse(
        url: str, headers: Mapping[str, str] | None = None, key: str | None = None, ca_file: Path | None = None
    ) -> Address:
        """The address that a URL names.

        Args:
            url: of the server.
            headers: of every request.
            key: sent as ``Authorization: Bearer KEY``.
            ca_file: certificates to trust in place of the usual ones, PEM.

        Raises:
            InputError: not a URL of http or https, or with a query; or one of the others cannot be used.
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
        sent = Access.checked(url, headers, key, ca_file).headers
        port = port or (443 if is_tls else 80)
        return Address(parts.hostname, port, is_tls, parts.path.rstrip("/"), sent, ca_file)

    @property
    def authority(self) -> str:
        """Host and port, as in the header ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.authority}{self.path}"

    @cached_property
    def fields(self) -> str:
        """The lines of a request's head that are the same in each: ``Host``, and the headers."""
        host = {} if any(name.lower() == "host" for name in self.headers) else {"Host": self.authority}
        return "".join(f"{name}: {value}\r\n" for name, value in {**host, **self.headers}.items())

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Of connections to it; None for plain ones."""
        return ssl.create_default_context(cafile=self.ca_file) if self.is_tls else None


def post(address: Address, path: str, content_type: str, body: bytes) -> bytes:
    """A POST request, head and body. ``path`` follows the address's path and includes the query."""
    head = (
        f"POST {address.path}{path} HTTP/1.1\r\n{address.fields}"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class HetsynTarget:
    """``POST /infer`` of ``hetsyn serve``, with raw bodies. Model, version and form go with a session's first chunk.

    Args:
        address: of the server.
        content_type: of the chunks.
        model: name of the model.
        version: of the model.
        form: of the model.

    Attributes:
        address, content_type, model, version, form: see above.
        channels: of the model's spikes; for transports that send a tensor.
        grpc_port: of the same host; for transports that need it.
    """

    channels = 0
    grpc_port = 0

    def __init__(self, address: Address, content_type: str, model: str, version: str, form: str) -> None:
        self.address = address
        self.content_type = content_type
        self.model = model
        self.version = version
        self.form = form
        self._opening = "&" + urlencode({"model": model, "version": version, "form": form})

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool, is_numbered: bool = True) -> bytes:
        number = f"&seq={seq}" if is_numbered else ""
        opening = self._opening if seq == 0 else ""
        end = "&end=true" if is_last else ""
        return post(self.address, f"/infer?session={session}{number}{opening}{end}", self.content_type, chunk)

    def judge(self, response: Response) -> ChunkOutcome:
        if response.status == 200:
            return ChunkOutcome.APPLIED
        if response.status in (429, 503) and response.retry_after_s is not None:
            return ChunkOutcome.REFUSED
        return ChunkOutcome.FAILED

    def drop(self, session: str) -> bytes | None:
        address = self.address
        head = f"DELETE {address.path}/sessions/{quote(session)} HTTP/1.1\r\n{address.fields}\r\n"
        return head.encode("ascii")


class PlainTarget:
    """A server without sessions, which takes every chunk at one path. Any status 2xx is success.

    Args:
        address: of the server.
        path: of the requests, after the address's path.
        content_type: of the chunks.
    """

    def __init__(self, address: Address, path: str, content_type: str) -> None:
        self.address = address
        self._path = path
        self._content_type = content_type

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:  # noqa: ARG002
        return post(self.address, self._path, self._content_type, chunk)

    def judge(self, response: Response) -> ChunkOutcome:
        if 200 <= response.status < 300:
            return ChunkOutcome.APPLIED
        return ChunkOutcome.REFUSED if response.status in (429, 503) else ChunkOutcome.FAILED

    def drop(self, session: str) -> bytes | None:  # noqa: ARG002
        return None
