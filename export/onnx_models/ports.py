"""Assigns the inputs and outputs of a foreign ONNX step, with their shapes and types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from export.folder import ExportError
from export.graphs.step_graph import CONTEXT, StepState
from export.onnx_models.reading import OnnxFile, Port, choose, constant_array
from export.step_checks import check_initial
from hetsyn_model.state import DECISION_SCORE, DECISION_SCORE_LOW, DECISION_STEP

STATE_TYPES = ("float32", "float16", "bool")
INPUT_TYPES = ("float32", "float16", "bool", "int64", "int32", "int16", "int8", "uint8")
RESERVED = (CONTEXT, DECISION_SCORE_LOW, DECISION_SCORE, DECISION_STEP)  # names of the artifact's own state tensors
Number = float | Sequence[float] | NDArray[np.generic]


@dataclass(frozen=True)
class Ports:
    """The assignment of the graph's inputs and outputs."""

    input: Port
    output: Port
    states: Mapping[str, tuple[Port, Port]]
    constants: Mapping[str, NDArray[np.generic]]


def assign_ports(
    file: OnnxFile,
    state: Mapping[str, str],
    input: str | None,
    output: str | None,
    constants: Mapping[str, Number],
    axes: Mapping[str, int],
) -> Ports:
    """Assign each input and output.

    Raises:
        ExportError: a name is unknown, or an input or output is not assigned.
    """
    if not isinstance(state, Mapping):
        raise ExportError(
            f"state is {state!r:.100}: give a dict of an output's name by each state input's, {{'h0': 'hn'}}"
        )
    pairs = {
        before: (choose(before, file.inputs, "input"), choose(after, file.outputs, "output"))
        for before, after in state.items()
    }
    for name in axes:
        choose(name, {**file.inputs, **file.outputs}, "input or output")
    arrays = {name: constant_array(choose(name, file.inputs, "input"), value) for name, value in constants.items()}
    left = [name for name in file.inputs if name not in pairs and name not in arrays]
    unused = [name for name in file.outputs if name not in {after for _, after in state.items()}]
    if input is not None:
        choose(input, file.inputs, "input")
        if input not in left:
            raise ExportError(f"input {input!r} is a state or a constant already: name the one that takes the values")
        left = [input, *(name for name in left if name != input)]
    if not left:
        raise ExportError("no input is left for the values: one of the states or constants is the input")
    if len(left) > 1:
        which = left[1] if input else " or ".join(left)
        what = f"input {which!r} is neither state nor constant" if input else f"inputs {', '.join(left)} are left"
        raise ExportError(
            f"{what}: give --state NAME=OUTPUT (outputs left: {', '.join(unused) or 'none'}), --constant "
            "NAME=NUMBER, or --input NAME for the one that takes the values"
        )
    if output is None and len(unused) != 1:
        raise ExportError(
            f"outputs {', '.join(unused) or 'none'} are left: give --output NAME for the one that is the result"
        )
    result = choose(output or unused[0], file.outputs, "output")
    for port in (result, *(after for _, after in pairs.values())):
        if port.name in file.inputs:
            raise ExportError(
                f"output {port.name} is an input of the graph too: export the model with a node Identity between them"
            )
    return Ports(file.inputs[left[0]], result, pairs, arrays)


