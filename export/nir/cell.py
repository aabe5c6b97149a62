"""A NIR graph in steps as a torch module, for ``export_step``."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from export.nir.dynamics import Neurons, Program, state_shapes
from export.nir.graph import INPUT, OUTPUT, Float64Array, Node
from export.nir.shapes import flat_sides, one, pair

State = dict[str, Tensor]


class NirCell(nn.Module):
    """One step of a NIR graph.

    Args:
        program: the graph in steps.
        dtype: float32 as it is served, or float64, the reference that an import is judged by.
    """

    def __init__(self, program: Program, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.program, self.dtype = program, dtype
        graph, order = program.graph, program.order
        self.source, self.sink = graph.of_kind(INPUT)[0].name, graph.of_kind(OUTPUT)[0].name
        self.parts = nn.ModuleList(_part(program, graph.nodes[name], dtype) for name in order.names)
        self.incoming = {
            name: [(source, (source, name) in order.delayed) for source in graph.sources(name) if source in order.names]
            for name in order.names
        }

    def initial_state(self, batch: int = 1) -> State:
        """Return the state before the first step, [batch, ...]: potentials at rest, all else 0."""
        state = {
            name: torch.zeros(batch, *shape, dtype=self.dtype) for name, shape in state_shapes(self.program).items()
        }
        for name, neurons in self.program.neurons.items():
            potential = f"{name}.potential"
            state[potential] = state[potential] + torch.as_tensor(neurons.initial, dtype=self.dtype)
        return state

    def step(self, state: State, values: Tensor) -> tuple[State, Tensor]:
        """Run one step.

        Args:
            values: [batch, channels], the Input's numbers, flat.

        Returns:
            The state after the step, and the Output's numbers [batch, outputs].
        """
        after, outputs = self.trace(state, values)
        return after, outputs[self.sink].flatten(1)

    def trace(self, state: State, values: Tensor) -> tuple[State, dict[str, Tensor]]:
        """Run one step. Returns the state, and the output of every node by name."""
        after: State = {}
        outputs: dict[str, Tensor] = {}
        for name, part in zip(self.program.order.names, self.parts, strict=True):
            if name == self.source:
                outputs[name] = values.reshape(-1, *self.program.shapes[name])
            elif isinstance(part, _Delayed) and part.is_buffered:
                outputs[name] = part.oldest(state)
            else:
                new, outputs[name] = part(state, self._sum(name, state, outputs))
                after |= new
        for name, part in zip(self.program.order.names, self.parts, strict=True):
            if isinstance(part, _Delayed) and part.is_buffered:
                after |= part.push(state, self._sum(name, state, outputs))
        after |= {f"{name}.last": outputs[name] for name in self.program.order.remembered}
        return {name: after[name] for name in state}, outputs

    def _sum(self, name: str, state: State, outputs: dict[str, Tensor]) -> Tensor:
        first, *others = (state[f"{n}.last"] if late else outputs[n] for n, late in self.incoming[name])
        for other in others:
            first = first + other
        return first


class CountingCell(nn.Module):
    """Counts the spikes of a cell's outputs so far.

    The rule ``spike_count`` adds at most one spike a step, and a server checks scores by that. If a neuron fires
    several, the count is a state of this cell, and the decision is its last value.

    Args:
        cell: its outputs are spikes.
    """

    COUNT = "count"

    def __init__(self, cell: NirCell) -> None:
        super().__init__()
        self.cell = cell

    def initial_state(self) -> State:
        """Return the cell's initial state, and counts of 0."""
        shape = self.cell.program.shapes[self.cell.sink]
        return self.cell.initial_state() | {self.COUNT: torch.zeros(1, prod(shape))}

    def step(self, state: State, values: Tensor) -> tuple[State, Tensor]:
        """Run one step. Returns the state, and the counts [batch, outputs]."""
        inner = {name: value for name, value in state.items() if name != self.COUNT}
        after, spikes = self.cell.step(inner, values)
        count = state[self.COUNT] + spikes
        return after | {self.COUNT: count}, count


@torch.no_grad()
def run_cell(cell: NirCell, values: Float64Array) -> dict[str, Float64Array]:
    """Run a cell on whole streams, [stream, steps, channels], from its initial state.

    Returns:
        The output of every spiking node and of the Output by name, [stream, steps, *shape].
    """
    program = cell.program
    wanted = {*program.spiking, cell.sink}
    traces: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    state = cell.initial_state(len(values))
    for t in range(values.shape[1]):
        state, outputs = cell.trace(state, torch.from_numpy(values[:, t]).to(cell.dtype))
        for name in wanted:
            traces[name].append(outputs[name].numpy().astype(np.float64))
    return {name: np.stack(trace, 1) for name, trace in traces.items()}


def _part(program: Program, node: Node, dtype: torch.dtype) -> nn.Module:
    if node.name in program.neurons:
        return _Neurons(node.name, program.neurons[node.name], dtype)
    if node.name in program.delays:
        return _Delayed(node.name, program.delays[node.name], program.shapes[node.name])
    return _Stateless(node, program.convention.reached, dtype)


def _buffer(value: ArrayLike, dtype: torch.dtype) -> Tensor:
    array = np.asarray(value)
    return torch.as_tensor(array.reshape(()) if array.size == 1 else array).to(dtype)


