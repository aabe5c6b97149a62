"""A server under load: its address, and a chunk as the bytes of a request."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

import numpy as np

from hetsyn_client.access import Access
from hetsyn_client.errors import InputError
from hetsyn_client.events import HEADER
from hetsyn_client.sources.bodies import encoding_of


class Response(NamedTuple):
    """A server's response; its body is not decoded."""

    status: int
    body: bytes = b""
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Address:
    """Address of a server, and what opens it: headers of every request, and certificates to trust (PEM)."""

    host: str
    port: int
    is_tls: bool = False
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)  # they may have a key
    ca_file: Path | None = None

    @staticmethod
    def parse(
        url: str, headers: Mapping[str, str] | None = None, key: str | None = None, ca_file: Path | None = None
    ) -> Address:
        """Read the address that a URL names; a key is sent as ``Authorization: Bearer KEY``.

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
    """Write a POST request. ``path`` follows the address's path and includes the query."""
    head = (
        f"POST {address.path}{path} HTTP/1.1\r\n{address.fields}"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class Target(Protocol):
    """A server that takes streams of chunks. ``request`` runs once a chunk: keep it cheap."""

    @property
    def address(self) -> Address: ...

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:
        """Write the whole HTTP/1.1 request of a session's chunk number ``seq`` (from 0)."""

    def drop(self, session: str) -> bytes | None:
        """Write the request that deletes an open session; None for a server without sessions."""


class HetsynTarget:
    """``POST /infer`` of ``hetsyn serve``, with raw bodies. Model and version go with a session's first chunk."""

    channels = 0  # of the model's spikes, for ``OpenInferenceTarget``
    grpc_port = 0  # of the same host, for gRPC

    def __init__(self, address: Address, content_type: str, model: str, version: str) -> None:
        self.address = address
        self.content_type = content_type
        self.model = model
        self.version = version
        self._opening = "&" + urlencode({"model": model, "version": version})

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool, is_numbered: bool = True) -> bytes:
        number = f"&seq={seq}" if is_numbered else "&begin=true" if seq == 0 else ""
        opening = self._opening if seq == 0 else ""
        end = "&end=true" if is_last else ""
        return post(self.address, f"/infer?session={session}{number}{opening}{end}", self.content_type, chunk)

    def drop(self, session: str) -> bytes | None:
        address = self.address
        head = f"DELETE {address.path}/sessions/{quote(session)} HTTP/1.1\r\n{address.fields}\r\n"
        return head.encode("ascii")


class Tensor(NamedTuple):
    """A chunk as the input of the Open Inference Protocol, little endian."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: bytes


class OpenInferenceTarget(HetsynTarget):
    """``POST /v2/models/MODEL/versions/VERSION/infer`` of ``hetsyn serve``, with binary tensors."""

    def __init__(self, address: Address, content_type: str, model: str, version: str) -> None:
        super().__init__(address, content_type, model, version)
        self._encoding = encoding_of(content_type)
        self._tensors: dict[bytes, Tensor] = {}  # the same chunks are sent again and again

    def tensor(self, chunk: bytes) -> Tensor:
        found = self._tensors.get(chunk)
        if found is None:
            found = self._tensors[chunk] = self._made(chunk)
        return found

    def parameters(self, session: str, seq: int, *, is_last: bool, is_numbered: bool) -> dict[str, Any]:
        made: dict[str, Any] = {"sequence_id": session, "sequence_start": seq == 0, "sequence_end": is_last}
        if self._encoding["encoding"] == "pcm_s16le":
            made["sample_rate"] = int(self._encoding["sample_rate"])
        return made | ({"seq": seq} if is_numbered else {})

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool, is_numbered: bool = True) -> bytes:
        name, datatype, shape, content = self.tensor(chunk)
        parameters = self.parameters(session, seq, is_last=is_last, is_numbered=is_numbered)
        size = {"binary_data_size": len(content)}
        described = json.dumps(
            {
                "parameters": {**parameters, "binary_data_output": True},
                "inputs": [{"name": name, "datatype": datatype, "shape": shape, "parameters": size}],
            },
            separators=(",", ":"),
        ).encode()
        path = f"{self.address.path}/v2/models/{self.model}/versions/{self.version}/infer"
        head = (
            f"POST {path} HTTP/1.1\r\n{self.address.fields}"
            f"Inference-Header-Content-Length: {len(described)}\r\n"
            f"Content-Length: {len(described) + len(content)}\r\n\r\n"
        )
        return head.encode("ascii") + described + content

    def _made(self, chunk: bytes) -> Tensor:
        if self._encoding["encoding"] == "pcm_s16le":
            return Tensor("audio", "INT16", (len(chunk) // 2,), chunk)
        if self._encoding["encoding"] == "values":
            channels = int(self._encoding["channels"])
            return Tensor("values", "FP32", (len(chunk) // (4 * channels), channels), chunk)
        _, steps, count = HEADER.unpack_from(chunk)
        times, units = np.frombuffer(chunk, "<u2", 2 * count, HEADER.size).reshape(2, count)
        rows = np.zeros((steps, self.channels), np.uint8)
        rows[times, units] = 1
        return Tensor("spikes", "BOOL", rows.shape, rows.tobytes())