def input_shape(port: Port, axis: int, shape: Sequence[int] | None, context: int, frame: int | None) -> tuple[int, ...]:
    """Find the shape of one stream's input, without the batch axis.

    Raises:
        ExportError: a length is open, or does not fit.
    """
    if port.dtype not in INPUT_TYPES:
        raise ExportError(f"input {port.name} is {port.dtype}, which values cannot be: use one of float32 or int64")
    declared = None if port.shape is None else _without(port.name, port.shape, axis)
    if shape is not None:
        lengths: list[int | None] = list(shape)
        if declared is not None and (
            len(lengths) != len(declared) or any(d not in (None, s) for d, s in zip(declared, lengths, strict=True))
        ):
            raise ExportError(
                f"--shape {','.join(map(str, shape))} does not fit input {port.name}, which has "
                f"[{', '.join(str(d or '?') for d in declared)}] beside the batch"
            )
    elif declared is None:
        lengths = [None]
    else:
        lengths = list(declared)
    if frame is not None and lengths.count(None) == 1:
        rest = prod(length for length in lengths if length is not None)
        lengths[lengths.index(None)] = (frame + context) // rest
    if None in lengths:
        raise ExportError(
            f"input {port.name} has open lengths, [{', '.join(str(d or '?') for d in lengths)}] beside the batch: give "
            "--shape, or --frame for audio"
        )
    found = tuple(int(length or 0) for length in lengths)
    if prod(found) <= context or (frame is not None and prod(found) != frame + context):
        raise ExportError(
            f"input {port.name} takes {prod(found)} values a step, the context has {context}"
            + ("" if frame is None else f" and the frame {frame}")
            + ": they have to add up"
        )
    return found


def _without(name: str, shape: Sequence[int | None], axis: int) -> list[int | None]:
    """Drop the batch axis, of open length or 1, from a shape.

    Raises:
        ExportError: it has no such axis, or another length there.
    """
    if not 0 <= axis < len(shape):
        raise ExportError(
            f"{name} has {len(shape)} axes, and axis {axis} should be the batch: give --batch-axis {name}=…"
        )
    if shape[axis] not in (None, 1):
        elsewhere = next((at for at, length in enumerate(shape) if length in (None, 1)), None)
        hint = f"give --batch-axis {name}={elsewhere}" if elsewhere is not None else "export it for a batch of any size"
        raise ExportError(f"{name} has {shape[axis]} at axis {axis}, where the batch should be: {hint}")
    return [length for at, length in enumerate(shape) if at != axis]


def initial_states(
    ports: Ports, pairs: Mapping[str, str], initial: Mapping[str, Number], axes: Mapping[str, int]
) -> tuple[StepState, ...]:
    """Make the states before the first step.

    Raises:
        ExportError: a session cannot store the type, a length is open, or an initial value does not fit.
    """
    for name in initial:
        choose(name, {before: port for before, (port, _) in ports.states.items()}, "state")
    states = []
    for name, (before, after) in ports.states.items():
        if before.dtype not in STATE_TYPES:
            raise ExportError(
                f"state {name} is {before.dtype}, and a session keeps float32: export the model with float32 states"
            )
        if before.dtype != after.dtype:
            raise ExportError(
                f"state {name} is {before.dtype}, {after.name} is {after.dtype}: is the pair the right one?"
            )
        axis = axes.get(name, 0)
        lengths = None if before.shape is None else _without(name, before.shape, axis)
        if name in initial:
            try:
                value = np.asarray(initial[name], np.float32)
            except (TypeError, ValueError) as error:
                raise ExportError(f"initial {name} is no array of numbers ({error}): give one") from error
            if lengths is not None and value.ndim == len(lengths) + 1 and value.shape[axis] == 1:
                value = value.squeeze(axis)
            if lengths is not None and (
                value.ndim != len(lengths) or any(d not in (None, s) for d, s in zip(lengths, value.shape, strict=True))
            ):
                raise ExportError(
                    f"initial {name} has shape {list(value.shape)}, the state has {lengths} beside the batch"
                )
            check_initial(f"initial {name}", value)
        elif lengths is None or None in lengths:
            raise ExportError(
                f"state {name} has open lengths beside the batch at axis {axis}: give --batch-axis {name}=… if one of "
                "them is the batch, or its initial value (--initial FILE.npz)"
            )
        else:
            value = np.zeros([length or 0 for length in lengths], np.float32)
        kept = f"state.{name}" if name in RESERVED else name
        states.append(StepState(kept, name, pairs[name], value, before.dtype, axis))  # type: ignore[arg-type]
    return tuple(states)
