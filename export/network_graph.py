"""A network as an ONNX graph that runs a chunk of steps for a batch of streams of different lengths.

The contract of names and shapes is in ``service/contract/graph_io.py``. The graph is one call of ``hetsyn::Network``,
or of ``hetsyn::ValuesNetwork`` where the input is real numbers, with the weights as its constants. A runtime that has
our operators (``service/runtime/operators``) runs those; to any other the name means the function of plain ONNX that
stands in the same file:

The input product of a bank covers all steps of the chunk at once (``input_drive.py``); the steps themselves are the
body of a Scan. A stream whose chunk is shorter than the batch's longest keeps its state through the steps that it does
not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.build import GraphBuilder
from export.decision_graph import class_probabilities, decide
from export.delay_graph import arrive, read_tables
from export.input_drive import event_drive, padded_values, values_drive
from export.neuron_graph import fire
from export.resonance_graph import RESONANCE, resonate
from hetsyn_model.bank import BankWeights
from hetsyn_model.compiled import Compiled, LayerWeights
from hetsyn_model.path import Delays
from hetsyn_model.spec import MEMBRANE_RESETS, decay_of
from hetsyn_model.state import DECISION_SCORE, state_name
from hetsyn_model.synapse import ExactWeights, SynapsePath
from service.contract.graph_io import (
    NEXT_STATE,
    NEXT_STEP,
    PROBABILITIES,
    READOUT,
    SCORES,
    STATE,
    STEP,
    STEPS,
    network_inputs,
    network_outputs,
    spikes_name,
)

OPERATOR, VALUES_OPERATOR = "Network", "ValuesNetwork"

Numbers = NDArray[Any]


def network_graph(compiled: Compiled) -> bytes:
    """The network in one form, as a serialised ONNX model in float32; a bank's weights are int16.

    Args:
        compiled: a network of float32.
    """
    spec, layers = compiled.spec, compiled.layers
    words = sum(prod(tensor.shape) for tensor in compiled.layout if tensor.dtype == "float32")
    graph = GraphBuilder("network")
    inputs = network_inputs(words, spec.channels if spec.takes_values else 0)
    for name, (dtype, shape) in inputs.items():
        graph.input(name, dtype, shape)
    outputs = network_outputs(words, spec.outputs, {layer.name: layer.neurons for layer in layers[:-1]})
    shared = _shared_threshold(layers)
    weights = {name: array for layer in layers for name, array in _weights(layer, shared is None).items()}
    attributes: dict[str, Any] = {
        "channels": spec.channels,
        "neurons": [*spec.hidden, spec.outputs],
        "banks": [layer.synapses.decays.shape[0] if isinstance(layer.synapses, BankWeights) else 0 for layer in layers],
        "per_synapse": int(compiled.form == "exact" and spec.neuron.per_synapse),
        "filtered": int(spec.neuron.is_filtered),
        "membrane": int(spec.neuron.is_membrane),
        "reset": MEMBRANE_RESETS.index(spec.neuron.membrane_reset),
        "own_thresholds": int(shared is None),
        "recurrent": int(spec.has_own_synapses),
        "biased": int(any(name.endswith("bias_in") for name in weights)),
        "threshold": float(spec.neuron.threshold) if shared is None else shared,
        "adaptive": int(spec.neuron.adaptive),
        "adaptation_decay": float(decay_of(spec.neuron.adaptation_tau_steps)),
        "adaptation_strength": float(spec.neuron.adaptation_strength),
        "rule": spec.decision.rule,
        "skip_steps": spec.decision.skip_steps,
        "score_words": 2 if spec.decision.adds_up else 1,
    }
    if spec.neuron.resonance is not None:
        attributes["resonant"] = 1
    for name, path in (("input", spec.input_path), ("recurrent", spec.recurrent_path)):
        if path.is_delayed:  # other networks say nothing of it, so that earlier versions run them too
            attributes |= {f"{name}_taps": path.taps, f"{name}_delay": path.max_delay_steps}
    body = _chunk_body(compiled, weights)
    operator = VALUES_OPERATOR if spec.takes_values else OPERATOR
    function = body.function(operator, [*inputs, *weights], list(outputs), list(attributes))
    constants = [graph.constant(array, name=name) for name, array in weights.items()]
    graph.call(function, [*inputs, *constants], list(outputs), **attributes)
    for name, (dtype, shape) in outputs.items():
        graph.declare_output(name, dtype, shape)
    return graph.model(function)


def _shared_threshold(layers: Sequence[LayerWeights]) -> float | None:
    """The threshold of all neurons; None where they differ."""
    values = {value for layer in layers if layer.threshold is not None for value in layer.threshold.tolist()}
    return values.pop() if len(values) == 1 else None


def _weights(layer: LayerWeights, own_thresholds: bool) -> dict[str, Numbers]:
    """A layer's constants by name, in the order in which the operator takes them."""
    synapses, tensors = layer.synapses, dict[str, Tensor | None]()
    if isinstance(synapses, BankWeights):
        tensors = {
            "weight_in": _steps_of(synapses.grid, synapses.weight_in),
            "weight_rec": _steps_of(synapses.grid, synapses.weight_rec),
            "scale": synapses.grid,
            "bias_in": synapses.bias,
            "decays": synapses.decays,
        }
    else:
        for suffix, path in (("in", synapses.input), ("rec", synapses.recurrent)):
            if path is not None:
                tensors |= _path_weights(suffix, path, synapses)
    tensors["kappa"] = layer.kappa
    tensors["threshold"] = layer.threshold if own_thresholds else None
    tensors[RESONANCE] = layer.recovery
    for suffix, delays in _delays_of(layer).items():
        tensors[f"delay_{suffix}"] = delays.steps.flatten().to(torch.int16)
    return {
        f"{layer.name}.{name}": tensor.detach().to("cpu").contiguous().numpy()
        for name, tensor in tensors.items()
        if tensor is not None
    }


