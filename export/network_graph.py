"""A network as an ONNX graph that runs a chunk of steps for a batch of streams of different lengths.

The contract of names and shapes is in ``service/artifact.py``. The input product of a bank covers all
steps of the chunk at once, event by event; the steps themselves are the body of a Scan. A stream whose
chunk is shorter than the batch's longest keeps its state through the steps that it does not have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from export.build import GraphBuilder
from hetsyn_model.bank import BankWeights
from hetsyn_model.network import LayerWeights, Network
from hetsyn_model.spec import NetworkSpec, decay_of
from hetsyn_model.state import Form
from hetsyn_model.synapse import ExactWeights


def network_graph(network: Network, form: Form) -> bytes:
    """The network in one form, as a serialised ONNX model in float32."""
    spec, layout = network.spec, network.state_layout(form)
    layers = network.weights(form)
    graph = GraphBuilder("network")
    row = graph.input("events.row", "int64", ["events"])
    unit = graph.input("events.unit", "int64", ["events"])
    steps = graph.input("steps", "int64", ["batch"])
    states = {t.name: graph.input(f"state.{t.name}", t.dtype, ["batch", *t.shape]) for t in layout}

    longest = graph.node("ReduceMax", steps, keepdims=0)
    active = graph.node(
        "Less",
        graph.unsqueeze(graph.node("Range", graph.constant(0, "int64"), longest, graph.constant(1, "int64")), 0),
        graph.unsqueeze(steps, 1),
    )
    rows = graph.node("Mul", graph.size_of(steps, 0), graph.unsqueeze(longest, 0))
    first = layers[0].synapses
    if isinstance(first, BankWeights):
        weight = _array(first.weight_in)
        width = weight.shape[1]
        arrived = graph.node("Gather", graph.constant(weight, name="weight_in"), unit)
        index = graph.unsqueeze(row, 1)
    else:
        width = spec.channels
        arrived = graph.node("Expand", graph.constant(1.0, "float32"), graph.size_of(unit, 0))
        index = graph.node("Concat", graph.unsqueeze(row, 1), graph.unsqueeze(unit, 1), axis=1)
    blank = graph.node("ConstantOfShape", graph.node("Concat", rows, graph.constant([width], "int64"), axis=0))
    scattered = graph.node("ScatterND", blank, index, arrived, reduction="add")
    shape = graph.node(
        "Concat", graph.size_of(steps, 0), graph.unsqueeze(longest, 0), graph.constant([width], "int64"), axis=0
    )
    drive = graph.node("Reshape", scattered, shape)

    traces = {"readout": spec.outputs} | {f"hidden{i + 1}.spikes": n for i, n in enumerate(spec.hidden)}
    after = graph.node(
        "Scan",
        *states.values(),
        drive,
        active,
        outputs=len(states) + len(traces),
        body=_step_graph(network, form, layers, width, list(traces)).graph(),
        num_scan_inputs=2,
        scan_input_axes=[1, 1],
        scan_output_axes=[1] * len(traces),
    )
    final = dict(zip(states, after[: len(states)], strict=True))
    for tensor in layout:
        graph.output(f"next.{tensor.name}", tensor.dtype, ["batch", *tensor.shape], final[tensor.name])
    score = final["decision.score"]
    graph.output("scores", "float32", ["batch", spec.outputs], score)
    graph.output(
        "probabilities", "float32", ["batch", spec.outputs], _probabilities(graph, spec, score, final["decision.step"])
    )
    for name, trace in zip(traces, after[len(states) :], strict=True):
        graph.output(name, "float32", ["batch", "longest", traces[name]], trace)
    return graph.model()


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to("cpu").float().numpy()


def _probabilities(graph: GraphBuilder, spec: NetworkSpec, score: str, step: str) -> str:
    if spec.decision.rule != "sum_softmax":
        return str(graph.node("Softmax", score, axis=-1))
    counted = graph.node("Sub", step, graph.constant(spec.decision.skip_steps, "int64"))
    counted = graph.unsqueeze(graph.cast(graph.node("Max", counted, graph.constant(0, "int64")), "float32"), 1)
    share = graph.node("Div", score, graph.node("Max", counted, graph.constant(1.0, "float32")))
    return str(
        graph.node(
            "Where",
            graph.node("Greater", counted, graph.constant(0.0, "float32")),
            share,
            graph.constant(1.0 / spec.outputs, "float32"),
        )
    )


def _step_graph(
    network: Network, form: Form, layers: list[LayerWeights], width: int, traces: list[str]
) -> GraphBuilder:
    """Body of the Scan: one step of all streams."""
    spec, layout = network.spec, network.state_layout(form)
    body = GraphBuilder("step")
    before = {t.name: body.input(f"before.{t.name}", t.dtype, ["batch", *t.shape]) for t in layout}
    x = body.input("drive", "float32", ["batch", width])
    active = body.input("active", "bool", ["batch"])
    after: dict[str, str] = {}
    outputs: dict[str, str] = {}
    potential = fired = ""
    for position, layer in enumerate(layers):
        potential = _currents(body, layer, before, after, x, driven=position == 0)
        if layer.reset_decay is None:
            continue
        potential, fired = _spikes(body, spec, layer, before, after, potential)
        x = fired
        if layer.name != "readout":
            outputs[f"{layer.name}.spikes"] = fired
    outputs["readout"] = potential
    _decide(body, spec, before, after, potential, fired)
    for tensor in layout:
        mask = body.unsqueeze(active, *range(1, len(tensor.shape) + 1)) if tensor.shape else active
        kept = body.node("Where", mask, after[tensor.name], before[tensor.name])
        body.output(f"after.{tensor.name}", tensor.dtype, ["batch", *tensor.shape], kept)
    for name in traces:
        body.output(
            f"trace.{name}",
            "float32",
            [
                "batch",
                spec.outputs if name == "readout" else spec.hidden[int(name.split(".")[0].removeprefix("hidden")) - 1],
            ],
            outputs[name],
        )
    return body


def _currents(
    body: GraphBuilder, layer: LayerWeights, before: dict[str, str], after: dict[str, str], x: str, *, driven: bool
) -> str:
    """The layer's currents of this step into ``after``; their sum a neuron, [batch, neurons]."""
    synapses, name = layer.synapses, layer.name
    if isinstance(synapses, BankWeights):
        # the first layer's product was made for the whole chunk
        arriving = (
            x if driven else body.node("MatMul", x, body.constant(_array(synapses.weight_in), name=f"{name}.w_in"))
        )
        if synapses.weight_rec is not None:
            recurrent = body.constant(_array(synapses.weight_rec), name=f"{name}.w_rec")
            arriving = body.node("Add", arriving, body.node("MatMul", before[f"{name}.spikes"], recurrent))
        if synapses.bias is not None:
            arriving = body.node("Add", arriving, body.constant(_array(synapses.bias), name=f"{name}.bias"))
        bank = synapses.decays.shape[0]
        neurons = synapses.weight_in.shape[1] // bank
        decays = body.constant(_array(synapses.decays).reshape(bank, 1), name=f"{name}.decays")
        current = body.node(
            "Add", body.node("Mul", decays, before[f"{name}.bank_current"]), body.reshape(arriving, [0, bank, neurons])
        )
        after[f"{name}.bank_current"] = current
        parts = body.node("Split", current, outputs=bank, axis=1, num_outputs=bank) if bank > 1 else [current]
        total = parts[0]
        for part in parts[1:]:  # a fixed order, the same in every implementation
            total = body.node("Add", total, part)
        return body.reshape(total, [0, neurons])
    sums = [_exact_path(body, name, "input", x, synapses, before, after)]
    if synapses.weight_rec is not None:
        sums.append(_exact_path(body, name, "recurrent", before[f"{name}.spikes"], synapses, before, after))
    return sums[0] if len(sums) == 1 else str(body.node("Add", *sums))


