"""Runs batches: chunks of several streams of one model and form, states in, new states and results out.

    audio chunk -> resampler -> whole steps -> encoder graph -> events ┐
    spike chunk -----------------------------------------------> events┴-> network graph -> result

Pure: no state is changed in place, so when a batch fails all its streams are as they were. Long chunks run in segments
of bounded length. The graph's state links them, so the result is that of one call. Index letters: b stream, t step,
k channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np

from hetsyn_client.events import Integers
from service.contract.decision import class_probabilities, is_decided
from service.contract.graph_io import (
    AUDIO,
    EVENT_ROW,
    EVENT_UNIT,
    NEXT_STEP,
    PROBABILITIES,
    READOUT,
    SCORES,
    STEP,
    STEPS,
    Float32Array,
    next_name,
    state_name,
)
from service.contract.manifest import FormName
from service.engine.resampler import Resampler
from service.engine.stream import StreamState
from service.errors import ArtifactError, InputError, TooLarge
from service.models.model import Arrays, Model
from service.runtime.state_memory import with_prefix_replaced
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk
from service.wire.pcm import Samples

SEGMENT_STEPS = 500  # that a graph runs in one call; longer chunks take several, to bound the memory
NO_EVENTS: Integers = np.zeros(0, np.int64)
NO_SAMPLES: Samples = np.zeros(0, np.float32)


class Work(NamedTuple):
    """A chunk for a stream.

    Attributes:
        stream: before the chunk.
        chunk: None when the stream only ends.
        end: the stream ends with the chunk.
    """

    stream: StreamState
    chunk: Chunk | None
    end: bool


class Result(NamedTuple):
    """The output of a stream after a chunk.

    Attributes:
        steps: network steps run, the tail at the end included.
        scores: [outputs].
        probabilities: [outputs].
        is_decided: a step that counts for the decision has been run.
        readout: [steps, outputs] where the rule is ``trace``, else None.
    """

    steps: int
    scores: Float32Array
    probabilities: Float32Array
    is_decided: bool
    readout: Float32Array | None


class Outcome(NamedTuple):
    """The stream after the chunk, and the result."""

    stream: StreamState
    result: Result


class _Plan(NamedTuple):
    """A chunk cut into whole steps.

    Attributes:
        stream: as it is when the samples of these steps are taken out of it.
        steps: the tail at the end included.
        samples: [steps * samples_per_step]; empty for spikes.
        step: int64 [events], ascending, of each spike; empty for audio.
        unit: int64 [events], of each spike.
    """

    stream: StreamState
    steps: int
    samples: Samples
    step: Integers
    unit: Integers


class Engine:
    """Runs batches. Holds its bounds alone; may be used by several threads.

    Args:
        max_chunk_steps: of one chunk.
        segment_steps: that a graph runs in one call.
    """

    def __init__(self, max_chunk_steps: int, segment_steps: int = SEGMENT_STEPS) -> None:
        self._max_chunk_steps = max_chunk_steps
        self._segment_steps = segment_steps

    def check(self, model: Model, stream: StreamState, chunk: Chunk | None) -> int:
        """Check a chunk against its stream; ``run`` relies on it.

        Returns:
            The number of steps that the chunk will take. For audio an estimate: samples may wait in the resampler.

        Raises:
            InputError: a channel that the model lacks, another kind or sample rate than the stream's, or an end
                without any input.
            TooLarge: more steps than a chunk may have.
            UnsupportedInput: audio for a model without encoder.
        """
        if chunk is None:
            if stream.kind is None:
                raise InputError("the session is empty: send input before you end it, or with end=true")
            return 0
        kind = "audio" if isinstance(chunk, AudioChunk) else "spikes"
        if stream.kind not in (None, kind):
            raise InputError(
                f"the session began with {stream.kind}: continue with that, or open another session for {kind}"
            )
        if isinstance(chunk, AudioChunk):
            encoder = model.encoder
            if stream.resampler is not None and chunk.rate_hz != stream.resampler.rate_hz:
                raise InputError(
                    f"the session's sample rate is {stream.resampler.rate_hz} Hz, this chunk's is {chunk.rate_hz} Hz: "
                    "keep this rate, or open another session"
                )
            samples = len(chunk.samples) * encoder.sample_rate_hz / chunk.rate_hz
            steps = ceil(samples / encoder.samples_per_step)
        else:
            steps = chunk.steps
            _check_channels(model, chunk)
        if steps > self._max_chunk_steps:
            raise TooLarge(
                f"the chunk has {steps} steps of {model.manifest.input.step_s:g} s, at most {self._max_chunk_steps} "
                "are taken: cut it into several"
            )
        return steps

    def run(self, model: Model, form: FormName, batch: Sequence[Work]) -> list[Outcome]:
        """The outcome of each chunk, in order. The chunks must have passed ``check``.

        Raises:
            ArtifactError: a graph does not load or fails, or its output has a wrong shape or is not finite.
            RuntimeUnavailable: there is no ONNX Runtime.
            Overloaded: the device has no space for the next states.
        """
        plans = [_plan(model, work) for work in batch]
        outcomes: dict[int, Outcome] = {}
        for kind in ("audio", "spikes"):
            # longest first: the streams that go on beyond a segment are then a prefix of the batch
            group = [b for b, plan in enumerate(plans) if plan.steps and plan.stream.kind == kind]
            group.sort(key=lambda b: -plans[b].steps)
            if group:
                group_outcomes = self._run_group(model, form, [plans[b] for b in group])
                outcomes |= dict(zip(group, group_outcomes, strict=True))
        for b, plan in enumerate(plans):
            if b not in outcomes:
                outcomes[b] = Outcome(plan.stream, _result_of_state(model, form, plan.stream))
        return [outcomes[b] for b in range(len(plans))]

    def _run_group(self, model: Model, form: FormName, plans: Sequence[_Plan]) -> list[Outcome]:
        """Plans of one kind, longest first, each of at least one step."""
        manifest = model.manifest
        graph = model.network(form)
        is_audio = plans[0].stream.kind == "audio"
        trace = manifest.decision.rule == "trace"
        names = [NEXT_STEP, SCORES, PROBABILITIES, *([READOUT] if trace else [])]
        states = model.states(form).batch([plan.stream.network for plan in plans])
        step = np.array([plan.stream.step for plan in plans], np.int64)
        encoder = _stack([plan.stream.encoder for plan in plans]) if is_audio else {}
        scores = probabilities = np.zeros((0, manifest.outputs), np.float32)
        readouts: list[list[Float32Array]] = [[] for _ in plans]
        for begin in range(0, plans[0].steps, self._segment_steps):
            active = [plan for plan in plans if plan.steps > begin] if begin else plans
            count = len(active)
            steps = np.array([min(plan.steps - begin, self._segment_steps) for plan in active], np.int64)
            if is_audio:
                events, encoder = _encode(model, active, begin, steps, encoder)
            else:
                events = _events(active, begin, steps)
            outputs = states.run(graph, {**events, STEPS: steps, STEP: step[:count]}, names, count)
            step = with_prefix_replaced(model.name, NEXT_STEP, step, outputs[NEXT_STEP])
            if begin == 0:  # all plans have a step in the first segment
                scores, probabilities = outputs[SCORES], outputs[PROBABILITIES]
            else:
                scores[:count], probabilities[:count] = outputs[SCORES], outputs[PROBABILITIES]
            if trace:
                for b, length in enumerate(steps):
                    readouts[b].append(outputs[READOUT][b, :length])
        if not (np.isfinite(scores).all() and np.isfinite(probabilities).all()):
            raise ArtifactError(f"model {model.name!r} version {model.version!r} gave numbers that are not finite")
        outcomes = []
        for b, (plan, row, total_steps) in enumerate(zip(plans, states.rows(), step.tolist(), strict=True)):
            stream = plan.stream
            after = StreamState(
                row,
                total_steps,
                _unstack(encoder, b) if is_audio else stream.encoder,
                stream.kind,
                stream.resampler,
                stream.pending,
            )
            readout = np.concatenate(readouts[b]) if trace else None
            decided = is_decided(manifest.decision, total_steps)
            outcomes.append(Outcome(after, Result(plan.steps, scores[b], probabilities[b], decided, readout)))
        return outcomes


def _check_channels(model: Model, chunk: SpikeChunk) -> None:
    channels = model.manifest.input.channels
    if chunk.channels is not None and chunk.channels != channels:
        raise InputError(f"the rows have {chunk.channels} values, but model {model.name!r} has {channels} channels")
    if len(chunk.unit) and int(chunk.unit.max()) >= channels:
        raise InputError(f"unit {int(chunk.unit.max())} is outside model {model.name!r}'s channels 0-{channels - 1}")


def _plan(model: Model, work: Work) -> _Plan:
    """Cut a chunk into whole steps, at the end of a stream with the tail added."""
    stream, chunk = work.stream, work.chunk
    tail = model.manifest.decision.tail_steps if work.end else 0
    if isinstance(chunk, SpikeChunk) or (chunk is None and stream.kind == "spikes"):
        steps, step, unit = (chunk.steps, chunk.step, chunk.unit) if chunk else (0, NO_EVENTS, NO_EVENTS)
        if stream.kind is None:
            stream = stream._replace(kind="spikes")
        return _Plan(stream, steps + tail, NO_SAMPLES, step, unit)
    per_step = model.encoder.samples_per_step
    parts = [stream.pending]
    resampler = stream.resampler
    if chunk is not None:
        resampler = resampler or Resampler.between(chunk.rate_hz, model.encoder.sample_rate_hz)
        resampler, samples = resampler.push(chunk.samples)
        parts.append(samples)
    if work.end and resampler is not None:
        resampler, samples = resampler.flush()
        parts.append(samples)
    if work.end:
        unfilled = -sum(map(len, parts)) % per_step
        parts.append(np.zeros(unfilled + tail * per_step, np.float32))
    samples = np.concatenate(parts)
    steps = len(samples) // per_step
    # a copy, or the rest would keep the whole chunk in memory
    pending = samples[steps * per_step :].copy()
    after = stream._replace(kind="audio", resampler=resampler, pending=pending)
    return _Plan(after, steps, samples[: steps * per_step], NO_EVENTS, NO_EVENTS)


def _events(plans: Sequence[_Plan], begin: int, steps: Integers) -> Arrays:
    """The events of a segment of spikes, as the network graph takes them.

    Args:
        plans: with steps in this segment.
        begin: the segment's first step.
        steps: int64 [b], of each plan in this segment.
    """
    longest = int(steps.max())
    rows, units = [], []
    for b, plan in enumerate(plans):
        row, unit = plan.step, plan.unit
        if begin or plan.steps > longest:
            first, last = np.searchsorted(row, (begin, begin + int(steps[b])))
            row, unit = row[first:last], unit[first:last]
        offset = b * longest - begin
        rows.append(row + offset if offset else row)
        units.append(unit)
    if len(plans) == 1:
        return {EVENT_ROW: rows[0], EVENT_UNIT: units[0]}
    return {EVENT_ROW: np.concatenate(rows), EVENT_UNIT: np.concatenate(units)}


def _encode(model: Model, plans: Sequence[_Plan], begin: int, steps: Integers, state: Arrays) -> tuple[Arrays, Arrays]:
    """Run the encoder on a segment of audio.

    Args:
        model: of the streams.
        plans: with steps in this segment.
        begin: the segment's first step.
        steps: int64 [b], of each plan in this segment.
        state: the encoder's, [b' >= b, ...]; the streams of this segment come first.

    Returns:
        The segment's events, as the network graph takes them, and the encoder's state after it.
    """
    per_step = model.encoder.samples_per_step
    audio = np.zeros((len(plans), int(steps.max()) * per_step), np.float32)
    for b, plan in enumerate(plans):
        piece = plan.samples[begin * per_step : (begin + int(steps[b])) * per_step]
        audio[b, : len(piece)] = piece
    tensors, count = [tensor.name for tensor in model.encoder.state], len(plans)
    inputs: Arrays = {state_name(name): state[name][:count] for name in tensors}
    inputs |= {AUDIO: audio, STEPS: steps}
    outputs = model.encoder_graph.run(inputs, [EVENT_ROW, EVENT_UNIT, *map(next_name, tensors)])
    after = {
        name: with_prefix_replaced(model.name, next_name(name), state[name], outputs[next_name(name)])
        for name in tensors
    }
    return {name: outputs[name] for name in (EVENT_ROW, EVENT_UNIT)}, after


def _stack(states: Sequence[Arrays]) -> Arrays:
    if len(states) == 1:
        return {name: value[np.newaxis] for name, value in states[0].items()}
    return {name: np.stack([state[name] for state in states]) for name in states[0]}


def _unstack(states: Arrays, b: int) -> Arrays:
    """The state of stream b; a copy where it would keep the whole batch in memory."""
    return {name: value[b, ...] if len(value) == 1 else value[b, ...].copy() for name, value in states.items()}


def _result_of_state(model: Model, form: FormName, stream: StreamState) -> Result:
    """The result of a chunk without a whole step."""
    decision, outputs = model.manifest.decision, model.manifest.outputs
    row = model.states(form).to_host(stream.network)
    score = row[-outputs:].copy()  # the last tensor of the row, by the manifest's schema
    readout = np.zeros((0, outputs), np.float32) if decision.rule == "trace" else None
    probabilities = class_probabilities(decision, score, stream.step)
    return Result(0, score, probabilities, is_decided(decision, stream.step), readout)
