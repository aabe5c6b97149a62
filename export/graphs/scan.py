"""Makes a Scan over one step: a chunk of steps for a batch of streams of different lengths, in plain ONNX.

Around the step are the flat state row, the mask of streams with a shorter chunk than the batch's longest, and the class
probabilities. The contract of names and shapes is in ``service/contract/graph_io.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from export.graphs.build import GraphBuilder
from export.graphs.decision_graph import class_probabilities
from hetsyn_model.spec import DecisionSpec, InputKind
from hetsyn_model.state import DECISION_SCORE, DECISION_STEP, StateTensor
from service.contract.graph_io import (
    EVENT_ROW,
    EVENT_UNIT,
    NEXT_STATE,
    NEXT_STEP,
    PROBABILITIES,
    SCORES,
    STATE,
    STEP,
    STEPS,
    VALUES,
    Float32Array,
)

# (body, state by name, input [batch, channels]) -> (state after the step, value of each trace), both by name
AddStep = Callable[[GraphBuilder, Mapping[str, str], str], tuple[Mapping[str, str], Mapping[str, str]]]


def scan_steps(
    graph: GraphBuilder,
    layout: Sequence[StateTensor],
    channels: int,
    input_kind: InputKind,
    decision: DecisionSpec,
    traces: Mapping[str, int],
    add_step: AddStep,
    initial: Mapping[str, Float32Array] | None = None,
    product: tuple[str, int] | None = None,
) -> None:
    """Add the nodes that run a chunk, and bind the names of the contract's outputs.

    Args:
        graph: has the contract's inputs.
        layout: state tensors of one stream; ``decision.step`` comes last.
        channels: number of input channels.
        input_kind: kind of the graph's input.
        decision: gives the probabilities.
        traces: width of each output of a step; the readout comes first.
        add_step: adds the nodes of one step to the body.
        initial: values before a stream's first step, for tensors that begin with more than one number.
        product: weight [channels, width] to multiply the input of the whole chunk with first, and its width.
    """
    tensors = layout[:-1]
    sizes = graph.constant([prod(tensor.shape) for tensor in tensors], "int64")
    pieces = graph.node("Split", STATE, sizes, outputs=len(tensors), axis=1)
    states = {
        tensor.name: graph.reshape(piece, [-1, *tensor.shape])
        for piece, tensor in zip([pieces] if len(tensors) == 1 else pieces, tensors, strict=True)
    }
    for name, values in (initial or {}).items():
        begins = graph.node("Equal", STEP, graph.constant(0, "int64"))
        mask = graph.unsqueeze(begins, *range(1, values.ndim + 1))
        states[name] = graph.node("Where", mask, graph.constant(values[None]), states[name])
    longest = graph.node("ReduceMax", STEPS, keepdims=0)
    # at least one step, for no stream: ONNX Runtime's Scan over no steps divides by zero
    scanned = graph.node("Max", longest, graph.constant(1, "int64"))
    active = graph.node(
        "Less",
        graph.unsqueeze(graph.node("Range", graph.constant(0, "int64"), scanned, graph.constant(1, "int64")), 0),
        graph.unsqueeze(STEPS, 1),
    )
    rows = (_values if input_kind == "values" else _spikes)(graph, channels, longest, scanned)
    width = channels
    if product is not None:
        weight, width = product
        rows = graph.node("MatMul", rows, weight)
    found = graph.node(
        "Scan",
        *states.values(),
        STEP,
        rows,
        active,
        outputs=len(layout) + len(traces),
        body=_body(graph, layout, width, traces, add_step).graph(),
        num_scan_inputs=2,
        scan_input_axes=[1, 1],
        scan_output_axes=[1] * len(traces),
    )
    after = dict(zip([tensor.name for tensor in layout], found, strict=False))
    flat = [graph.reshape(after[tensor.name], [-1, prod(tensor.shape)]) for tensor in tensors]
    outputs = next(iter(traces.values()))
    graph.bind(NEXT_STATE, graph.node("Concat", *flat, axis=1))
    graph.bind(NEXT_STEP, after[DECISION_STEP])
    graph.bind(SCORES, after[DECISION_SCORE])
    graph.bind(PROBABILITIES, class_probabilities(graph, decision, outputs, after, after[DECISION_STEP]))
    first, end, axis = graph.constant([0], "int64"), graph.unsqueeze(longest, 0), graph.constant([1], "int64")
    for name, trace in zip(traces, found[len(layout) :], strict=True):
        graph.bind(name, graph.node("Slice", trace, first, end, axis))


def _body(
    graph: GraphBuilder,
    layout: Sequence[StateTensor],
    width: int,
    traces: Mapping[str, int],
    add_step: AddStep,
) -> GraphBuilder:
    """Make the body of the Scan: one step, which leaves the state of a stream at its end unchanged."""
    body = graph.subgraph("step")
    before = {t.name: body.input(f"before.{t.name}", t.dtype, ["batch", *t.shape]) for t in layout}
    x = body.input("row", "float32", ["batch", width])
    active = body.input("active", "bool", ["batch"])
    after, shown = add_step(body, before, x)
    for tensor in layout:
        mask = body.unsqueeze(active, *range(1, len(tensor.shape) + 1)) if tensor.shape else active
        kept = body.node("Where", mask, after[tensor.name], before[tensor.name], name=f"after.{tensor.name}")
        body.declare_output(kept, tensor.dtype, ["batch", *tensor.shape])
    for name, width in traces.items():
        body.output(f"trace.{name}", "float32", ["batch", width], shown[name])
    return body


def _spikes(graph: GraphBuilder, channels: int, longest: str, scanned: str) -> str:  # noqa: ARG001
    """Add the events as ones in zeros, [batch, scanned, channels]."""
    batch, length, width = graph.size_of(STEPS, 0), graph.unsqueeze(scanned, 0), graph.constant([channels], "int64")
    blank = graph.node("ConstantOfShape", graph.node("Concat", graph.node("Mul", batch, length), width, axis=0))
    index = graph.node("Concat", graph.unsqueeze(EVENT_ROW, 1), graph.unsqueeze(EVENT_UNIT, 1), axis=1)
    ones = graph.node("Expand", graph.constant(1.0, "float32"), graph.size_of(EVENT_UNIT, 0))
    scattered = graph.node("ScatterND", blank, index, ones)
    return str(graph.node("Reshape", scattered, graph.node("Concat", batch, length, width, axis=0)))


def _values(graph: GraphBuilder, channels: int, longest: str, scanned: str) -> str:
    """Add the values, [batch, scanned, channels]; there may be none."""
    missing = graph.unsqueeze(graph.node("Sub", scanned, longest), 0)
    shape = graph.node("Concat", graph.size_of(STEPS, 0), missing, graph.constant([channels], "int64"), axis=0)
    return str(graph.node("Concat", VALUES, graph.node("ConstantOfShape", shape), axis=1))
