"""Wraps any step into an ONNX graph that runs a chunk of steps for a batch of streams of different lengths.

The contract of names and shapes is in ``service/contract/graph_io.py``. The step is an ONNX graph with a leading batch
axis: input and states in, output and states out. It becomes the body of a Scan (``scan.py``), followed by the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np
import onnx

from export.graphs.build import GraphBuilder
from export.graphs.decision_graph import decide
from export.graphs.scan import scan_steps
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.state import DECISION_SCORE, DECISION_SCORE_LOW, DECISION_STEP, StateTensor
from service.contract.graph_io import (
    READOUT,
    Float32Array,
    network_inputs,
    network_outputs,
)

InputKind = Literal["spikes", "values"]
OutputKind = Literal["scores", "probabilities"]

CONTEXT = "context"  # state tensor of the values to put in front of the next step's
SMALLEST_PROBABILITY = 1e-37  # lower bound before the logarithm; smaller ones are denormal in float32


@dataclass(frozen=True)
class StepState:
    """One state tensor of a step.

    Attributes:
        name: name in the manifest.
        input: name of the step graph's input.
        output: name of the step graph's output with the value after the step.
        initial: float32 [*shape], one stream's value before the first step.
        dtype: type in the step's graph; float32 in the state row is exact for each.
        batch_axis: batch axis in the step's graph.
    """

    name: str
    input: str
    output: str
    initial: Float32Array
    dtype: Literal["float32", "float16", "bool"] = "float32"
    batch_axis: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.initial.shape

    @property
    def fill(self) -> float | None:
        """Return the initial number of all values; None if they differ."""
        first = self.initial.flat[0] if self.initial.size else np.float32(0)
        return float(first) if (self.initial == first).all() else None


@dataclass(frozen=True)
class StepGraph:
    """A step as ONNX, and the roles of its values.

    Attributes:
        model: its graph is the step, with no inputs but ``input`` and the states'.
        input: name of the input of the step's values.
        input_shape: shape of one stream's input, ``context`` included.
        output_values: number of values of one stream's output.
        input_batch_axis: batch axis of the input.
        output_batch_axis: batch axis of the output.
        output_axes: number of the output's other axes.
        context: number of values, from the end of the step before, that are put in front of each step's own.
        output_kind: of ``probabilities`` the logarithms are taken, so that the decision's softmax gives them back. A
            single probability p becomes two, 1 - p and p.
        one_at_a_time: the graph takes one stream only, so a batch is a loop.
        opsets: versions of the operators in use, by domain.
    """

    model: onnx.ModelProto
    input: str
    input_shape: tuple[int, ...]
    input_dtype: str
    output: str
    output_values: int
    states: tuple[StepState, ...]
    input_batch_axis: int = 0
    output_batch_axis: int = 0
    output_axes: int = 1
    context: int = 0
    output_kind: OutputKind = "scores"
    one_at_a_time: bool = False
    opsets: Mapping[str, int] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Count the values of one stream's step on the wire."""
        return prod(self.input_shape) - self.context

    @property
    def outputs(self) -> int:
        """Count the artifact's outputs, one a label."""
        return 2 if self.output_kind == "probabilities" and self.output_values == 1 else self.output_values

    @property
    def rows(self) -> tuple[StepState, ...]:
        """Return a stream's states: the step's, and the context."""
        own = () if not self.context else (StepState(CONTEXT, "", "", np.zeros(self.context, np.float32)),)
        return (*self.states, *own)


def step_layout(step: StepGraph, decision: DecisionSpec) -> tuple[StateTensor, ...]:
    """Return the state tensors of one stream, in the order of the artifact."""
    scores = (DECISION_SCORE_LOW, DECISION_SCORE) if decision.adds_up else (DECISION_SCORE,)
    return (
        *(StateTensor(row.name, row.shape, initial=row.fill or 0.0) for row in step.rows),
        *(StateTensor(name, (step.outputs,)) for name in scores),
        StateTensor(DECISION_STEP, (), "int64"),
    )


