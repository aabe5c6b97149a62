"""Computes the shape of each node's output at a step, and checks that its input fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from export.nir import Unsupported
from export.nir.graph import INPUT, WEIGHTS, Graph, Node
from export.nir.ordering import Order

Shape = tuple[int, ...]


def shapes_of(graph: Graph, order: Order) -> dict[str, Shape]:
    """Compute the shape of each node's output, without the batch.

    Raises:
        Unsupported: a node's input does not fit; the message names it and both shapes.
    """
    found: dict[str, Shape] = {}
    for name in _by_known_sources(graph, order):
        node = graph.nodes[name]
        if node.kind == INPUT:
            found[name] = _input_shape(node, [graph.nodes[target] for target in graph.targets(name)])
            continue
        shapes = {source: found[source] for source in graph.sources(name) if source in found}
        first, *others = shapes.items()
        for source, shape in others:
            if shape != first[1]:
                raise Unsupported(
                    f"node {name!r} adds up {_shown(first[1])} from {first[0]!r} and {_shown(shape)} from {source!r}: "
                    "give both the same shape"
                )
        found[name] = _output_shape(node, first[1], first[0])
    for source, target in order.delayed:  # these were not checked above
        expected = _taken(graph, found, target, source)
        if found[source] != expected:
            raise _misfit(graph.nodes[target], found[source], source, f"takes {_shown(expected)}")
    return found


def _by_known_sources(graph: Graph, order: Order) -> list[str]:
    """Return the order of a step, with each node that has only delayed sources after one of them."""
    known: dict[str, None] = {}
    waiting = list(order.names)
    while waiting:
        ready = [n for n in waiting if graph.nodes[n].kind == INPUT or any(s in known for s in graph.sources(n))]
        known |= dict.fromkeys(ready[:1])
        waiting.remove(ready[0])
    return list(known)


def _taken(graph: Graph, found: Mapping[str, Shape], target: str, source: str) -> Shape:
    """Return the input shape of a node: its first source's, which the others must match."""
    others = [found[other] for other in graph.sources(target) if other != source and other in found]
    return others[0] if others else found[source]


def _input_shape(node: Node, targets: Sequence[Node]) -> Shape:
    shape = node.options.get("input_type")
    if shape is None:
        raise Unsupported(f"node {node.name!r}: the Input has no shape: write it as nir.Input(numpy.array([channels]))")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if not shape or min(shape) < 1:
        raise Unsupported(f"node {node.name!r}: the Input has shape {list(shape)}: give the number of channels")
    if len(shape) == 2 and targets and all(target.kind in WEIGHTS for target in targets):
        return shape[1:]  # a matrix takes a row: Norse writes the batch of its example as a side, Sinabs its steps
    return shape


def _output_shape(node: Node, shape: Shape, source: str) -> Shape:
    if node.kind in WEIGHTS:
        outputs, inputs = node.values["weight"].shape
        if shape != (inputs,):
            raise _misfit(node, shape, source, f"its weight takes {inputs}")
        return (outputs,)
    if node.kind in ("Conv1d", "Conv2d"):
        return _convolved(node, shape, source)
    if node.kind in ("SumPool2d", "AvgPool2d"):
        if len(shape) != 3:
            raise _misfit(node, shape, source, "it takes [channels, height, width]")
        size = [pair(node.options[option]) for option in ("kernel_size", "stride", "padding")]
        if any(2 * padding > kernel for kernel, _, padding in zip(*size, strict=True)):
            raise Unsupported(f"node {node.name!r}: its padding is more than half of its kernel: choose less padding")
        return (shape[0], *(_windows(node, *dims) for dims in zip(shape[1:], *size, (1, 1), strict=True)))
    if node.kind == "Flatten":
        return _flattened(node, shape)
    for parameter, value in node.values.items():
        if value.size != 1 and value.shape != shape:
            raise _misfit(node, shape, source, f"its {parameter} has {_shown(value.shape)}")
    return shape


def pair(value: int | Shape | str) -> Shape:
    """Expand one number or two to a height and a width."""
    if isinstance(value, str):
        raise TypeError(value)
    values = (value,) if isinstance(value, int) else value
    return values * 2 if len(values) == 1 else values


def one(value: int | Shape) -> int:
    """Unpack a number, or a tuple of one."""
    return value if isinstance(value, int) else value[0]


def _convolved(node: Node, shape: Shape, source: str) -> Shape:
    outputs, a_group, *kernel = node.values["weight"].shape
    groups = one(node.options["groups"])
    if len(shape) != len(kernel) + 1 or shape[0] != a_group * groups:
        expected = "length" if len(kernel) == 1 else "height, width"
        raise _misfit(node, shape, source, f"it takes [{a_group * groups}, {expected}]")
    if outputs % groups:
        raise Unsupported(f"node {node.name!r}: {groups} groups do not divide its {outputs} outputs: choose a divisor")

    def as_sides(value: int | Shape) -> Shape:
        return pair(value) if len(kernel) == 2 else (one(value),)

    stride, dilation = as_sides(node.options["stride"]), as_sides(node.options["dilation"])
    padding = node.options["padding"]
    if padding == "same":
        if set(stride) != {1}:
            raise Unsupported(f"node {node.name!r}: padding 'same' needs a stride of 1: give the padding in numbers")
        return (outputs, *shape[1:])
    sides = (0,) * len(kernel) if padding == "valid" else as_sides(padding)
    dims = zip(shape[1:], kernel, stride, sides, dilation, strict=True)
    return (outputs, *(_windows(node, *dim) for dim in dims))


def _windows(node: Node, length: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Count the positions of a window along a side."""
    if min(kernel, stride, dilation) < 1 or padding < 0:
        raise Unsupported(f"node {node.name!r}: a kernel, stride or dilation below 1, or a padding below 0: correct it")
    windows = (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if windows < 1:
        raise Unsupported(
            f"node {node.name!r}: its kernel of {kernel} does not fit into a side of {length}: choose less"
        )
    return windows


def _flattened(node: Node, shape: Shape) -> Shape:
    first, last = flat_sides(node, len(shape))
    return (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])


def flat_sides(node: Node, dimensions: int) -> tuple[int, int]:
    """Return the first and the last dimension that a Flatten joins.

    Raises:
        Unsupported: there are no such dimensions.
    """
    first, last = (
        side % dimensions if -dimensions <= side < dimensions else dimensions
        for side in (node.options["start_dim"], node.options["end_dim"])
    )
    if first > last or last >= dimensions:
        raise Unsupported(
            f"node {node.name!r}: joins sides {node.options['start_dim']} to {node.options['end_dim']} of "
            f"{dimensions}: count them from 0, without the batch"
        )
    return first, last


def _shown(shape: Shape) -> str:
    return f"shape {list(shape)}"


def _misfit(node: Node, shape: Shape, source: str, takes: str) -> Unsupported:
    return Unsupported(f"node {node.name!r} gets {_shown(shape)} from {source!r}, but {takes}: make them equal")