def _delays_of(layer: LayerWeights) -> dict[str, Delays]:
    """The delays of a layer's paths that have some, by the suffix of their weights."""
    paths = {"in": layer.input_delays, "rec": layer.recurrent_delays}
    return {suffix: delays for suffix, delays in paths.items() if delays is not None}


def _path_weights(suffix: str, path: SynapsePath, synapses: ExactWeights) -> dict[str, Tensor | None]:
    neurons, inputs = path.weight.shape
    one_a_current = path.decay.expand(neurons, inputs if synapses.per_synapse else 1)
    return {
        f"weight_{suffix}": path.weight.T,
        f"decay_{suffix}": one_a_current if synapses.filtered else None,
        f"bias_{suffix}": path.bias,
    }


def _steps_of(grid: Tensor, weight: Tensor | None) -> Tensor | None:
    """A bank's weights as int16 multiples of their columns' grid."""
    return None if weight is None else torch.round(weight / grid).to(torch.int16)


def _chunk_body(compiled: Compiled, weights: Mapping[str, Numbers]) -> GraphBuilder:
    """The operator in plain ONNX; weights are named as the function's inputs."""
    spec, layers = compiled.spec, compiled.layers
    layout = [tensor for tensor in compiled.layout if tensor.dtype == "float32"]
    graph = GraphBuilder("chunk", within_function=True)
    sizes = graph.constant([prod(tensor.shape) for tensor in layout], "int64")
    pieces = graph.node("Split", STATE, sizes, outputs=len(layout), axis=1)
    states = [
        graph.reshape(piece, [0, *tensor.shape])
        for piece, tensor in zip([pieces] if len(layout) == 1 else pieces, layout, strict=True)
    ]
    longest = graph.node("ReduceMax", STEPS, keepdims=0)
    # at least one, in which no stream takes part: ONNX Runtime's Scan over no steps divides by zero
    scanned = graph.node("Max", longest, graph.constant(1, "int64"))
    active = graph.node(
        "Less",
        graph.unsqueeze(graph.node("Range", graph.constant(0, "int64"), scanned, graph.constant(1, "int64")), 0),
        graph.unsqueeze(STEPS, 1),
    )
    for name, array in weights.items():
        if array.dtype == np.int16 and "delay" not in name:
            scale = f"{name.rsplit('.', 1)[0]}.scale"
            graph.bind(_wide(name), graph.node("Mul", graph.cast(name, "float32"), scale))
    for layer in layers:
        for suffix, delays in _delays_of(layer).items():
            read_tables(graph, delays, f"{layer.name}.delay_{suffix}")
    first, bias = f"{layers[0].name}.weight_in", f"{layers[0].name}.bias_in"
    # spikes with delays reach the bank step by step
    is_bank = isinstance(layers[0].synapses, BankWeights) and layers[0].input_delays is None
    width = weights[first].shape[1] if is_bank else spec.channels
    if spec.takes_values:
        drive = padded_values(graph, spec.channels, longest, scanned)
        if is_bank:
            drive = values_drive(graph, drive, spec.channels, _wide(first), bias if bias in weights else None)
    else:
        drive = event_drive(graph, _wide(first) if is_bank else None, width, scanned)

    traces = {READOUT: spec.outputs} | {spikes_name(layer.name): layer.neurons for layer in layers[:-1]}
    after = graph.node(
        "Scan",
        *states,
        STEP,
        drive,
        active,
        outputs=len(states) + 1 + len(traces),
        body=_step_graph(compiled, weights, width, traces).graph(),
        num_scan_inputs=2,
        scan_input_axes=[1, 1],
        scan_output_axes=[1] * len(traces),
    )
    final, step = after[: len(states)], after[len(states)]
    flat = [graph.reshape(value, [0, prod(tensor.shape)]) for value, tensor in zip(final, layout, strict=True)]
    graph.bind(NEXT_STATE, graph.node("Concat", *flat, axis=1))
    graph.bind(NEXT_STEP, step)
    after_chunk = dict(zip([tensor.name for tensor in layout], final, strict=True))
    graph.bind(SCORES, after_chunk[DECISION_SCORE])
    graph.bind(PROBABILITIES, class_probabilities(graph, spec.decision, spec.outputs, after_chunk, step))
    start, axis = graph.constant([0], "int64"), graph.constant([1], "int64")
    for name, trace in zip(traces, after[len(states) + 1 :], strict=True):
        graph.bind(name, graph.node("Slice", trace, start, graph.unsqueeze(longest, 0), axis))
    return graph


