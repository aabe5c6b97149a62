"""A network of values as a real ONNX graph: leaky integrators, and what they answer, from their equation.

potential(t) = KAPPA * potential(t-1) + values(t) @ weights; score = the last potential; probabilities = softmax(score)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.graphs.build import GraphBuilder
from service.contract.graph_io import (
    BATCH,
    LONGEST,
    NEXT_STATE,
    NEXT_STEP,
    PROBABILITIES,
    READOUT,
    SCORES,
    STATE,
    STEP,
    STEPS,
    VALUES,
)
from service.runtime.onnx import Array
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.artifact_file import rewrite
from tests.support.artifacts.fake_graph import CHANNELS, OUTPUTS

KAPPA = 0.9
TOLERANCE = 1e-5


def write_leaky(models: Path, name: str = "leaky", channels: int = CHANNELS) -> Path:
    """Write an artifact of the graph, for the fakes' state ``out.potential | decision.score``."""
    taken = {"kind": "values", "channels": channels, "step_s": 0.01, "description": "a sensor"}
    folder = write_artifact(models, name, takes="values", rule="last", form="exact", change={"input": taken})
    rewrite(folder, "exact.onnx", _graph(channels))
    return folder


def expected(values: Array) -> Array:
    """Probabilities after rows of values [steps, channels]."""
    potential = np.zeros(OUTPUTS)
    for row in values:
        potential = KAPPA * potential + row @ weights(values.shape[1])
    powers = np.exp(potential - potential.max())
    return np.asarray(powers / powers.sum())


def weights(channels: int) -> Array:
    """float32 [channels, outputs]."""
    return np.cos(np.arange(channels * OUTPUTS)).reshape(channels, OUTPUTS).astype(np.float32)


def _graph(channels: int) -> bytes:
    graph = GraphBuilder("leaky")
    graph.input(VALUES, "float32", [BATCH, LONGEST, channels])
    graph.input(STEPS, "int64", [BATCH])
    graph.input(STATE, "float32", [BATCH, 2 * OUTPUTS])
    graph.input(STEP, "int64", [BATCH])
    drive = graph.node("MatMul", VALUES, graph.constant(weights(channels)))
    length = graph.node("Squeeze", graph.size_of(VALUES, 1), graph.constant([0], "int64"))
    ticks = graph.node("Range", graph.constant(0, "int64"), length, graph.constant(1, "int64"))
    # a stream whose chunk is shorter keeps its state through the steps that it lacks
    active = graph.node("Less", graph.unsqueeze(ticks, 0), graph.unsqueeze(STEPS, 1))
    before = graph.node("Slice", STATE, *(graph.constant([n], "int64") for n in (0, OUTPUTS, 1)))
    after, readout = graph.node(
        "Scan", before, drive, active, outputs=2,
        body=_step().graph(), num_scan_inputs=2, scan_input_axes=[1, 1], scan_output_axes=[1],
    )  # fmt: skip
    graph.output(NEXT_STATE, "float32", [BATCH, 2 * OUTPUTS], graph.node("Concat", after, after, axis=1))
    graph.output(NEXT_STEP, "int64", [BATCH], graph.node("Add", STEP, STEPS))
    graph.output(SCORES, "float32", [BATCH, OUTPUTS], after)
    graph.output(PROBABILITIES, "float32", [BATCH, OUTPUTS], graph.node("Softmax", after, axis=1))
    graph.output(READOUT, "float32", [BATCH, LONGEST, OUTPUTS], readout)
    return graph.model()


def _step() -> GraphBuilder:
    body = GraphBuilder("step")
    before = body.input("before", "float32", [BATCH, OUTPUTS])
    drive = body.input("drive", "float32", [BATCH, OUTPUTS])
    active = body.input("active", "bool", [BATCH])
    moved = body.node("Add", body.node("Mul", before, body.constant(KAPPA, "float32")), drive)
    after = body.node("Where", body.unsqueeze(active, 1), moved, before)
    body.output("after", "float32", [BATCH, OUTPUTS], after)
    body.output("potential", "float32", [BATCH, OUTPUTS], after)
    return body
