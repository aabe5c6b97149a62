"""Runs a step by itself, stream by stream: the reference for a foreign cell or ONNX file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from export.graphs.step_graph import CONTEXT, SMALLEST_PROBABILITY, StepGraph, step_layout
from export.parity import TOLERANCE, ParityError, Reference, Streams, Traces
from hetsyn_model.readout import decision_step, probabilities
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.state import DECISION_SCORE, DECISION_STEP, State
from service.contract.graph_io import Float32Array
from service.runtime.onnx import Array
from service.runtime.states import LARGEST_VALUE, is_bounded

ROUGH_SUM = 1e-2  # tolerance of the sum of float16 probabilities

# (states float32 [1, *shape] each, input float32 [1, *input_shape]) -> (states after, output)
RunStep = Callable[[list[Array], Array], tuple[list[Array], Array]]


def step_reference(step: StepGraph, decision: DecisionSpec, run: RunStep) -> Reference:
    """Make the reference of a step.

    Args:
        run: runs the step for one stream.
    """

    def reference(streams: Streams) -> Traces:
        lengths = streams.steps.tolist()
        readout = np.zeros((len(lengths), max(lengths), step.outputs), np.float32)
        rows, shares = list[Float32Array](), list[Float32Array]()
        for index, length in enumerate(lengths):
            values = streams.spikes[index, :length].numpy()
            readout[index, :length], row, share = _run_stream(step, decision, run, values)
            rows.append(row)
            shares.append(share)
        if decision.rule == "spike_count" and ((readout < 0) | (readout > 1)).any():
            raise ParityError(
                "decision 'spike_count' adds up spikes, but an output is not within 0 and 1: return the spikes of the "
                "output neurons, or use 'sum_softmax' or 'last'"
            )
        return Traces(readout, [], np.stack(shares), np.stack(rows))

    return reference


def _run_stream(
    step: StepGraph, decision: DecisionSpec, run: RunStep, values: Float32Array
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Run a stream [steps, channels] alone.

    Returns:
        The readout [steps, outputs]; the state [words] and the probabilities [outputs] after the last step.

    Raises:
        ParityError: a number is not finite or larger than a session may have, or the outputs are no distribution.
    """
    states: list[Array] = [state.initial[None] for state in step.states]
    context = np.zeros(step.context, np.float32)
    layout = step_layout(step, decision)
    decided: State = {
        tensor.name: torch.zeros(1, *tensor.shape, dtype=torch.int64 if tensor.dtype == "int64" else torch.float32)
        for tensor in layout
        if tensor.is_decision
    }
    readouts = np.zeros((len(values), step.outputs), np.float32)
    for index, row in enumerate(values):
        whole = np.concatenate([context, row])
        context = whole[len(whole) - step.context :]
        states, output = run(states, whole.reshape(1, *step.input_shape))
        readouts[index] = _shown(step, output)
        if not all(is_bounded(found) for found in (*states, readouts[index])):
            raise ParityError(
                f"the step's result is not finite, or not below {LARGEST_VALUE:g}, after step {index + 1}: give usual "
                "inputs as examples=, or see whether its state grows without end"
            )
        decided = decision_step(decision, decided, torch.from_numpy(readouts[index : index + 1]))
    by_name = {state.name: value for state, value in zip(step.states, states, strict=True)}
    by_name |= {CONTEXT: context} | {name: value.numpy() for name, value in decided.items()}
    return (
        readouts,
        np.concatenate([by_name[tensor.name].reshape(-1).astype(np.float32) for tensor in layout[:-1]]),
        probabilities(decision, decided[DECISION_SCORE], decided[DECISION_STEP])[0].numpy(),
    )


def _shown(step: StepGraph, output: Array) -> Float32Array:
    """Compute the artifact's outputs of one step, [outputs].

    Raises:
        ParityError: they should be probabilities, and are not.
    """
    row = output.reshape(-1).astype(np.float32)
    if step.output_kind == "scores":
        return row
    if row.min() < -TOLERANCE or row.max() > 1 + TOLERANCE or (len(row) > 1 and abs(row.sum() - 1) > ROUGH_SUM):
        raise ParityError(
            "the outputs are no probabilities, within 0 and 1 and 1 together: leave out --probabilities "
            "(output_kind='probabilities')"
        )
    row = np.concatenate([1 - row, row]) if step.output_values == 1 else row
    return np.log(np.maximum(row, np.float32(SMALLEST_PROBABILITY)))
