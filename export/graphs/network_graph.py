"""A network as an ONNX graph that runs a chunk of steps for a batch of streams of different lengths.

The contract of names and shapes is in ``service/contract/graph_io.py``. The graph is one call of a function in plain
ONNX, with the weights as its constants: a Scan over the step that torch makes of ``hetsyn_model.step``. For HetSyn and
LIF its name is ``hetsyn::Network``, and a runtime with our operator (``service/runtime/operators``) runs that instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from export.graphs.build import GraphBuilder
from export.graphs.decision_graph import decide
from export.graphs.network_step import INPUT, network_step
from export.graphs.scan import scan_steps
from hetsyn_model.compiled import Compiled, LayerWeights
from hetsyn_model.neurons.spike import BaseNeuron
from hetsyn_model.spec import MEMBRANE_RESETS, InputKind, decay_of
from hetsyn_model.state import state_name
from hetsyn_model.synapses.bank import BankWeights
from hetsyn_model.synapses.path import Direct
from hetsyn_model.synapses.synapse import ExactWeights, SynapsePath
from hetsyn_model.tensors import tensors_of
from service.contract.graph_io import READOUT, network_inputs, network_outputs, spikes_name

CELL = "cell/"  # prefix of the step's values
DELAYS = "delay_"  # prefix of in and rec: delays of a layer's path in whole steps
OPERATOR, PLAIN = "Network", "PlainNetwork"  # names of functions; only the first has an operator

Numbers = NDArray[Any]


def network_graph(compiled: Compiled) -> bytes:
    """Make a network's serialised ONNX model in float32; a bank's weights are int16.

    Args:
        compiled: a float32 network in one form.
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
    is_accelerated = _is_accelerated(compiled)
    attributes = _attributes(compiled, shared, list(weights)) if is_accelerated else {}
    body = _chunk_body(compiled, shared)
    name = OPERATOR if is_accelerated else PLAIN
    function = body.function(name, [*inputs, *weights], list(outputs), list(attributes))
    constants = [graph.constant(array, name=name) for name, array in weights.items()]
    graph.call(function, [*inputs, *constants], list(outputs), **attributes)
    for name, (dtype, shape) in outputs.items():
        graph.declare_output(name, dtype, shape)
    return graph.model(function)


def _is_accelerated(compiled: Compiled) -> bool:
    """Return whether the operator runs it: spikes as input, a bank or a current a neuron, and the base family."""
    return not compiled.spec.takes_values and all(
        isinstance(layer.neuron, BaseNeuron)
        and isinstance(layer.input_path, Direct)
        and isinstance(layer.recurrent_path, Direct)
        and (isinstance(layer.synapses, BankWeights) or not layer.synapses.per_synapse)
        for layer in compiled.layers
    )


def _attributes(compiled: Compiled, threshold: float | None, weights: Sequence[str]) -> dict[str, Any]:
    """List the operator's attributes: all that it needs beside the weights."""
    spec, layers = compiled.spec, compiled.layers
    return {
        "channels": spec.channels,
        "neurons": [*spec.hidden, spec.outputs],
        "banks": [layer.synapses.decays.shape[0] if isinstance(layer.synapses, BankWeights) else 0 for layer in layers],
        "filtered": int(spec.neuron.is_filtered),
        "membrane": int(spec.neuron.is_membrane),
        "reset": MEMBRANE_RESETS.index(spec.neuron.reset),
        "own_thresholds": int(threshold is None),
        "recurrent": int(spec.recurrent),
        "biased": int(any(name.endswith("bias_in") for name in weights)),
        "threshold": float(spec.neuron.threshold) if threshold is None else threshold,
        "adaptive": int(spec.neuron.adaptive),
        "adaptation_decay": float(decay_of(spec.neuron.adaptation_tau_steps)),
        "adaptation_strength": float(spec.neuron.adaptation_strength),
        "rule": spec.decision.rule,
        "skip_steps": spec.decision.skip_steps,
        "score_words": 2 if spec.decision.adds_up else 1,
    }


def _shared_threshold(layers: Sequence[LayerWeights]) -> float | None:
    """Return the threshold of all neurons; None if they differ."""
    values = {value for layer in layers if layer.threshold is not None for value in layer.threshold.tolist()}
    return values.pop() if len(values) == 1 else None


