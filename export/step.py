"""Any torch module with ``step(state, input) -> (state, output)`` becomes an artifact.

The step is exported by torch and wrapped into the graph of a chunk (``export/step_graph.py``). What a step must be is
in ``export/step_checks.py``.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import torch
from torch import Tensor, nn

from export.build import OPSET
from export.folder import ExportError, Provenance
from export.step_artifact import ScriptError, StepDescription, StepReport, check_request, write_step
from export.step_checks import Step, check_step, checked_step, evaluating, first_line
from export.step_graph import InputKind, StepGraph, StepState, step_layout
from export.step_parity import TOLERANCE, Reference, StepDifference, Trace, check_difference
from export.step_streams import verification_streams
from hetsyn_client.extras import install_command
from hetsyn_model.readout import decision_step
from hetsyn_model.spec import DecisionSpec, Rule
from hetsyn_model.state import initial_state as initial_tensors
from service.contract.graph_io import Float32Array
from service.runtime.onnx import Array

RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
TORCHSCRIPT = "TorchScript, step by step"


def export_step(
    module: nn.Module,
    *,
    out: str | Path,
    example_input: Tensor,
    initial_state: Any,
    labels: Sequence[str],
    decision: Rule = "sum_softmax",
    step_s: float = 1e-3,
    description: str = "",
    input_kind: InputKind = "values",
    input_description: str = "",
    skip_steps: int = 0,
    tail_steps: int = 0,
    tolerance: float = TOLERANCE,
    examples: Sequence[Any] | None = None,
    provenance: Provenance | None = None,
) -> StepReport:
    """Export a recurrent cell into ``out``, a folder NAME/VERSION that does not exist yet.

    Args:
        module: with a method ``step(state, input) -> (state, output)``, on the CPU. Input, output and every tensor of
            the state have a leading batch axis. It is exported in evaluation mode, and not changed.
        out: the folder to write.
        example_input: of one stream, [1, ...], whose shape and type every input has. On the wire a step is a row of
            its values, float32.
        initial_state: of one stream: a tensor [1, ...], or tuples, lists and dicts of them; float32, float16 or bool.
        labels: names of the outputs, in their order; for ``trace`` as many as you like.
        decision: ``sum_softmax``, ``spike_count``, ``last`` or ``trace``, of the step's output.
        step_s: duration of a step in seconds.
        description: one line for people.
        input_kind: what streams carry. A network of ``values`` takes spikes too, as ones.
        input_description: of the channels.
        skip_steps: the first steps of a stream, which change no score.
        tail_steps: steps of zeros that end a stream.
        tolerance: a stream's results differ by at most so much from those that it has alone or in other chunks,
            relative to values above 1. The manifest states it.
        examples: streams [steps, ...] that verify the artifact; seeded noise or spikes where there are none.
        provenance: further entries of the manifest: where the step comes from.

    Returns:
        What was measured.

    Raises:
        ExportError: not a step that can be served; the message says what to do.
        ParityError: the graph differs from the step by more than the tolerance. Nothing is written.
        FileExistsError: there is something at ``out``.
    """
    path = Path(out).resolve()
    described = StepDescription(
        labels=tuple(labels),
        decision=_decision(decision, skip_steps),
        step_s=step_s,
        description=description,
        input_kind=input_kind,
        input_description=input_description,
        tail_steps=tail_steps,
        tolerance=tolerance,
        provenance=provenance or {},
    )
    check_request(path, described)
    check_step(module, example_input, initial_state, input_kind)
    with evaluating(module), torch.no_grad():
        cell = checked_step(module, example_input, initial_state)
        shape = tuple(example_input.shape[1:])
        usual = None if example_input.is_floating_point() or input_kind == "spikes" else cell.input[0].float().numpy()
        streams = verification_streams(examples, input_kind, shape, usual)
        graph = _exported(cell)
        script = _Script(cell, graph, described.decision, tolerance)
        return write_step(path, graph, described, streams, _reference(cell), script.make)


def _decision(rule: Rule, skip_steps: int) -> DecisionSpec:
    try:
        return DecisionSpec(rule, skip_steps)
    except ValueError as error:
        raise ExportError(str(error)) from error


class _Flat(nn.Module):
    """A step whose state is a list of tensors."""

    def __init__(self, cell: Step) -> None:
        super().__init__()
        self.module = cell.module
        self._cell = cell

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        after, output = self._cell.run(list(states), x)
        return (output, *after)


def _exported(cell: Step) -> StepGraph:
    """The step as ONNX, for any batch.

    Raises:
        ExportError: torch cannot export it.
    """
    batch = torch.export.Dim("batch", min=1)
    inputs = (_twice(cell.input), tuple(_twice(state) for state in cell.states))
    names = [f"before.{name}" for name in cell.names]
    after = [f"after.{name}" for name in cell.names]
    flat = _Flat(cell).eval()
    with _quiet():
        try:
            program = torch.export.export(flat, inputs, dynamic_shapes=({0: batch}, tuple({0: batch} for _ in names)))
            exported = torch.onnx.export(
                program,
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=["input", *names],
                output_names=["output", *after],
                verbose=False,
            )
        except ModuleNotFoundError as error:
            raise ExportError(f"torch needs {error.name} for this: {install_command('train')}") from error
        except Exception as error:  # torch has no common class for what it cannot export
            raise ExportError(_why(error)) from error
    assert exported is not None
    model = onnx.inliner.inline_local_functions(exported.model_proto)
    drawn = sorted({node.op_type for node in model.graph.node} & RANDOM)
    if drawn:
        raise ExportError(f"the step draws random numbers ({drawn[0]}): take them out, or make them part of the input")
    states = tuple(
        StepState(name, before, later, value[0].float().numpy(), _dtype(value))
        for name, before, later, value in zip(cell.names, names, after, cell.states, strict=True)
    )
    return StepGraph(
        model,
        "input",
        tuple(cell.input.shape[1:]),
        _dtype(cell.input),
        "output",
        cell.outputs,
        states,
        opsets={entry.domain: entry.version for entry in model.opset_import},
    )


def _twice(tensor: Tensor) -> Tensor:
    """A batch of two: torch takes a batch of one for a constant."""
    return torch.cat([tensor, tensor])


def _dtype(tensor: Tensor) -> Any:
    return str(tensor.dtype).removeprefix("torch.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notes on optional libraries and on itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _why(error: Exception) -> str:
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    text = " ".join(f"{type(link).__name__} {link}" for link in chain)
    reason = first_line(chain[-1])
    if "DataDependent" in text or "data-dependent" in text:
        return (
            f"the step cannot be exported: Python code decides there by a tensor's value ({reason}): "
            "use torch.where in place of if and while"
        )
    if "ConstraintViolation" in text or "specializ" in text:
        return (
            f"the step fixes the size of the batch ({reason}): take it from the input's shape, as in "
            "input.new_zeros(input.shape[0], n)"
        )
    return f"the step cannot be exported ({reason}): keep to torch operations that ONNX has"


def _reference(cell: Step) -> Reference:
    """The step in torch, of one stream."""

    def run(states: list[Array], x: Array) -> tuple[list[Array], Array]:
        before = [torch.from_numpy(value).to(like.dtype) for value, like in zip(states, cell.states, strict=True)]
        after, output = cell.run(before, torch.from_numpy(x).to(cell.input.dtype))
        return [value.float().numpy() for value in after], output.float().numpy()

    return run


class _Script(nn.Module):
    """The step and its decision as TorchScript takes it (``export/torchscript.py``).

    outputs = script(values [batch, channels], *states)   readout, *next states
    """

    def __init__(self, cell: Step, graph: StepGraph, decision: DecisionSpec, tolerance: float) -> None:
        super().__init__()
        self.module = cell.module
        self._cell, self._graph, self._decision = cell, graph, decision
        self._layout = step_layout(graph, decision)
        self._count, self._tolerance = len(cell.states), tolerance
        for index, state in enumerate(graph.states):
            if state.fill is None:  # as in the chunk graph: the manifest has one number a tensor
                self.register_buffer(f"initial_{index}", torch.from_numpy(state.initial)[None], persistent=False)

    def forward(self, values: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        step = states[-1]
        before = []
        for index, (value, like) in enumerate(zip(states[: self._count], self._cell.states, strict=True)):
            if self._graph.states[index].fill is None:
                mask = (step == 0).reshape(-1, *[1] * (value.dim() - 1))
                value = torch.where(mask, getattr(self, f"initial_{index}"), value)
            before.append(value.to(like.dtype))
        x = values.reshape(-1, *self._graph.input_shape).to(self._cell.input.dtype)
        after, output = self._cell.run(before, x)
        readout = output.float().reshape(-1, self._graph.outputs)
        names = [tensor.name for tensor in self._layout[self._count :]]
        decided = decision_step(self._decision, dict(zip(names, states[self._count :], strict=True)), readout)
        return (readout, *(value.float() for value in after), *(decided[name] for name in names))

    def make(self, streams: Sequence[Float32Array], truth: Sequence[Trace]) -> tuple[bytes, StepDifference]:
        """The traced step, and how far it is from the reference.

        Raises:
            ScriptError: the step cannot be traced, or the trace does not do what the step does.
        """
        states = tuple(initial_tensors(self._layout, 2).values())
        with _quiet():
            try:
                traced = torch.jit.trace(self, (torch.zeros(2, self._graph.channels), *states), check_trace=False)
                buffer = io.BytesIO()
                torch.jit.save(traced, buffer)
                loaded = torch.jit.load(io.BytesIO(buffer.getvalue()))
                largest = max(self._run(loaded, *pair) for pair in zip(streams, truth, strict=True))
                found = check_difference(StepDifference(TORCHSCRIPT, largest), self._tolerance)
            except Exception as error:  # whatever a foreign step raises
                raise ScriptError(f"the step cannot be traced ({first_line(error)})") from error
        return buffer.getvalue(), found

    def _run(self, loaded: Any, values: Float32Array, truth: Trace) -> float:
        states = tuple(initial_tensors(self._layout, 1).values())
        readout = []
        for row in torch.from_numpy(values):
            shown, *after = loaded(row[None], *states)
            states = tuple(after)
            readout.append(shown[0].numpy())
        row = np.concatenate([state[0].reshape(-1).numpy() for state in states[:-1]])
        return truth.difference(Trace(np.stack(readout), row, truth.scores, truth.probabilities))
