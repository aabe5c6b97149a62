"""One step of a network's layers as ONNX, made by torch from ``hetsyn_model.step``, with the weights as inputs."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import NamedTuple

import onnx
import torch
from torch import Tensor, nn

from export.graphs.build import OPSET
from export.step_checks import quiet_torch
from hetsyn_model.compiled import Compiled
from hetsyn_model.state import initial_state
from hetsyn_model.step import layers_step
from hetsyn_model.tensors import tensors_of, with_tensors
from service.contract.graph_io import READOUT, spikes_name

INPUT = "input"


class NetworkStep(NamedTuple):
    """A network's step as two ONNX graphs; the second reads values of the first.

    Attributes:
        once: the part that depends on the weights alone, with the inputs ``weight.NAME``.
        each: the step itself. Inputs :data:`INPUT` and ``before.STATE``, outputs ``after.STATE``, ``READOUT`` and the
            spikes of each hidden layer; all have a leading batch axis.
        weights: names of the weights that are read.
        product: value of ``once`` to multiply the whole chunk's input with, in place of each step's; None if the step
            takes its input unchanged.
    """

    once: onnx.GraphProto
    each: onnx.GraphProto
    weights: tuple[str, ...]
    product: str | None


def weights_of(compiled: Compiled) -> dict[str, Tensor]:
    """List the tensors of a network by their place: ``LAYER.synapses.weight_in`` and so on."""
    return {place: tensor for layer in compiled.layers for place, tensor in tensors_of(layer, layer.name).items()}


def network_step(compiled: Compiled) -> NetworkStep:
    """Make the ONNX graphs of a network's step."""
    weights = weights_of(compiled)
    layout = [tensor for tensor in compiled.layout if not tensor.is_decision]
    states = initial_state(layout, 2)
    arguments = (torch.zeros(2, compiled.spec.channels), tuple(states.values()), tuple(weights.values()))
    before, after = ([f"{when}.{name}" for name in states] for when in ("before", "after"))
    hidden = [spikes_name(layer.name) for layer in compiled.layers[:-1]]
    content = BytesIO()
    with quiet_torch(), torch.no_grad():
        # the exporter for traces: torch's newer one takes seconds where this takes 50 ms
        torch.onnx.export(
            _Step(compiled),
            arguments,
            content,  # type: ignore[arg-type]  # it may be a file, too
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT, *before, *(f"weight.{name}" for name in weights)],
            output_names=[READOUT, *hidden, *after],
            dynamic_axes={name: {0: "batch"} for name in (INPUT, *before)},
        )
    graph = onnx.load_from_string(content.getvalue()).graph
    _shorten(graph)
    return _divided(graph, tuple(weights))


def _shorten(graph: onnx.GraphProto) -> None:
    """Number the values that are neither inputs nor outputs: torch's long names would be a third of the function."""
    kept = {value.name for value in (*graph.input, *graph.output)}
    made = [name for node in graph.node for name in node.output if name not in kept]
    short = {name: str(number) for number, name in enumerate(made)}
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [short.get(name, name) for name in names]


def _divided(graph: onnx.GraphProto, weights: tuple[str, ...]) -> NetworkStep:
    """Split the step: the part that depends on the weights alone, and a product of the input with weights, come out."""
    once, each = onnx.GraphProto(), onnx.GraphProto(output=graph.output)
    once.initializer.extend(graph.initializer)
    fixed = {f"weight.{name}" for name in weights} | {tensor.name for tensor in graph.initializer}
    readers = [node for node in graph.node if INPUT in node.input]
    product = None
    for node in graph.node:
        is_fixed = fixed.issuperset(node.input)
        fixed.update(node.output if is_fixed else ())
        if readers == [node] and node.op_type == "MatMul" and node.input[1] in fixed:
            product = node.input[1]
            node = onnx.helper.make_node("Identity", [INPUT], node.output)
        (once if is_fixed else each).node.append(node)
    used = {name for node in graph.node for name in node.input}
    return NetworkStep(once, each, tuple(name for name in weights if f"weight.{name}" in used), product)


class _Step(nn.Module):
    """The step of a network's layers as a function of state, input and weights."""

    def __init__(self, compiled: Compiled) -> None:
        super().__init__()
        self._compiled = compiled
        self._states = [tensor.name for tensor in compiled.layout if not tensor.is_decision]
        self._weights = list(weights_of(compiled))

    def forward(self, x: Tensor, states: tuple[Tensor, ...], weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        given = dict(zip(self._weights, weights, strict=True))
        layers = tuple(with_tensors(layer, given, layer.name) for layer in self._compiled.layers)
        before = dict(zip(self._states, states, strict=True))
        after, output = layers_step(replace(self._compiled, layers=layers), before, x)
        return (output.readout, *output.hidden_spikes, *(after[name] for name in self._states))