def _weights(layer: LayerWeights, own_thresholds: bool) -> dict[str, Numbers]:
    """List a layer's constants by name, in the operator's order."""
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
    tensors |= {name: tensor for name, tensor in tensors_of(layer.neuron).items() if name != "threshold"}
    tensors["threshold"] = layer.threshold if own_thresholds else None
    for suffix, way in (("in", layer.input_path), ("rec", layer.recurrent_path)):
        tensors |= {f"{DELAYS}{suffix}": steps.to(torch.int16) for steps in tensors_of(way).values()}
    return {
        f"{layer.name}.{name}": tensor.detach().to("cpu").contiguous().numpy()
        for name, tensor in tensors.items()
        if tensor is not None
    }


def _path_weights(suffix: str, path: SynapsePath, synapses: ExactWeights) -> dict[str, Tensor | None]:
    neurons, inputs = path.weight.shape
    one_a_current = path.decay.expand(neurons, inputs if synapses.per_synapse else 1)
    return {
        f"weight_{suffix}": path.weight.T,
        f"decay_{suffix}": one_a_current if synapses.filtered else None,
        f"bias_{suffix}": path.bias,
    }


def _steps_of(grid: Tensor, weight: Tensor | None) -> Tensor | None:
    """Convert a bank's weights to int16 multiples of their columns' grid."""
    return None if weight is None else torch.round(weight / grid).to(torch.int16)


def _chunk_body(compiled: Compiled, threshold: float | None) -> GraphBuilder:
    """Make the operator in plain ONNX; weights have the names of the function's inputs."""
    spec, made = compiled.spec, network_step(compiled)
    graph = GraphBuilder("chunk", within_function=True)
    values = {f"weight.{place}": _value(graph, compiled, place, threshold) for place in made.weights}
    graph.splice(made.once, CELL, values)
    layers = [tensor.name for tensor in compiled.layout if not tensor.is_decision]
    decided_by = f"after.{state_name('readout', 'spikes')}" if spec.decision.counts_spikes else READOUT

    def add_step(body: GraphBuilder, before: Mapping[str, str], x: str) -> tuple[dict[str, str], dict[str, str]]:
        inputs = values | {INPUT: x} | {f"before.{name}": before[name] for name in layers}
        found = body.splice(made.each, CELL, inputs)
        after = {name: found[f"after.{name}"] for name in layers}
        decide(body, spec.decision, before, after, found[decided_by])
        return after, found

    traces = {READOUT: spec.outputs} | {spikes_name(layer.name): layer.neurons for layer in compiled.layers[:-1]}
    kind: InputKind = "values" if spec.takes_values else "spikes"
    product, first = None, compiled.layers[0].synapses
    if made.product is not None and isinstance(first, BankWeights):
        product = values.get(made.product, f"{CELL}{made.product}"), first.weight_in.shape[1]
    scan_steps(graph, compiled.layout, spec.channels, kind, spec.decision, traces, add_step, product=product)
    return graph


def _value(graph: GraphBuilder, compiled: Compiled, place: str, threshold: float | None) -> str:
    """Add the nodes that convert the function's inputs to a weight of the step."""
    name, *parts = place.split(".")
    layer = next(layer for layer in compiled.layers if layer.name == name)
    match parts:
        case ["synapses", ("weight_in" | "weight_rec") as weight]:
            return str(graph.node("Mul", graph.cast(f"{name}.{weight}", "float32"), f"{name}.scale"))
        case ["synapses", ("input" | "recurrent") as path, kind]:
            given = f"{name}.{kind}_{'in' if path == 'input' else 'rec'}"
            return str(graph.node("Transpose", given, perm=[1, 0])) if kind == "weight" else given
        case ["synapses", "bias"]:
            return f"{name}.bias_in"
        case ["neuron", "threshold"] if threshold is not None:
            return graph.filled(layer.neurons, threshold)
        case [("input_path" | "recurrent_path") as path, _]:
            return graph.cast(f"{name}.{DELAYS}{'in' if path == 'input_path' else 'rec'}", "int64")
    return f"{name}.{parts[-1]}"
