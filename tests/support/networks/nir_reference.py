"""Runs a NIR graph in steps in float64 NumPy. It shares no arithmetic with the torch cell."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from export.nir.dynamics import Neurons, Program
from export.nir.graph import INPUT, OUTPUT, Float64Array, Node
from export.nir.shapes import Shape, flat_sides, one, pair


def run_reference(program: Program, values: Float64Array) -> dict[str, Float64Array]:
    """Whole streams from their initial state.

    Args:
        program: the graph in steps.
        values: [stream, steps, channels].

    Returns:
        By name, the output of every spiking node and of the Output, [stream, steps, *shape].
    """
    graph, streams = program.graph, values.shape[0]
    source, sink = graph.of_kind(INPUT)[0].name, graph.of_kind(OUTPUT)[0].name
    history: dict[str, list[Float64Array]] = {name: [] for name in program.order.names}
    inputs: dict[str, list[Float64Array]] = {name: [] for name in program.delays}
    potential = {
        name: np.zeros((streams, *program.shapes[name])) + neurons.initial for name, neurons in program.neurons.items()
    }
    current = {name: np.zeros((streams, *program.shapes[name])) for name in program.neurons}

    def taken(name: str, t: int) -> Float64Array:
        total = np.zeros((streams, *_input_shape(program, name)))
        for before in graph.sources(name):
            if (before, name) in program.order.delayed:
                total = total + (history[before][t - 1] if t else 0.0)
            elif before in history:
                total = total + history[before][t]
        return total

    for t in range(values.shape[1]):
        for name in program.order.names:
            if name == source:
                out = values[:, t].reshape(streams, *program.shapes[name])
            elif name in program.delays:
                if program.delays[name].min(initial=0) < 1:
                    inputs[name].append(taken(name, t))
                out = _late(inputs[name], program.delays[name], t, (streams, *program.shapes[name]))
            elif name in program.neurons:
                x = taken(name, t)
                potential[name], current[name], out = _fire(program.neurons[name], potential[name], current[name], x)
            else:
                out = _apply(graph.nodes[name], taken(name, t), program.convention.reached)
            history[name].append(out)
        for name in program.delays:
            if len(inputs[name]) == t and name in history:
                inputs[name].append(taken(name, t))
    return {name: np.stack(history[name], 1) for name in {*program.spiking, sink}}


def _input_shape(program: Program, name: str) -> tuple[int, ...]:
    known = [source for source in program.graph.sources(name) if source in program.shapes]
    return program.shapes[known[0]]


def _late(inputs: list[Float64Array], steps: np.ndarray, t: int, shape: tuple[int, ...]) -> Float64Array:
    out = np.zeros(shape)
    each = np.broadcast_to(steps if steps.size != 1 else steps.reshape(()), shape[1:])
    for delay in np.unique(each):
        if t >= delay:
            out[:, each == delay] = inputs[t - delay][:, each == delay]
    return out


def _fire(
    n: Neurons, v: Float64Array, current: Float64Array, x: Float64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Potential after the reset, current, and output."""
    if n.current_decay is not None:
        current = n.current_decay * current + n.current_gain * x
        x = current
    u = n.decay * v + n.gain * x + n.offset
    if n.threshold is None:
        return u, current, u
    if n.reset == "subtract-next":
        u = u - n.threshold * _count(n, v)
        return u, current, _count(n, u)
    z = _count(n, u)
    return (np.where(z > 0, n.reset_to, u) if n.reset == "zero" else u - n.threshold * z), current, z


def _count(n: Neurons, v: Float64Array) -> Float64Array:
    assert n.threshold is not None
    if n.multiple:
        return np.floor(np.maximum(v, 0.0) / n.threshold)
    return (v >= n.threshold if n.reached else v > n.threshold).astype(np.float64)


def _apply(node: Node, x: Float64Array, reached: bool) -> Float64Array:
    values, options, kind = node.values, node.options, node.kind
    if kind in ("Linear", "Affine"):
        return np.asarray(np.einsum("ji,bi->bj", values["weight"], x) + values.get("bias", 0.0))
    if kind == "Scale":
        return x * values["scale"]
    if kind == "Threshold":
        return (x >= values["threshold"] if reached else x > values["threshold"]).astype(np.float64)
    if kind == "Flatten":
        first, last = flat_sides(node, x.ndim - 1)
        return x.reshape(*x.shape[: 1 + first], -1, *x.shape[2 + last :])
    if kind == "Conv1d":
        return _convolve(node, x[:, :, None], lambda value: (0, one(value)), lambda value: (1, one(value)))[:, :, 0]
    if kind == "Conv2d":
        return _convolve(node, x, pair, pair)
    if kind in ("SumPool2d", "AvgPool2d"):
        kernel, stride, padding = (pair(options[option]) for option in ("kernel_size", "stride", "padding"))
        total = sum(window for _, window in _windows(x, (kernel[0], kernel[1]), stride, padding, (1, 1)))
        return np.asarray(total / (kernel[0] * kernel[1] if kind == "AvgPool2d" else 1))
    return x


Sides = Callable[[int | Shape], Shape]


def _convolve(node: Node, x: Float64Array, sides: Sides, strides: Sides) -> Float64Array:
    """A convolution over two sides, the first of them of length 1 for one side alone."""
    weight, options = node.values["weight"], node.options
    weight = weight[:, :, None] if weight.ndim == 3 else weight
    groups, kernel, dilation = one(options["groups"]), weight.shape[2:], strides(options["dilation"])
    if options["padding"] == "same":
        extra = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        x = np.pad(x, ((0, 0), (0, 0), *((e // 2, e - e // 2) for e in extra)))
        padding: tuple[int, ...] = (0, 0)
    else:
        padding = (0, 0) if options["padding"] == "valid" else sides(options["padding"])
    a_group, outputs = weight.shape[1], weight.shape[0] // groups
    parts = []
    for group in range(groups):
        mine = x[:, group * a_group : (group + 1) * a_group]
        kernels = weight[group * outputs : (group + 1) * outputs]
        windows = _windows(mine, (kernel[0], kernel[1]), strides(options["stride"]), padding, dilation)
        parts.append(sum(np.einsum("oc,bchw->bohw", kernels[:, :, i, j], window) for (i, j), window in windows))
    return np.asarray(np.concatenate([np.asarray(part) for part in parts], 1) + node.values["bias"][:, None, None])


def _windows(
    x: Float64Array,
    kernel: tuple[int, int],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> list[tuple[tuple[int, int], Float64Array]]:
    """For each offset in the kernel, what it meets at every position of the window."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    rows, columns = (
        (x.shape[2 + side] - dilation[side] * (kernel[side] - 1) - 1) // stride[side] + 1 for side in (0, 1)
    )
    found = []
    for i, j in product(range(kernel[0]), range(kernel[1])):
        top, left = i * dilation[0], j * dilation[1]
        bottom, right = top + (rows - 1) * stride[0] + 1, left + (columns - 1) * stride[1] + 1
        found.append(((i, j), x[:, :, top : bottom : stride[0], left : right : stride[1]]))
    return found