def _exact_path(
    body: GraphBuilder,
    layer: str,
    path: str,
    x: str,
    synapses: ExactWeights,
    before: dict[str, str],
    after: dict[str, str],
) -> str:
    recurrent = path == "recurrent"
    weight = synapses.weight_rec if recurrent else synapses.weight_in
    decay = synapses.decay_rec if recurrent else synapses.decay_in
    bias = synapses.bias_rec if recurrent else synapses.bias_in
    assert weight is not None
    assert decay is not None
    name = f"{layer}.{path}_current"
    if synapses.per_synapse:
        drive = body.node("Mul", body.constant(_array(weight), name=f"{layer}.{path}.w"), body.unsqueeze(x, 1))
    else:
        wide = body.constant(_array(weight).astype(np.float64).T, name=f"{layer}.{path}.w")
        drive = body.unsqueeze(body.cast(body.node("MatMul", body.cast(x, "float64"), wide), "float32"), 2)
    current = body.node(
        "Add", body.node("Mul", body.constant(_array(decay), name=f"{layer}.{path}.r"), before[name]), drive
    )
    if bias is not None:
        current = body.node("Add", current, body.constant(_array(bias), name=f"{layer}.{path}.b"))
    after[name] = current
    total = body.node("ReduceSum", body.cast(current, "float64"), body.constant([-1], "int64"), keepdims=0)
    return body.cast(total, "float32")


def _spikes(
    body: GraphBuilder,
    spec: NetworkSpec,
    layer: LayerWeights,
    before: dict[str, str],
    after: dict[str, str],
    currents: str,
) -> tuple[str, str]:
    """Threshold and reset of one layer into ``after``; potential and spikes, [batch, neurons]."""
    name, neuron = layer.name, spec.neuron
    assert layer.reset_decay is not None

    def scalar(value: float) -> Any:
        return body.constant(value, "float32")

    earlier = before[f"{name}.spikes"]
    kappa = body.constant(_array(layer.reset_decay), name=f"{name}.kappa")
    reset = body.node(
        "Add",
        body.node("Mul", kappa, before[f"{name}.reset_current"]),
        body.node("Mul", scalar(neuron.threshold), earlier),
    )
    potential = body.node("Sub", currents, reset)
    level = scalar(neuron.threshold)
    if neuron.adaptive:
        adaptation = body.node(
            "Add",
            body.node("Mul", scalar(decay_of(neuron.adaptation_tau_steps)), before[f"{name}.adaptation_current"]),
            body.node("Mul", scalar(neuron.adaptation_strength), earlier),
        )
        after[f"{name}.adaptation_current"] = adaptation
        level = body.node("Add", level, adaptation)
    spikes = body.cast(body.node("Greater", potential, level), "float32")
    after[f"{name}.reset_current"], after[f"{name}.spikes"] = reset, spikes
    return potential, spikes


def _decide(
    body: GraphBuilder, spec: NetworkSpec, before: dict[str, str], after: dict[str, str], potential: str, fired: str
) -> None:
    rule = spec.decision.rule
    score, step = before["decision.score"], before["decision.step"]
    counts = body.unsqueeze(body.node("GreaterOrEqual", step, body.constant(spec.decision.skip_steps, "int64")), 1)
    if rule in ("sum_softmax", "spike_count"):
        gain = body.node("Softmax", potential, axis=-1) if rule == "sum_softmax" else fired
        score = body.node("Add", score, body.node("Where", counts, gain, body.constant(0.0, "float32")))
    else:
        score = body.node("Where", counts, potential, score)
    after["decision.score"] = score
    after["decision.step"] = body.node("Add", step, body.constant(1, "int64"))
