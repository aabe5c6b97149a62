"""The Open Inference Protocol under load, over HTTP: a chunk is a raw tensor, and its number a parameter."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from hetsyn_client.events import HEADER
from hetsyn_client.loadtest.stream_pool import encoding_of
from hetsyn_client.loadtest.target import Address, HetsynTarget


class Tensor(NamedTuple):
    """A chunk as the protocol's input.

    Attributes:
        name: of the input.
        datatype: of the protocol.
        shape: of the data.
        content: the data, little endian.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: bytes


class OpenInferenceTarget(HetsynTarget):
    """``POST /v2/models/MODEL/versions/VERSION/infer`` of ``hetsyn serve``. Arguments as ``HetsynTarget``."""

    def __init__(self, address: Address, content_type: str, model: str, version: str, form: str) -> None:
        super().__init__(address, content_type, model, version, form)
        self._encoding = encoding_of(content_type)
        self._tensors: dict[bytes, Tensor] = {}

    def tensor(self, chunk: bytes) -> Tensor:
        """The tensor of a chunk, which is made once: the same chunks are sent again and again."""
        found = self._tensors.get(chunk)
        if found is None:
            found = self._tensors[chunk] = self._made(chunk)
        return found

    def parameters(self, session: str, seq: int, *, is_last: bool, is_numbered: bool) -> dict[str, Any]:
        """Those of a request."""
        made: dict[str, Any] = {"sequence_id": session, "sequence_start": seq == 0, "sequence_end": is_last}
        if self._encoding["encoding"] == "pcm_s16le":
            made["sample_rate"] = int(self._encoding["sample_rate"])
        return made | ({"form": self.form} if seq == 0 else {}) | ({"seq": seq} if is_numbered else {})

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool, is_numbered: bool = True) -> bytes:
        name, datatype, shape, content = self.tensor(chunk)
        described = json.dumps(
            {
                "parameters": {
                    **self.parameters(session, seq, is_last=is_last, is_numbered=is_numbered),
                    "binary_data_output": True,
                },
                "inputs": [
                    {
                        "name": name,
                        "datatype": datatype,
                        "shape": shape,
                        "parameters": {"binary_data_size": len(content)},
                    }
                ],
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
