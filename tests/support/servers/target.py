"""A server under load: its address, and a chunk as the bytes of a request."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode

import numpy as np

from hetsyn_client.events import HEADER
from hetsyn_client.sources.bodies import encoding_of


class Address(NamedTuple):
    """Address of a server."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port, as in the header ``Host``."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}"


def post(address: Address, path: str, content_type: str, body: bytes) -> bytes:
    """Write a POST request. ``path`` includes the query."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address.authority}\r\n"
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
        return f"DELETE /sessions/{quote(session)} HTTP/1.1\r\nHost: {self.address.authority}\r\n\r\n".encode("ascii")


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
        path = f"/v2/models/{self.model}/versions/{self.version}/infer"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.address.authority}\r\n"
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
