"""Exports any torch module with ``step(state, input) -> (state, output)``.

torch exports the step, and ``export/graphs/step_graph.py`` wraps it into the graph of a chunk.
``export/step_checks.py`` checks the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
import torch
from torch import Tensor, nn

from export.evaluation import Evaluation, padded
from export.folder import ExportError, Provenance, artifact_path, check_absent, check_name, names_of, rejected_of
from export.graphs.build import OPSET
from export.graphs.foreign import check_nodes
from export.graphs.step_graph import InputKind, StepGraph, StepState, chunk_graph, step_layout
from export.parity import TOLERANCE, Exported
from export.step_checks import Step, check_modes, check_step, checked_step, evaluating, first_line, quiet_torch
from export.step_reference import RunStep, step_reference
from export.step_streams import verification_streams
from export.write import Description, Promise, Report, write
from hetsyn_client.extras import install_command
from hetsyn_model.readout import decision_step
from hetsyn_model.spec import DecisionSpec, Rule
from service.contract.graph_io import Float32Array
from service.contract.manifest import usual_exactness
from service.runtime.onnx import Array

EXTRA = ("onnx", "onnxscript")  # packages of the extra ``train`` that torch's export needs


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
) -> Report:
    """Export a recurrent cell into ``out``, a folder NAME/VERSION that does not exist yet.

    Args:
        module: with a method ``step(state, input) -> (state, output)``, on the CPU. Input, output and every tensor of
            the state have a leading batch axis. It is exported in evaluation mode, and not changed.
        out: the folder to write.
        example_input: one stream's input, [1, ...]; every input has its shape and type. On the wire a step is a row of
            its values, float32.
        initial_state: one stream's: a tensor [1, ...], or tuples, lists and dicts of them; float32, float16 or bool.
        labels: names of the outputs, in their order; for ``trace`` any number.
        rejected_labels: labels for which a server answers null, for input of no other class.
        decision: ``sum_softmax``, ``late_softmax``, ``spike_count``, ``last`` or ``trace``, of the step's output.
        step_s: duration of a step in seconds.
        description: one line for people.
        input_kind: what streams carry. A network of ``values`` takes spikes too, as ones.
        skip_steps: number of first steps that change no score.
        tail_steps: steps of zeros that end a stream.
        tolerance: most by which batching and chunking may change a stream's results, relative for values above 1. The
            manifest states it. 0: the outputs have the step's own bits.
        examples: streams [steps, ...] that verify the artifact; None: seeded noise or spikes.
        provenance: further entries of the manifest: where the step comes from.

    Raises:
        ExportError: the step cannot be served; the message says what to do.
        ParityError: the graph differs from the step by more than the tolerance. Nothing is written.
        AlreadyExists: there is something at ``out``.
    """
    path, rule = artifact_path(out), decision_of(decision, skip_steps)
    names = names_of(labels)
    described = Description(
        path.parent.name,
        path.name,
        names,
        step_s,
        description,
        input_description,
        tail_steps,
        rejected_labels=rejected_of(names, rejected_labels),
        provenance=provenance or {},
    )
    check_request(path, described, tolerance)
    check_step(module, example_input, initial_state, input_kind)
    with evaluating(module) as modes, torch.no_grad():
        cell = checked_step(module, example_input, initial_state)
        check_modes(cell, modes)
        shape = tuple(example_input.shape[1:])
        usual = None if example_input.is_floating_point() or input_kind == "spikes" else cell.input[0].float().numpy()
        streams = verification_streams(examples, input_kind, shape, usual)
        graph, program = _exported(cell)
        scripts = [StepScript(cell, module, graph, rule) for module in (cell.module, program)]
        return write_step(path, graph, described, rule, input_kind, tolerance, streams, _run(cell), scripts)


def decision_of(rule: Rule, skip_steps: int) -> DecisionSpec:
    """Make the decision of a rule's name.

    Raises:
        ExportError: there is no such rule.
    """
    try:
        return DecisionSpec(rule, skip_steps)
    except ValueError as error:
        raise ExportError(str(error)) from error


def check_request(out: Path, described: Description, tolerance: float) -> None:
    """Check names, durations and the tolerance before anything runs.

    Raises:
        ExportError: no manifest can have one of them.
        AlreadyExists: there is something at ``out``.
    """
    check_name(described.name, described.version)
    check_absent(out)
    if not 0 < described.step_s < float("inf"):
        raise ExportError(f"step_s is {described.step_s:g}: give the duration of a step in seconds, above 0")
    if not 0 <= tolerance <= 1:
        raise ExportError(f"tolerance is {tolerance:g}: give 0 to 1, for example {TOLERANCE:g}")


def write_step(
    out: Path,
    step: StepGraph,
    described: Description,
    decision: DecisionSpec,
    kind: InputKind,
    tolerance: float,
    streams: Sequence[Float32Array],
    run: RunStep,
    scripts: Sequence[nn.Module] = (),
) -> Report:
    """Verify a step in its chunk graph and write the artifact.

    Args:
        out: folder NAME/VERSION.
        step: the step as ONNX.
        decision: the rule of the scores.
        streams: [steps, channels] each, for the verification.
        run: the step by itself.
        scripts: the step in torch; empty without.

    Raises:
        ExportError: labels do not fit.
        ParityError: the graph differs from the step by more than the tolerance. Nothing is written.
    """
    layout, graph = step_layout(step, decision), chunk_graph(step, decision, kind)
    made = Exported(graph, layout, step.channels, step.outputs, decision, input_kind=kind)
    promise = Promise("exact", usual_exactness(tolerance, kind, has_bank=False), tolerance)
    evaluation = Evaluation(padded([torch.from_numpy(values) for values in streams]))
    with quiet_torch():
        report = write(
            out,
            made,
            described,
            promise,
            evaluation,
            step_reference(step, decision, run),
            same_bits=False,
            scripts=scripts,
        )
    return replace(report, one_at_a_time=step.one_at_a_time)


class _Flat(nn.Module):
    """A step with a list of tensors as its state."""

    def __init__(self, cell: Step) -> None:
        super().__init__()
        self.module = cell.module
        self._cell = cell

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        after, output = self._cell.run(list(states), x)
        return (output, *after)


def _exported(cell: Step) -> tuple[StepGraph, nn.Module]:
    """Export the step as ONNX, and in torch's own operations, for any batch.

    Raises:
        ExportError: torch cannot export it.
    """
    batch = torch.export.Dim("batch", min=1)
    inputs = (_twice(cell.input), tuple(_twice(state) for state in cell.states))
    names = [f"before.{name}" for name in cell.names]
    after = [f"after.{name}" for name in cell.names]
    flat = _Flat(cell).eval()
    with quiet_torch(), redirect_stderr(StringIO()):  # torch prints the graph of a step that it cannot export
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
        except Exception as error:  # torch has no common class for these errors
            if isinstance(error, ModuleNotFoundError) and error.name in EXTRA:
                raise ExportError(f"torch needs {error.name} for this: {install_command('train')}") from error
            raise ExportError(_why(error)) from error
    assert exported is not None
    model = onnx.inliner.inline_local_functions(exported.model_proto)
    check_nodes(model)
    output, *after = (value.name for value in model.graph.output)  # torch 2.9 gives two names of one value alike
    states = tuple(
        StepState(name, before, later, value[0].float().numpy().copy(), _dtype(value))
        for name, before, later, value in zip(cell.names, names, after, cell.states, strict=True)
    )
    graph = StepGraph(
        model,
        "input",
        tuple(cell.input.shape[1:]),
        _dtype(cell.input),
        output,
        cell.outputs,
        states,
        opsets={entry.domain: entry.version for entry in model.opset_import},
    )
    return graph, program.module()


def _twice(tensor: Tensor) -> Tensor:
    """Make a batch of two: torch takes a batch of one for a constant."""
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


def _run(cell: Step) -> RunStep:
    """Make the step in torch for one stream."""

    def run(states: list[Array], x: Array) -> tuple[list[Array], Array]:
        before = [torch.from_numpy(value).to(like.dtype) for value, like in zip(states, cell.states, strict=True)]
        after, output = cell.run(before, torch.from_numpy(x).to(cell.input.dtype))
        return [value.float().numpy() for value in after], output.float().numpy()

    return run


class StepScript(nn.Module):
    """One step of a cell, with its decision, for TorchScript. ``module`` is the cell's own, or the exported one."""

    def __init__(self, cell: Step, module: nn.Module, graph: StepGraph, decision: DecisionSpec) -> None:
        super().__init__()
        self.module, self.layout = module, step_layout(graph, decision)
        self._cell, self._graph, self._decision = cell, graph, decision
        for index, state in enumerate(graph.states):
            if state.fill is None:  # the manifest has one number a tensor, as in the chunk graph
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
