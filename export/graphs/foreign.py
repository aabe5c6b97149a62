"""Checks a foreign graph, of torch or of an ONNX file: it must be deterministic and finite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.folder import ExportError

RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}


def check_nodes(model: onnx.ModelProto) -> None:
    """Check that a graph is deterministic and finite.

    Raises:
        ExportError: a node draws random numbers, or a weight is NaN.
    """
    for graph in _graphs(model):
        for node in graph.node:
            if node.op_type in RANDOM and node.domain in ("", "ai.onnx"):
                raise ExportError(
                    f"the step draws random numbers ({node.op_type}): take them out, or make them part of the input"
                )
        for tensor in graph.initializer:
            if np.isnan(_floats(tensor)).any():
                raise ExportError(f"weight {tensor.name} is NaN: load weights of a training that did not diverge")


def _floats(tensor: onnx.TensorProto) -> NDArray[np.floating]:
    array = numpy_helper.to_array(tensor)
    return array if array.dtype.kind == "f" else np.zeros(0)


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield the graph, its nodes' subgraphs, and the functions' subgraphs."""
    waiting: list[Sequence[onnx.NodeProto]] = [function.node for function in model.functions]
    yield model.graph
    waiting.append(model.graph.node)
    while waiting:
        for node in waiting.pop():
            for attribute in node.attribute:
                for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    yield graph
                    waiting.append(graph.node)
