"""Imports an ONNX model with its state as inputs and outputs.

The graph is one step of a stream, or of a batch of them. Each state input has an output with its value after the step.
The artifact is verified against the file itself, run step by step in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.folder import ExportError, artifact_path, names_of, rejected_of
from export.graphs.step_graph import InputKind, OutputKind, StepGraph, StepState
from export.onnx_models.ports import Number, Ports, assign_ports, initial_states, input_shape
from export.onnx_models.reading import OnnxFile, folded, read_onnx
from export.parity import TOLERANCE
from export.step import check_request, decision_of, write_step
from export.step_streams import verification_streams
from export.write import Description, Report
from hetsyn_model.spec import Rule
from service.contract.graph_io import Float32Array
from service.contract.manifest import EncoderDescription
from service.errors import ArtifactError
from service.runtime.onnx import Array, Graph, load_graph

REPEATED = 32  # runs that must give the same: two runs may draw equal random numbers by chance


def import_onnx(
    file: str | Path,
    *,
    out: str | Path,
    labels: Sequence[str],
    rejected_labels: Sequence[str] = (),
    state: Mapping[str, str],
    input: str | None = None,
    output: str | None = None,
    constants: Mapping[str, Number] | None = None,
    batch_axis: Mapping[str, int] | None = None,
    shape: Sequence[int] | None = None,
    context: int = 0,
    audio: int | None = None,
    frame: int | None = None,
    initial: Mapping[str, Number] | None = None,
    output_kind: OutputKind = "scores",
    decision: Rule = "sum_softmax",
    step_s: float | None = None,
    description: str = "",
    input_kind: InputKind = "values",
    input_description: str = "",
    skip_steps: int = 0,
    tail_steps: int = 0,
    tolerance: float = TOLERANCE,
    examples: Sequence[Any] | None = None,
) -> Report:
    """Import an ONNX file into ``out``, a folder NAME/VERSION that does not exist yet.

    Args:
        file: ONNX; its graph is one step.
        out: the folder to write.
        labels: names of the outputs, in their order; two for a single probability.
        state: the output with each state's value after the step, by the name of its input.
        input: input of the step's values; optional if one input is left.
        output: output of the step; optional if one output is left.
        constants: values of further inputs.
        batch_axis: batch axes other than 0, by the name of the input or output. A graph for one stream runs a batch as
            a loop.
        shape: shape of one stream's input, ``context`` included, if the graph leaves lengths open.
        context: number of last values of the step before to put in front of each step's own; zeros at the start.
        audio: sample rate in Hz, if the values are samples.
        frame: samples of a step of ``audio``, without the context.
        initial: a state's value before the first step, for one stream, by the name of its input; zeros without.
        output_kind: ``scores`` for the decision rule, or ``probabilities``: their logarithms become scores, so
            sum_softmax gives their mean, last the latest. A single one, p, becomes 1 - p and p.
        rejected_labels: labels for which a server answers null, for input of no other class.
        decision: ``sum_softmax``, ``late_softmax``, ``spike_count``, ``last`` or ``trace``.
        step_s: duration of a step in seconds; for audio it is computed.
        description: one line for people.
        input_kind: what streams carry. A network of ``values`` takes spikes too, as ones.
        skip_steps: number of first steps that change no score.
        tail_steps: steps of zeros that end a stream.
        examples: streams [steps, ...] that verify the artifact; None: seeded noise or spikes.

    Raises:
        ExportError: not a step that can be served, or options that do not fit it; the message says what to do.
        ParityError: the artifact differs from the file by more than the tolerance. Nothing is written.
        AlreadyExists: there is something at ``out``.
    """
    path = artifact_path(out)
    if (audio is None) != (frame is None):
        raise ExportError("audio needs a rate and a frame: give both audio= (--audio) and frame= (--frame)")
    if min(audio or 1, frame or 1) < 1 or context < 0:
        raise ExportError("audio and frame are at least 1, context is at least 0")
    encoder = None
    if audio is not None and frame is not None:
        encoder = EncoderDescription(file=None, sample_rate_hz=audio, samples_per_step=frame, state=())
        step_s = frame / audio
    rule, names = decision_of(decision, skip_steps), names_of(labels)
    described = Description(
        path.parent.name,
        path.name,
        names,
        1e-3 if step_s is None else step_s,
        description,
        input_description,
        tail_steps,
        encoder,
        rejected_labels=rejected_of(names, rejected_labels),
        provenance={"imported_from": Path(file).name},
    )
    check_request(path, described, tolerance)
    source = read_onnx(Path(file))
    axes = dict(batch_axis or {})
    ports = assign_ports(source, state, input, output, dict(constants or {}), axes)
    lengths = input_shape(ports.input, axes.get(ports.input.name, 0), shape, context, frame)
    states = initial_states(ports, state, dict(initial or {}), axes)
    runner = _Runner(source, ports, states, lengths, axes)
    step = StepGraph(
        model := folded(source, ports.constants),
        ports.input.name,
        lengths,
        ports.input.dtype,
        ports.output.name,
        runner.output_values,
        states,
        input_batch_axis=axes.get(ports.input.name, 0),
        output_batch_axis=axes.get(ports.output.name, 0),
        output_axes=runner.output_axes,
        context=context,
        output_kind=output_kind,
        one_at_a_time=not runner.takes_batches(),
        opsets={entry.domain: entry.version for entry in model.opset_import if entry.domain != "ai.onnx"},
    )
    streams = verification_streams(examples, input_kind, (step.channels,), runner.usual(step.channels))
    try:
        return write_step(path, step, described, rule, input_kind, tolerance, streams, runner.run)
    except ArtifactError as error:
        raise ExportError(f"the graph does not run within a loop of steps: {error}") from error


class _Runner:
    """The file in ONNX Runtime, a step at a time.

    Raises:
        ExportError: it does not run, or a state changes its shape or type.
    """

    def __init__(
        self,
        file: OnnxFile,
        ports: Ports,
        states: tuple[StepState, ...],
        shape: tuple[int, ...],
        axes: Mapping[str, int],
    ) -> None:
        self._file, self._ports, self._states, self._shape, self._axes = file, ports, states, shape, axes
        try:
            self._graph: Graph = load_graph(file.content)
            after, output = self.run([state.initial[None] for state in states], np.zeros((1, *shape), np.float32))
        except ArtifactError as error:
            raise ExportError(f"the file does not run on a step of zeros: {error}") from error
        except np.exceptions.AxisError as error:
            raise ExportError(f"a batch axis is not there ({error}): look at --batch-axis") from error
        for state, value in zip(states, after, strict=True):
            if value.shape[1:] != state.shape:
                raise ExportError(
                    f"state {state.input} is {list(state.shape)} of a stream, {state.output} is {list(value.shape[1:])}"
                    ": is the pair the right one, and --batch-axis?"
                )
        if not output.size:
            raise ExportError(f"output {ports.output.name} is empty: choose another with --output")
        self.output_values, self.output_axes = output.size, output.ndim - 1
        self._check_repeatable()

    def _check_repeatable(self) -> None:
        states, shape = [state.initial[None] for state in self._states], (1, *self._shape)
        x = np.ones(shape, np.float32) if self._ports.input.dtype.startswith("float") else np.zeros(shape, np.float32)
        first, *others = (self.run(states, x)[1].astype(np.float32) for _ in range(REPEATED))
        if not all(np.array_equal(first, other, equal_nan=True) for other in others):
            raise ExportError(
                "the graph gives another result when it runs again, as a Dropout of training does: export the model "
                "for inference"
            )

    def run(self, states: list[Array], x: Array) -> tuple[list[Array], Array]:
        name, feed = self._ports.input.name, dict(self._ports.constants)
        feed[name] = np.moveaxis(x.astype(self._ports.input.dtype), 0, self._axes.get(name, 0))
        for state, value in zip(self._states, states, strict=True):
            feed[state.input] = np.moveaxis(value.astype(state.dtype), 0, state.batch_axis)
        feed = {key: np.ascontiguousarray(value) if value.ndim else value for key, value in feed.items()}
        found = self._graph.run(feed, [self._ports.output.name, *(state.output for state in self._states)])
        after = []
        for state in self._states:
            value = found[state.output]
            if value.ndim != len(state.shape) + 1:
                raise ExportError(
                    f"state {state.input} has {len(state.shape) + 1} axes, {state.output} has {value.ndim}: is the "
                    "pair the right one?"
                )
            after.append(np.moveaxis(value, state.batch_axis, 0).astype(np.float32))
        output = found[self._ports.output.name]
        return after, np.moveaxis(output, self._axes.get(self._ports.output.name, 0), 0) if output.ndim else output[
            None
        ]

    def takes_batches(self) -> bool:
        """Return whether the graph runs two streams at once."""
        used = [self._ports.input, *(port for pair in self._ports.states.values() for port in pair)]
        if any(p.shape and p.shape[self._axes.get(p.name, 0)] == 1 for p in used if p.name in self._file.inputs):
            return False
        states = [np.stack([state.initial] * 2) for state in self._states]
        try:
            after, output = self.run(states, np.zeros((2, *self._shape), np.float32))
        except (ArtifactError, ExportError):
            return False
        return output.shape[:1] == (2,) and all(value.shape[:1] == (2,) for value in after)

    def usual(self, channels: int) -> Float32Array | None:
        """Return one input for every step if noise is no valid input, as for an index; else None."""
        return None if self._ports.input.dtype.startswith("float") else np.zeros(channels, np.float32)
