"""What a chunk's input brings to the first layer, in ONNX: events, or values (``hetsyn_model/values.py``)."""

from __future__ import annotations

from export.build import GraphBuilder
from hetsyn_model.values import alignment
from service.contract.graph_io import EVENT_ROW, EVENT_UNIT, STEPS, VALUES


def event_drive(graph: GraphBuilder, weight: str | None, width: int, scanned: str) -> str:
    """The sum of the rows of each step's events, [batch, scanned, width].

    Args:
        graph: that gets the nodes.
        weight: [channels, width], a bank's; None for the exact form, whose drive is the spikes themselves.
        width: columns of the weight, or channels.
        scanned: int64, steps of the result.
    """
    if weight is not None:
        arrived = graph.node("Gather", weight, EVENT_UNIT)
        index = graph.unsqueeze(EVENT_ROW, 1)
    else:
        arrived = graph.node("Expand", graph.constant(1.0, "float32"), graph.size_of(EVENT_UNIT, 0))
        index = graph.node("Concat", graph.unsqueeze(EVENT_ROW, 1), graph.unsqueeze(EVENT_UNIT, 1), axis=1)
    batch, length, columns = graph.size_of(STEPS, 0), graph.unsqueeze(scanned, 0), graph.constant([width], "int64")
    blank = graph.node("ConstantOfShape", graph.node("Concat", graph.node("Mul", batch, length), columns, axis=0))
    scattered = graph.node("ScatterND", blank, index, arrived, reduction="add")
    return str(graph.node("Reshape", scattered, graph.node("Concat", batch, length, columns, axis=0)))


def padded_values(graph: GraphBuilder, channels: int, longest: str, scanned: str) -> str:
    """The values [batch, scanned, channels]: none may have come."""
    missing = graph.unsqueeze(graph.node("Sub", scanned, longest), 0)
    shape = graph.node("Concat", graph.size_of(STEPS, 0), missing, graph.constant([channels], "int64"), axis=0)
    return str(graph.node("Concat", VALUES, graph.node("ConstantOfShape", shape), axis=1))


def values_drive(graph: GraphBuilder, values: str, channels: int, weight: str, bias: str | None) -> str:
    """The drive of a bank, [batch, scanned, columns].

    Args:
        graph: that gets the nodes.
        values: [batch, scanned, channels].
        channels: of the values.
        weight: [channels, columns].
        bias: [columns]; None without.
    """
    wide = graph.cast(values, "float64")
    largest = graph.node("ReduceMax", graph.node("Abs", wide), graph.constant([-1], "int64"), keepdims=1)
    s = graph.node("Mul", largest, graph.constant(alignment(channels), "float64"))
    aligned = graph.node("Sub", graph.node("Add", s, wide), s)
    drive = graph.cast(graph.node("MatMul", aligned, graph.cast(weight, "float64")), "float32")
    return drive if bias is None else str(graph.node("Add", drive, graph.reshape(bias, [-1])))
