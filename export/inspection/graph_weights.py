"""Reads the tensors of an ONNX file without ONNX Runtime, by protobuf's framing."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import ArtifactError
from service.runtime.graph_file import BYTES, FIXED32, FIXED64, VARINT, check_graph_file, read_varint

MODEL_GRAPH, GRAPH_INITIALIZER = 7, 5  # fields of ModelProto and GraphProto
DIMS, DATA_TYPE, NAME, RAW_DATA = 1, 2, 8, 9  # of TensorProto
DTYPES = {1: "<f4", 2: "u1", 3: "i1", 5: "<i2", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}


def read_tensors(content: bytes) -> dict[str, NDArray[Any]]:
    """Read the constants of a graph by name. Leaves out tensors that are not raw bytes.

    Raises:
        ArtifactError: the content is no ONNX file, or damaged.
    """
    check_graph_file(content)
    tensors: dict[str, NDArray[Any]] = {}
    for number, graph in fields_of(content):
        for inner, tensor in fields_of(graph) if number == MODEL_GRAPH and isinstance(graph, bytes) else ():
            if inner == GRAPH_INITIALIZER and isinstance(tensor, bytes):
                name, array = _tensor(tensor)
                if array is not None:
                    tensors[name] = array
    return tensors


def _tensor(content: bytes) -> tuple[str, NDArray[Any] | None]:
    name, kind, raw, dims = "", 0, b"", list[int]()
    for number, value in fields_of(content):
        if number == DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == DATA_TYPE and isinstance(value, int):
            kind = value
        elif number == NAME and isinstance(value, bytes):
            name = value.decode(errors="replace")
        elif number == RAW_DATA and isinstance(value, bytes):
            raw = value
    dtype = np.dtype(DTYPES.get(kind, "V0"))
    if not dtype.itemsize or prod(dims) * dtype.itemsize != len(raw):
        return name, None
    return name, np.frombuffer(raw, dtype).reshape(dims)


def _packed(content: bytes) -> list[int]:
    values, at = [], 0
    while at < len(content):
        value, at = read_varint(content, at, len(content))
        values.append(value)
    return values


def fields_of(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a message that ``check_graph_file`` has checked."""
    at, end = 0, len(content)
    while at < end:
        tag, at = read_varint(content, at, end)
        framing = tag & 7
        if framing == VARINT:
            value, at = read_varint(content, at, end)
            yield tag >> 3, value
        elif framing == BYTES:
            length, at = read_varint(content, at, end)
            yield tag >> 3, content[at : at + length]
            at += length
        elif framing in (FIXED64, FIXED32):
            at += 8 if framing == FIXED64 else 4
        else:
            raise ArtifactError("cannot read the graph: it is damaged: export the model again")