class _Neurons(nn.Module):
    """:class:`~export.nir.dynamics.Neurons` as a module."""

    decay: Tensor
    gain: Tensor
    offset: Tensor
    threshold: Tensor
    reset_to: Tensor
    current_decay: Tensor
    current_gain: Tensor

    def __init__(self, name: str, neurons: Neurons, dtype: torch.dtype) -> None:
        super().__init__()
        self.name, self.neurons = name, neurons
        for constant in ("decay", "gain", "offset", "threshold", "reset_to", "current_decay", "current_gain"):
            value = getattr(neurons, constant)
            self.register_buffer(constant, None if value is None else _buffer(value, dtype))
        self.has_gain = bool((neurons.gain != 1).any())
        self.has_current_gain = bool((neurons.current_gain != 1).any())

    def forward(self, state: State, x: Tensor) -> tuple[State, Tensor]:
        after: State = {}
        neurons, potential, current = self.neurons, f"{self.name}.potential", f"{self.name}.current"
        if neurons.current_decay is not None:
            x = self.current_decay * state[current] + (self.current_gain * x if self.has_current_gain else x)
            after[current] = x
        before = state[potential]
        v = self.decay * before + (self.gain * x if self.has_gain else x)
        if neurons.offset.any():
            v = v + self.offset
        if neurons.threshold is None:
            return after | {potential: v}, v
        if neurons.reset == "subtract-next":
            v = v - self._spikes(before) * self.threshold
        z = self._spikes(v)
        if neurons.reset == "zero":
            after[potential] = torch.where(z > 0, self.reset_to, v)
        elif neurons.reset == "subtract-at-once":
            after[potential] = v - z * self.threshold
        else:
            after[potential] = v
        return after, z

    def _spikes(self, v: Tensor) -> Tensor:
        if self.neurons.multiple:
            return torch.trunc(v.clamp_min(0) / self.threshold)
        return (v >= self.threshold if self.neurons.reached else v > self.threshold).to(v.dtype)


class _Delayed(nn.Module):
    """A queue of the last inputs, newest first. It is buffered if no output depends on the input of the same step."""

    index: Tensor

    def __init__(self, name: str, steps: np.ndarray, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.queue = f"{name}.queue"
        self.steps = np.broadcast_to(steps if steps.size != 1 else steps.reshape(()), shape)
        self.length = int(self.steps.max(initial=0))
        self.is_buffered = bool(self.steps.min(initial=0 if not self.steps.size else self.steps.max()) >= 1)
        self.register_buffer("index", torch.from_numpy(np.array(self.steps))[None, None])

    def forward(self, state: State, x: Tensor) -> tuple[State, Tensor]:
        if not self.length:
            return {}, x
        inputs = torch.cat([x.unsqueeze(1), state[self.queue]], 1)
        return {self.queue: inputs[:, : self.length]}, self._pick(inputs, self.index)

    def oldest(self, state: State) -> Tensor:
        """Return the output, without the input of this step."""
        return self._pick(state[self.queue], self.index - 1)

    def push(self, state: State, x: Tensor) -> State:
        return {self.queue: torch.cat([x.unsqueeze(1), state[self.queue]], 1)[:, : self.length]}

    def _pick(self, inputs: Tensor, index: Tensor) -> Tensor:
        if (self.steps == self.length).all():
            return inputs[:, -1]
        return inputs.gather(1, index.expand(inputs.shape[0], *index.shape[1:])).squeeze(1)


class _Stateless(nn.Module):
    """Every other node: its output depends on its input alone."""

    weight: Tensor
    bias: Tensor
    scale: Tensor
    threshold: Tensor

    def __init__(self, node: Node, reached: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.node, self.reached = node, reached
        # sum matrix products in float64 and round once, so that neither the other streams of a batch nor the runtime's
        # order of additions moves a potential across a threshold; ONNX Runtime's Conv has no float64
        of_weights = torch.float64 if node.kind in ("Linear", "Affine") else dtype
        for parameter in ("weight", "bias"):
            value = node.values.get(parameter)
            self.register_buffer(parameter, None if value is None else torch.from_numpy(value.copy()).to(of_weights))
        for parameter in ("scale", "threshold"):
            value = node.values.get(parameter)
            self.register_buffer(parameter, None if value is None else _buffer(value, dtype))

    def forward(self, state: State, x: Tensor) -> tuple[State, Tensor]:  # noqa: ARG002
        return {}, self._output(x)

    def _output(self, x: Tensor) -> Tensor:
        kind, options = self.node.kind, self.node.options
        if kind in ("Linear", "Affine"):
            product = x.to(torch.float64) @ self.weight.to(torch.float64).T
            return (product if kind == "Linear" else product + self.bias.to(torch.float64)).to(x.dtype)
        if kind == "Scale":
            return x * self.scale
        if kind == "Threshold":
            return (x >= self.threshold if self.reached else x > self.threshold).to(x.dtype)
        if kind == "Flatten":
            first, last = flat_sides(self.node, x.ndim - 1)
            return x.flatten(1 + first, 1 + last)
        if kind in ("Conv1d", "Conv2d"):
            as_sides = pair if kind == "Conv2d" else one
            padding = options["padding"] if isinstance(options["padding"], str) else as_sides(options["padding"])
            stride, dilation = as_sides(options["stride"]), as_sides(options["dilation"])
            convolve = functional.conv2d if kind == "Conv2d" else functional.conv1d
            return convolve(x, self.weight, self.bias, stride, padding, dilation, one(options["groups"]))
        if kind in ("SumPool2d", "AvgPool2d"):
            kernel, stride, padding = (pair(options[option]) for option in ("kernel_size", "stride", "padding"))
            mean = functional.avg_pool2d(x, kernel, stride, padding)
            return mean if kind == "AvgPool2d" else mean * float(kernel[0] * kernel[1])
        return x