def _wide(name: str) -> str:
    """The float32 value of weights that the operator takes as int16."""
    return f"chunk/{name}"


def _step_graph(
    compiled: Compiled, weights: Mapping[str, Numbers], width: int, traces: Mapping[str, int]
) -> GraphBuilder:
    """Body of the Scan: one step of all streams."""
    spec, layout = compiled.spec, compiled.layout
    body = GraphBuilder("step", within_function=True)
    before = {t.name: body.input(f"before.{t.name}", t.dtype, ["batch", *t.shape]) for t in layout}
    x = body.input("drive", "float32", ["batch", width])
    active = body.input("active", "bool", ["batch"])
    after: dict[str, str] = {}
    outputs: dict[str, str] = {}
    shared = _shared_threshold(compiled.layers)
    potential = fired = ""
    for position, layer in enumerate(compiled.layers):
        x, own = _arriving(body, layer, before, after, x)
        potential = _currents(
            body, layer, weights, before, after, x, own, driven=position == 0, takes_values=spec.takes_values
        )
        if layer.threshold is None:
            if layer.kappa is not None:
                membrane = state_name(layer.name, "membrane")
                left = body.node("Mul", f"{layer.name}.kappa", before[membrane])
                potential = after[membrane] = body.node("Add", left, potential)
            continue
        threshold = f"{layer.name}.threshold" if shared is None else body.constant(shared, "float32")
        if layer.recovery is not None:
            potential, fired = resonate(body, layer.name, threshold, before, after, potential)
        else:
            potential, fired = fire(body, spec, layer.name, threshold, before, after, potential)
        x = fired
        if layer.name != "readout":
            outputs[spikes_name(layer.name)] = fired
    outputs[READOUT] = potential
    decide(body, spec.decision, before, after, potential, fired)
    for tensor in layout:
        mask = body.unsqueeze(active, *range(1, len(tensor.shape) + 1)) if tensor.shape else active
        value = body.node("Where", mask, after[tensor.name], before[tensor.name])
        body.output(f"after.{tensor.name}", tensor.dtype, ["batch", *tensor.shape], value)
    for name, neurons in traces.items():
        body.output(f"trace.{name}", "float32", ["batch", neurons], outputs[name])
    return body


