"""Any torch module with ``step(state, input) -> (state, output)`` becomes an artifact.

The step is exported by torch and wrapped into the graph of a chunk (``export/step_graph.py``). What a step must be is
in ``export/step_checks.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
import torch
from torch import Tensor, nn

from export.build import OPSET
from export.folder import ExportError, Provenance, names_of, rejected_of
from export.onnx_file import check_nodes
from export.step_artifact import StepDescription, StepReport, check_request, write_step
from export.step_checks import Step, check_modes, check_step, checked_step, evaluating, first_line, quiet_torch
from export.step_graph import InputKind, StepGraph, StepState
from export.step_parity import TOLERANCE, Reference
from export.step_script import make_script
from export.step_streams import verification_streams
from hetsyn_client.extras import install_command
from hetsyn_model.spec import DecisionSpec, Rule
from service.runtime.onnx import Array

EXTRA = ("onnx", "onnxscript")  # what torch exports with, of our extra for training


def export_step(
    module: nn.Module,
    *,
    out: str | Path,
    example_input: Tensor,
    initial_state: Any,
    labels: Sequence[str],
    rejected_labels: Sequence[str] = (),
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
        rejected_labels: labels for what is no class of yours, such as other words: a server answers null in their place
            when they are the likeliest.
        decision: ``sum_softmax``, ``late_softmax``, ``spike_count``, ``last`` or ``trace``, of the step's output.
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
    names = names_of(labels)
    described = StepDescription(
        labels=names,
        rejected_labels=rejected_of(names, rejected_labels),
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
    with evaluating(module) as modes, torch.no_grad():
        cell = checked_step(module, example_input, initial_state)
        check_modes(cell, modes)
        shape = tuple(example_input.shape[1:])
        usual = None if example_input.is_floating_point() or input_kind == "spikes" else cell.input[0].float().numpy()
        streams = verification_streams(examples, input_kind, shape, usual)
        graph, program = _exported(cell)
        script = partial(make_script, cell, program, graph, described.decision, tolerance)
        return write_step(path, graph, described, streams, _reference(cell), script)


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


def _exported(cell: Step) -> tuple[StepGraph, nn.Module]:
    """The step as ONNX, and in torch's own operations, for any batch.

    Raises:
        ExportError: torch cannot export it.
    """
    batch = torch.export.Dim("batch", min=1)
    inputs = (_twice(cell.input), tuple(_twice(state) for state in cell.states))
    names = [f"before.{name}" for name in cell.names]
    after = [f"after.{name}" for name in cell.names]
    flat = _Flat(cell).eval()
    with quiet_torch():
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
        except Exception as error:  # torch has no common class for what it cannot export
            if isinstance(error, ModuleNotFoundError) and error.name in EXTRA:
                raise ExportError(f"torch needs {error.name} for this: {install_command('train')}") from error
            raise ExportError(_why(error)) from error
    assert exported is not None
    model = onnx.inliner.inline_local_functions(exported.model_proto)
    check_nodes(model)
    states = tuple(
        StepState(name, before, later, value[0].float().numpy().copy(), _dtype(value))
        for name, before, later, value in zip(cell.names, names, after, cell.states, strict=True)
    )
    graph = StepGraph(
        model,
        "input",
        tuple(cell.input.shape[1:]),
        _dtype(cell.input),
        "output",
        cell.outputs,
        states,
        opsets={entry.domain: entry.version for entry in model.opset_import},
    )
    return graph, program.module()


def _twice(tensor: Tensor) -> Tensor:
    """A batch of two: torch takes a batch of one for a constant."""
    return torch.cat([tensor, tensor])


def _dtype(tensor: Tensor) -> Any:
    return str(tensor.dtype).removeprefix("torch.")


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
