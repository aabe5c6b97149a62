"""A step of anybody's as TorchScript, for users who stay in torch or LibTorch (as ``export/torchscript.py``).

    outputs = script(values [batch, channels], *states)   readout, *next states

States come in the order of the manifest's layout and go out in the same.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.step_artifact import ScriptError
from export.step_checks import Step, first_line, quiet_torch
from export.step_graph import StepGraph, step_layout
from export.step_parity import StepDifference, Trace, check_difference, largest
from hetsyn_model.readout import decision_step
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.state import initial_state
from service.contract.graph_io import Float32Array

TORCHSCRIPT = "TorchScript, step by step"


def make_script(
    cell: Step,
    exported: nn.Module,
    graph: StepGraph,
    decision: DecisionSpec,
    tolerance: float,
    streams: Sequence[Float32Array],
    truth: Sequence[Trace],
) -> tuple[bytes, StepDifference]:
    """The traced step, and how far it is from the reference.

    Args:
        cell: the step.
        exported: the step in torch's own operations, (input, states) -> (output, *states): its trace has no function of
            Python, as a surrogate gradient is one, but may have the batch as a constant.
        graph: the step.
        decision: the rule.
        tolerance: of a difference.
        streams: [steps, channels] each.
        truth: the reference's.

    Raises:
        ScriptError: the step cannot be traced, or the trace does not do what the step does.
    """
    problem = ""
    for module in (cell.module, exported):
        try:
            with quiet_torch():
                return _traced(_Script(cell, module, graph, decision), tolerance, streams, truth)
        except Exception as error:  # whatever a foreign step raises
            problem = problem or first_line(error)
    raise ScriptError(f"the step cannot be traced ({problem})")


def _traced(
    script: _Script, tolerance: float, streams: Sequence[Float32Array], truth: Sequence[Trace]
) -> tuple[bytes, StepDifference]:
    states = tuple(initial_state(script.layout, 2).values())
    traced = torch.jit.trace(script, (torch.zeros(2, streams[0].shape[1]), *states), check_trace=False)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    loaded = torch.jit.load(io.BytesIO(buffer.getvalue()))
    difference = largest(_difference(loaded, script, *pair) for pair in zip(streams, truth, strict=True))
    return buffer.getvalue(), check_difference(StepDifference(TORCHSCRIPT, difference), tolerance)


def _difference(loaded: Any, script: _Script, values: Float32Array, truth: Trace) -> float:
    states = tuple(initial_state(script.layout, 1).values())
    readout = []
    for row in torch.from_numpy(values):
        shown, *after = loaded(row[None], *states)
        states = tuple(after)
        readout.append(shown[0].numpy())
    end = np.concatenate([state[0].reshape(-1).numpy() for state in states[:-1]])
    return truth.difference(Trace(np.stack(readout), end, truth.scores, truth.probabilities))


class _Script(nn.Module):
    """The step and its decision.

    Args:
        module: the cell's own, or the exported one.
    """

    def __init__(self, cell: Step, module: nn.Module, graph: StepGraph, decision: DecisionSpec) -> None:
        super().__init__()
        self.module, self.layout = module, step_layout(graph, decision)
        self._cell, self._graph, self._decision = cell, graph, decision
        for index, state in enumerate(graph.states):
            if state.fill is None:  # as in the chunk graph: the manifest has one number a tensor
                self.register_buffer(f"initial_{index}", torch.from_numpy(state.initial)[None], persistent=False)

    def forward(self, values: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        count, before = len(self._cell.states), []
        for index, (value, like) in enumerate(zip(states[:count], self._cell.states, strict=True)):
            if self._graph.states[index].fill is None:
                mask = (states[-1] == 0).reshape(-1, *[1] * (value.dim() - 1))
                value = torch.where(mask, getattr(self, f"initial_{index}"), value)
            before.append(value.to(like.dtype))
        x = values.reshape(-1, *self._graph.input_shape).to(self._cell.input.dtype)
        if self.module is self._cell.module:
            after, output = self._cell.run(before, x)
        else:
            output, *after = self.module(x, tuple(before))
        readout = output.float().reshape(-1, self._graph.outputs)
        names = [tensor.name for tensor in self.layout[count:]]
        decided = decision_step(self._decision, dict(zip(names, states[count:], strict=True)), readout)
        return (readout, *(value.float() for value in after), *(decided[name] for name in names))