def _arriving(
    body: GraphBuilder, layer: LayerWeights, before: dict[str, str], after: dict[str, str], x: str
) -> tuple[str, str]:
    """Spikes that arrive from the layer before and, empty without recurrence, from the layer itself."""
    own = before[state_name(layer.name, "spikes")] if layer.is_recurrent else ""
    for suffix, delays in _delays_of(layer).items():
        history = state_name(layer.name, "input_history" if suffix == "in" else "recurrent_history")
        source = x if suffix == "in" else own
        arrived, after[history] = arrive(body, delays, f"{layer.name}.delay_{suffix}", before[history], source)
        x, own = (arrived, own) if suffix == "in" else (x, arrived)
    return x, own


def _currents(
    body: GraphBuilder,
    layer: LayerWeights,
    weights: Mapping[str, Numbers],
    before: dict[str, str],
    after: dict[str, str],
    x: str,
    own: str,
    *,
    driven: bool,
    takes_values: bool,
) -> str:
    """The layer's currents of this step into ``after``; their sum a neuron, [batch, neurons]."""
    name = layer.name
    if isinstance(layer.synapses, BankWeights):
        # the first layer's product was made for the whole chunk, and that of values has the bias
        is_made = driven and layer.input_delays is None
        arriving = x if is_made else body.node("MatMul", x, _wide(f"{name}.weight_in"))
        if f"{name}.weight_rec" in weights:
            recurrent = body.node("MatMul", own, _wide(f"{name}.weight_rec"))
            arriving = body.node("Add", arriving, recurrent)
        if f"{name}.bias_in" in weights and not (driven and takes_values):
            arriving = body.node("Add", arriving, body.reshape(f"{name}.bias_in", [-1]))
        bank, neurons = len(weights[f"{name}.decays"]), layer.neurons
        current = body.node(
            "Add",
            body.node("Mul", body.reshape(f"{name}.decays", [bank, 1]), before[state_name(name, "bank_current")]),
            body.reshape(arriving, [0, bank, neurons]),
        )
        after[state_name(name, "bank_current")] = current
        parts = body.node("Split", current, outputs=bank, axis=1, num_outputs=bank) if bank > 1 else [current]
        total = parts[0]
        for part in parts[1:]:  # a fixed order, the same in every implementation
            total = body.node("Add", total, part)
        return body.reshape(total, [0, neurons])
    real = driven and takes_values
    sums = [_exact_path(body, name, "input", x, layer.synapses, weights, before, after, takes_values=real)]
    if f"{name}.weight_rec" in weights:
        sums.append(
            _exact_path(body, name, "recurrent", own, layer.synapses, weights, before, after, takes_values=False)
        )
    return sums[0] if len(sums) == 1 else str(body.node("Add", *sums))


def _exact_path(
    body: GraphBuilder,
    layer: str,
    path: str,
    x: str,
    synapses: ExactWeights,
    weights: Mapping[str, Numbers],
    before: dict[str, str],
    after: dict[str, str],
    *,
    takes_values: bool,
) -> str:
    suffix = "rec" if path == "recurrent" else "in"
    weight, decay, bias = f"{layer}.weight_{suffix}", f"{layer}.decay_{suffix}", f"{layer}.bias_{suffix}"
    name = state_name(layer, "recurrent_current" if path == "recurrent" else "input_current")
    if synapses.per_synapse:
        drive = body.node("Mul", body.node("Transpose", weight, perm=[1, 0]), body.unsqueeze(x, 1))
    elif takes_values:  # a matrix product may add up in another order for another batch
        rows = body.node("Transpose", body.cast(weight, "float64"), perm=[1, 0])
        products = body.node("Mul", rows, body.unsqueeze(body.cast(x, "float64"), 1))
        drive = body.cast(body.node("ReduceSum", products, body.constant([-1], "int64"), keepdims=1), "float32")
    else:
        wide = body.cast(weight, "float64")
        drive = body.unsqueeze(body.cast(body.node("MatMul", body.cast(x, "float64"), wide), "float32"), 2)
    current = body.node("Add", body.node("Mul", decay, before[name]), drive) if synapses.filtered else drive
    if bias in weights:
        current = body.node("Add", current, bias)
    if not synapses.filtered:
        return body.reshape(current, [0, -1])
    after[name] = current
    total = body.node("ReduceSum", body.cast(current, "float64"), body.constant([-1], "int64"), keepdims=0)
    return body.cast(total, "float32")