def chunk_graph(step: StepGraph, decision: DecisionSpec, input_kind: InputKind) -> bytes:
    """Make the graph of a chunk, as a serialised ONNX model."""
    layout = step_layout(step, decision)
    words = sum(prod(tensor.shape) for tensor in layout[:-1])
    graph = GraphBuilder("chunk")
    for name, (dtype, shape) in network_inputs(words, step.channels if input_kind == "values" else 0).items():
        graph.input(name, dtype, shape)

    def add_step(body: GraphBuilder, before: Mapping[str, str], x: str) -> tuple[dict[str, str], dict[str, str]]:
        return _add_step(body, step, decision, before, x)

    initial = {row.name: row.initial for row in step.rows if row.fill is None}
    scan_steps(graph, layout, step.channels, input_kind, decision, {READOUT: step.outputs}, add_step, initial)
    for name, (dtype, shape) in network_outputs(words, step.outputs, {}).items():
        graph.declare_output(name, dtype, shape)
    return graph.model(opsets=step.opsets)


def _add_step(
    body: GraphBuilder, step: StepGraph, decision: DecisionSpec, before: Mapping[str, str], x: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Add one step of all streams."""
    after: dict[str, str] = {}
    if step.context:
        x = body.node("Concat", before[CONTEXT], x, axis=1)
        length = prod(step.input_shape)
        bounds = [body.constant([at], "int64") for at in (length - step.context, length, 1)]
        after[CONTEXT] = body.node("Slice", x, *bounds)
    apply = _apply_each if step.one_at_a_time else _apply
    output, states = apply(body, step, x, [before[state.name] for state in step.states])
    after |= {state.name: value for state, value in zip(step.states, states, strict=True)}
    readout = _readout(body, step, output)
    decide(body, decision, before, after, readout)
    return after, {READOUT: readout}


def _apply(body: GraphBuilder, step: StepGraph, x: str, states: list[str]) -> tuple[str, list[str]]:
    """Add the step of a batch: float32 [batch, ...] in and out."""
    x = body.reshape(x, [-1, *step.input_shape])
    x = x if step.input_dtype == "float32" else body.cast(x, step.input_dtype)
    inputs = {step.input: _moved(body, x, len(step.input_shape), 0, step.input_batch_axis)}
    for state, value in zip(step.states, states, strict=True):
        value = value if state.dtype == "float32" else body.cast(value, state.dtype)
        inputs[state.input] = _moved(body, value, len(state.shape), 0, state.batch_axis)
    found = body.splice(step.model.graph, "cell/", inputs)
    after = []
    for state in step.states:
        value = _moved(body, found[state.output], len(state.shape), state.batch_axis, 0)
        after.append(body.reshape(body.cast(value, "float32"), [-1, *state.shape]))
    return _moved(body, found[step.output], step.output_axes, step.output_batch_axis, 0), after


def _apply_each(body: GraphBuilder, step: StepGraph, x: str, states: list[str]) -> tuple[str, list[str]]:
    """Add the step for one stream at a time: a Scan over the batch."""
    one = GraphBuilder("one")
    row = one.input("one.row", "float32", [prod(step.input_shape)])
    inputs = [one.input(f"one.before.{state.name}", "float32", [*state.shape]) for state in step.states]
    output, after = _apply(one, step, row, [one.unsqueeze(value, 0) for value in inputs])
    one.output("one.output", "float32", ["values"], one.reshape(one.cast(output, "float32"), [-1]))
    for state, value in zip(step.states, after, strict=True):
        one.output(f"one.after.{state.name}", "float32", [*state.shape], one.reshape(value, [*state.shape]))
    found = body.node("Scan", x, *states, outputs=1 + len(states), body=one.graph(), num_scan_inputs=1 + len(states))
    return (found[0], list(found[1:])) if states else (found, [])


def _moved(body: GraphBuilder, value: str, axes: int, source: int, target: int) -> str:
    """Move a value's batch axis; it has ``axes`` others."""
    if source == target:
        return value
    order = [axis for axis in range(axes + 1) if axis != source]
    order.insert(target, source)
    return str(body.node("Transpose", value, perm=order))


def _readout(body: GraphBuilder, step: StepGraph, output: str) -> str:
    """Add the readout of the step's output, float32 [batch, outputs]."""
    value = body.reshape(body.cast(output, "float32"), [-1, step.output_values])
    if step.output_kind == "scores":
        return value
    if step.output_values == 1:
        value = body.node("Concat", body.node("Sub", body.constant(1.0, "float32"), value), value, axis=1)
    return str(body.node("Log", body.node("Max", value, body.constant(SMALLEST_PROBABILITY, "float32"))))
