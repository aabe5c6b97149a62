"""The graph builder: versions that runtimes load, the same bytes every time."""

from __future__ import annotations

import onnx

from export.graphs.build import IR_VERSION, OPSET, GraphBuilder


def built() -> GraphBuilder:
    graph = GraphBuilder("g")
    x = graph.input("x", "float32", ["batch", 3])
    doubled = graph.node("Mul", x, graph.constant(2.0, "float32"))
    again = graph.node("Add", doubled, graph.constant(2.0, "float32"))
    graph.output("y", "float32", ["batch", 3], graph.cast(again, "float32"))
    return graph


def test_versions_are_pinned() -> None:
    model = onnx.load_from_string(built().model())
    assert model.ir_version == IR_VERSION == 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)] == [("", 20)]


def test_bytes_repeat() -> None:
    assert built().model() == built().model()
