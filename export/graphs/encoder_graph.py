"""The audio encoder as an ONNX graph: the same equations as ``hetsyn_model/encoders/encoder.py``, in float64.

The contract of names and shapes is in ``service/contract/graph_io.py``. As in ``network_graph``, the graph is one call
of ``hetsyn::Encoder``, and has a function in plain ONNX that replaces the operator if it is not built.
"""

from __future__ import annotations

import math

import numpy as np

from export.graphs.build import GraphBuilder
from hetsyn_model.encoders.encoder import SILENCE_DB, EncoderSpec
from service.contract.graph_io import (
    AUDIO,
    EVENT_ROW,
    EVENT_UNIT,
    STEPS,
    encoder_inputs,
    encoder_outputs,
    next_name,
    state_name,
)
from service.contract.manifest import TensorDescription

OPERATOR = "Encoder"


def encoder_state(spec: EncoderSpec) -> tuple[TensorDescription, ...]:
    """Return the encoder's state tensors of one stream, before any sound."""
    return (
        TensorDescription(name="encoder.history", shape=(spec.history_samples,), dtype="float32", initial=0.0),
        TensorDescription(name="encoder.gain_db", shape=(), dtype="float64", initial=spec.quietest_db),
        TensorDescription(name="encoder.level_db", shape=(spec.bands,), dtype="float64", initial=SILENCE_DB),
    )


def encoder_graph(spec: EncoderSpec) -> bytes:
    """Make the encoder as a serialised ONNX model."""
    graph = GraphBuilder("encoder")
    inputs, outputs = encoder_inputs(encoder_state(spec)), encoder_outputs(encoder_state(spec))
    constants = {
        "spectrum": spec.spectrum_matrix(),
        "mel": spec.mel_matrix(),
        "emphasis_db": spec.emphasis_db(),
        "contrast": spec.contrast_matrix(),
        "thresholds_db": spec.thresholds_db(),
        "scalars": np.array(
            [10.0 ** (spec.floor_db / 10.0), spec.release_db, spec.quietest_db, 1.0 - spec.contrast], np.float64
        ),
    }
    attributes = {"step_samples": spec.step_samples, "window_samples": spec.window_samples}
    function = _chunk_body(spec).function(OPERATOR, [*inputs, *constants], list(outputs), list(attributes))
    for name, (dtype, shape) in inputs.items():
        graph.input(name, dtype, shape)
    values = [graph.constant(array, name=name) for name, array in constants.items()]
    graph.call(function, [*inputs, *values], list(outputs), **attributes)
    for name, (dtype, shape) in outputs.items():
        graph.declare_output(name, dtype, shape)
    return graph.model(function)


def _chunk_body(spec: EncoderSpec) -> GraphBuilder:
    """Make the operator in plain ONNX; values have the names of the function's inputs and outputs."""
    graph = GraphBuilder("chunk", within_function=True)
    hop, history = spec.step_samples, spec.history_samples
    states = {t.name: state_name(t.name) for t in encoder_state(spec)}

    def one(value: int) -> str:
        return graph.constant(value, "int64")

    longest = graph.node("ReduceMax", STEPS, keepdims=0)
    index = graph.node("Range", one(0), longest, one(1))
    active = graph.node("Less", graph.unsqueeze(index, 0), graph.unsqueeze(STEPS, 1))
    samples = graph.node("Concat", states["encoder.history"], AUDIO, axis=1)

    # frames [batch, steps, window]: step t ends with its own samples and begins with earlier ones
    sample = graph.node(
        "Add",
        graph.unsqueeze(graph.node("Mul", index, one(hop)), 1),
        graph.constant(list(range(spec.window_samples)), "int64"),
    )
    frames = graph.cast(graph.node("Gather", samples, sample, axis=1), "float64")
    spectrum = graph.node("MatMul", frames, "spectrum")
    energy = graph.node("MatMul", graph.node("Mul", spectrum, spectrum), "mel")
    floor = graph.constant(10.0 ** (spec.floor_db / 10.0), "float64")
    levels = graph.node(
        "Mul", graph.node("Log", graph.node("Add", energy, floor)), graph.constant(10.0 / math.log(10.0), "float64")
    )
    levels = graph.node("Add", levels, "emphasis_db")
    shaped = graph.node("MatMul", levels, "contrast")
    loudest = graph.node("ReduceMax", levels, graph.constant([-1], "int64"), keepdims=0)

    gain, last, normalised = graph.node(
        "Scan",
        states["encoder.gain_db"],
        states["encoder.level_db"],
        shaped,
        loudest,
        active,
        outputs=3,
        body=_gain_graph(spec).graph(),
        num_scan_inputs=3,
        scan_input_axes=[1, 1, 1],
        scan_output_axes=[1],
    )

    thresholds = "thresholds_db"
    above = graph.node("Greater", graph.unsqueeze(normalised, 3), thresholds)
    initial = graph.node("Greater", graph.unsqueeze(states["encoder.level_db"], 1, 3), thresholds)
    earlier = graph.node(
        "Slice",
        graph.node("Concat", initial, above, axis=1),
        graph.constant([0], "int64"),
        graph.unsqueeze(longest, 0),
        graph.constant([1], "int64"),
    )
    crossed = graph.node(
        "Concat",
        graph.unsqueeze(graph.node("And", above, graph.node("Not", earlier)), 2),
        graph.unsqueeze(graph.node("And", graph.node("Not", above), earlier), 2),
        axis=2,
    )
    spikes = graph.node("And", crossed, graph.unsqueeze(active, 2, 3, 4))
    cells = graph.reshape(spikes, [-1, spec.channels])
    row, unit = graph.node("Split", graph.node("NonZero", cells), outputs=2, axis=0, num_outputs=2)

    # the history of each stream ends with its own audio
    start = graph.unsqueeze(graph.node("Mul", STEPS, one(hop)), 1)
    ends = graph.node("Add", start, graph.constant(list(range(history)), "int64"))
    graph.bind(EVENT_ROW, graph.reshape(row, [-1]))
    graph.bind(EVENT_UNIT, graph.reshape(unit, [-1]))
    graph.bind(next_name("encoder.history"), graph.node("GatherElements", samples, ends, axis=1))
    graph.bind(next_name("encoder.gain_db"), gain)
    graph.bind(next_name("encoder.level_db"), last)
    return graph


def _gain_graph(spec: EncoderSpec) -> GraphBuilder:
    """Make the body of the Scan: the gain follows the loudest band of one step."""
    body = GraphBuilder("gain", within_function=True)
    gain = body.input("gain_before", "float64", ["batch"])
    last = body.input("last_before", "float64", ["batch", spec.bands])
    shaped = body.input("shaped", "float64", ["batch", spec.bands])
    loudest = body.input("loudest", "float64", ["batch"])
    active = body.input("active", "bool", ["batch"])
    released = body.node("Sub", gain, body.constant(spec.release_db, "float64"))
    followed = body.node("Max", released, body.node("Max", loudest, body.constant(spec.quietest_db, "float64")))
    share = body.node("Mul", followed, body.constant(1.0 - spec.contrast, "float64"))
    y = body.node("Sub", shaped, body.unsqueeze(share, 1))
    body.output("gain_after", "float64", ["batch"], body.node("Where", active, followed, gain))
    body.output("last_after", "float64", ["batch", spec.bands], body.node("Where", body.unsqueeze(active, 1), y, last))
    body.output("normalised", "float64", ["batch", spec.bands], y)
    return body
