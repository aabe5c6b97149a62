"""The level-crossing encoder as an ONNX graph in float64, after ``hetsyn_model/encoders/level_crossing.py``.

The contract of names and shapes is in ``service/contract/graph_io.py``.
"""

from __future__ import annotations

import numpy as np

from export.graphs.build import GraphBuilder
from hetsyn_model.encoders.level_crossing import BELOW_ALL, LevelCrossingSpec
from service.contract.graph_io import (
    EVENT_ROW,
    EVENT_UNIT,
    STEPS,
    VALUES,
    encoder_inputs,
    encoder_outputs,
    next_name,
    state_name,
)
from service.contract.manifest import TensorDescription

LEVEL = "encoder.level"


def level_crossing_state(spec: LevelCrossingSpec) -> tuple[TensorDescription, ...]:
    """Return the encoder's state tensors of one stream, before any row."""
    return (TensorDescription(name=LEVEL, shape=(spec.inputs,), dtype="float64", initial=BELOW_ALL),)


def level_crossing_graph(spec: LevelCrossingSpec) -> bytes:
    """Make the encoder as a serialised ONNX model."""
    graph, state = GraphBuilder("encoder"), level_crossing_state(spec)
    for name, (dtype, shape) in encoder_inputs(state, spec.inputs).items():
        graph.input(name, dtype, shape)

    def one(value: int) -> str:
        return graph.constant(value, "int64")

    longest = graph.node("ReduceMax", STEPS, keepdims=0)
    index = graph.node("Range", one(0), longest, one(1))
    active = graph.node("Less", graph.unsqueeze(index, 0), graph.unsqueeze(STEPS, 1))
    moved = graph.node("Sub", graph.cast(VALUES, "float64"), graph.constant(np.array(spec.offset), "float64", "offset"))
    y = graph.node("Mul", moved, graph.constant(np.array(spec.scale), "float64", "scale"))
    all_y = graph.node("Concat", graph.unsqueeze(state_name(LEVEL), 1), y, axis=1)
    above = graph.node("Greater", graph.unsqueeze(all_y, 3), graph.constant(spec.thresholds(), name="thresholds"))
    now = graph.node(
        "Slice", above, graph.constant([1], "int64"), graph.constant([2**62], "int64"), graph.constant([1], "int64")
    )
    before = graph.node(
        "Slice", above, graph.constant([0], "int64"), graph.constant([-1], "int64"), graph.constant([1], "int64")
    )
    crossed = graph.node(
        "Concat",
        graph.unsqueeze(graph.node("And", now, graph.node("Not", before)), 2),
        graph.unsqueeze(graph.node("And", graph.node("Not", now), before), 2),
        axis=2,
    )
    spikes = graph.node("And", crossed, graph.unsqueeze(active, 2, 3, 4))
    cells = graph.reshape(spikes, [-1, spec.channels])
    row, unit = graph.node("Split", graph.node("NonZero", cells), outputs=2, axis=0, num_outputs=2)
    # all_y begins with the state, so a stream's last row is at the number of its steps
    last = graph.node("GatherND", all_y, graph.unsqueeze(STEPS, 1), batch_dims=1)

    graph.bind(EVENT_ROW, graph.reshape(row, [-1]))
    graph.bind(EVENT_UNIT, graph.reshape(unit, [-1]))
    graph.bind(next_name(LEVEL), last)
    for name, (dtype, shape) in encoder_outputs(state).items():
        graph.declare_output(name, dtype, shape)
    return graph.model()
