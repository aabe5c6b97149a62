"""Computes the numbers of each node's step, in float64, under a convention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from export.nir import NirError
from export.nir.convention import Convention, Reset
from export.nir.graph import INTEGRATORS, NEURONS, SPIKING, Float64Array, Graph, Node
from export.nir.ordering import Order, order_of
from export.nir.shapes import Shape, shapes_of

ROUNDING = 4 * float(np.finfo(np.float32).eps)  # error of a gain that was divided and multiplied in float32
MAX_STATE_WORDS = 2**26  # a server's limit of float32 values of one stream's state


@dataclass(frozen=True)
class Neurons:
    """One layer of neurons.

        i(t) = current_decay * i(t-1) + current_gain * x(t)     with a current; without one i(t) = x(t)
        v(t) = decay * v(t-1) + gain * i(t) + offset

    Attributes:
        current_decay: None without a current.
        initial: v before the first step: the leak, or the reset potential if there is no leak.
        threshold: None for integrators: v is their output.
        reset_to: the potential after a spike, for the reset ``zero``.
        reset: None for integrators.
        reached: a potential equal to the threshold spikes too.
        multiple: several spikes in a step.
    """

    current_decay: Float64Array | None
    current_gain: Float64Array
    decay: Float64Array
    gain: Float64Array
    offset: Float64Array
    initial: Float64Array
    threshold: Float64Array | None
    reset_to: Float64Array
    reset: Reset | None
    reached: bool
    multiple: bool


@dataclass(frozen=True)
class Program:
    """A graph in steps.

    Attributes:
        convention: the convention of the steps; ``subtract`` is resolved to one of its kinds.
        shapes: shape of each node's output.
        neurons: by node.
        delays: whole steps of each Delay node, int64.
        notes: deviations from the file; with any, the import is an approximation.
    """

    graph: Graph
    convention: Convention
    order: Order
    shapes: Mapping[str, Shape]
    neurons: Mapping[str, Neurons]
    delays: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = field(default=())

    @property
    def spiking(self) -> tuple[str, ...]:
        return tuple(name for name in self.order.names if self.graph.nodes[name].kind in SPIKING)


def program_of(graph: Graph, convention: Convention) -> Program:
    """Convert a graph to steps.

    Raises:
        NirError: the convention lacks what a node needs, or a node or a loop cannot be run; the message names it.
    """
    delays: dict[str, np.ndarray] = {}
    notes: list[str] = []
    for node in graph.of_kind("Delay"):
        delays[node.name] = _delay_steps(node, convention, notes)
    order = order_of(graph, [name for name, steps in delays.items() if steps.min(initial=0) >= 1])
    shapes = shapes_of(graph, order)
    used = [graph.nodes[name] for name in order.names]
    convention = _with_clear_reset([node for node in used if node.kind in NEURONS], convention)
    neurons = {node.name: _neurons(node, convention) for node in used if node.kind in NEURONS}
    program = Program(graph, convention, order, shapes, neurons, delays, tuple(notes))
    words = sum(np.prod(shape) for shape in state_shapes(program).values())
    if words > MAX_STATE_WORDS:
        raise NirError(
            f"a stream's state would have {words:,.0f} numbers, above {MAX_STATE_WORDS:,}: shorten the delays or give "
            "a longer --dt"
        )
    return program


def state_shapes(program: Program) -> dict[str, Shape]:
    """Return the state tensors of a stream, by name."""
    shapes: dict[str, Shape] = {}
    for name in program.order.names:
        shape = program.shapes[name]
        if name in program.neurons:
            if program.neurons[name].current_decay is not None:
                shapes[f"{name}.current"] = shape
            shapes[f"{name}.potential"] = shape
        if name in program.delays and program.delays[name].max(initial=0):
            shapes[f"{name}.queue"] = (int(program.delays[name].max()), *shape)
        if name in program.order.remembered:
            shapes[f"{name}.last"] = shape
    return shapes


def _delay_steps(node: Node, convention: Convention, notes: list[str]) -> np.ndarray:
    delay = node.values["delay"]
    if not delay.any():
        return np.zeros(delay.shape, np.int64)
    steps = delay / convention.step_s(node.name)
    whole = np.round(steps)
    if not np.allclose(steps, whole, rtol=1e-6, atol=1e-6):
        worst = float(np.abs(steps - whole).max())
        notes.append(f"node {node.name!r}: delays are rounded to whole steps, by up to {worst:.3g} of a step")
    if whole.max() > MAX_STATE_WORDS:
        raise NirError(f"node {node.name!r}: a delay of {whole.max():.3g} steps: give a longer --dt")
    return whole.astype(np.int64)


def _with_clear_reset(nodes: Sequence[Node], convention: Convention) -> Convention:
    """Resolve the reset ``subtract`` to one of its two kinds.

    Raises:
        NirError: the neurons need different kinds.
    """
    if convention.reset != "subtract":
        return convention
    leaky = {node.name: _neurons(node, convention) for node in nodes if node.kind in ("LIF", "CubaLIF")}
    is_euler = convention.rule == "euler"
    unit = [name for name, neurons in leaky.items() if is_euler and bool((neurons.gain == 1).all())]
    other = [name for name in leaky if name not in unit]
    if unit and other:
        raise NirError(
            f"node {unit[0]!r} has a gain of 1 and node {other[0]!r} another, so --reset subtract is not clear: give "
            "subtract-at-once or subtract-next"
        )
    return replace(convention, reset="subtract-next" if unit else "subtract-at-once")


def _neurons(node: Node, convention: Convention) -> Neurons:
    values, kind = node.values, node.kind
    zero = np.zeros(())
    current_decay, current_gain = None, np.ones(())
    if "tau_syn" in values:
        current_decay, gain = _decay_and_gain(node, "tau_syn", convention)
        current_gain = _rounded(values["w_in"] * (1.0 if convention.current_jumps else gain))
    if "tau" in values or "tau_mem" in values:
        decay, gain = _decay_and_gain(node, "tau" if "tau" in values else "tau_mem", convention)
        initial = values["v_leak"]
        offset = gain * initial
    else:
        decay, offset = np.ones(()), zero
        gain = np.asarray(1.0 if kind in convention.jumps else convention.step_s(node.name))
        initial = values.get("v_reset", zero)
    gain = _rounded(values["r"] * (1.0 if kind in convention.jumps else gain))
    reset = None if kind in INTEGRATORS else convention.reset_rule(node.name)
    reset_to = values.get("v_reset", zero)
    if reset not in (None, "zero") and reset_to.any():
        raise NirError(
            f"node {node.name!r} has a reset potential that is not 0, which --reset {reset} does not use: give --reset "
            "zero"
        )
    threshold = None if reset is None else values["v_threshold"]
    if convention.multiple and threshold is not None and (threshold <= 0).any():
        raise NirError(f"node {node.name!r}: several spikes in a step need a threshold above 0: give one")
    return Neurons(
        current_decay,
        current_gain,
        decay,
        gain,
        offset,
        initial,
        threshold,
        reset_to,
        reset,
        convention.reached,
        convention.multiple,
    )


def _decay_and_gain(node: Node, parameter: str, convention: Convention) -> tuple[Float64Array, Float64Array]:
    """Compute a and 1 - a of a time constant.

    Raises:
        NirError: the step is too long for it, by Euler's rule.
    """
    step = convention.step_s(node.name)
    tau = node.values[parameter]
    if convention.integration(node.name) == "exponential":
        decay = np.exp(-step / tau)
        return decay, -np.expm1(-step / tau)
    if (tau <= step).any():
        raise NirError(
            f"node {node.name!r}: its {parameter} is {tau.min():.3g} s, not longer than a step of {step:g} s: give the "
            "--dt of the file, or --rule exponential"
        )
    return 1 - step / tau, step / tau


def _rounded(gain: Float64Array) -> Float64Array:
    """Round a gain to 1 if it differs only by the float32 rounding of tau and R."""
    return np.where(np.abs(gain - 1) <= ROUNDING, 1.0, gain)
