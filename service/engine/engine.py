"""Runs batches: chunks of several streams of one model and form, states in, new states and results out.

    audio chunk -> resampler -> whole steps -> encoder graph -> events ┐
    spike chunk -----------------------------------------------> events┴-> network graph -> result

Pure: no state is changed in place, so when a batch fails all its streams are as they were. Long chunks run
in segments of bounded length; a graph's state makes that the same as one call. Index letters: b stream,
t step, k channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.events import Integers
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
)
from service.contract.manifest import Decision, FormName
from service.engine.resampler import Resampler
from service.engine.stream import StreamState
from service.errors import ArtifactError, InputError, TooLarge
from service.models.model import Model, State
from service.runtime.onnx import Array
from service.runtime.state_memory import replaced
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk
from service.wire.pcm import Samples

Floats = NDArray[np.floating[Any]]

SEGMENT_STEPS = 500  # that a graph runs in one call; longer chunks take several, to bound the memory
NO_EVENTS: Integers = np.zeros(0, np.int64)
NO_SAMPLES: Samples = np.zeros(0, np.float32)


class Work(NamedTuple):
    """A chunk for a stream. chunk: None when the stream only ends."""

    stream: StreamState
    chunk: Chunk | None
    end: bool


class Result(NamedTuple):
    """What a stream says after a chunk.

    steps: network steps run, the tail at the end included. scores, probabilities: [outputs].
    counted: a step that counts for the decision has been run. readout: [steps, outputs] where the rule is
    ``trace``, else None.
    """

    steps: int
    scores: Floats
    probabilities: Floats
    counted: bool
    readout: Floats | None


class Outcome(NamedTuple):
    """The stream after the chunk, and the result."""

    stream: StreamState
    result: Result


class _Plan(NamedTuple):
    """A chunk cut into whole steps: samples [steps * samples_per_step] or events; the stream that is left
    when they are taken out of it."""

    stream: StreamState
    steps: int
    samples: Samples
    step: Integers
    unit: Integers


class Engine:
    """Bounds on one batch, and ``run``. Holds nothing else; may be used by several threads."""

    def __init__(self, max_chunk_steps: int, segment_steps: int = SEGMENT_STEPS) -> None:
        self._max_chunk_steps = max_chunk_steps
        self._segment_steps = segment_steps

    def check(self, model: Model, stream: StreamState, chunk: Chunk | None) -> int:
        """Steps that a chunk will take, about; whether the stream takes it. ``run`` relies on it.

        Raises:
            InputError: a channel that the model lacks, another kind or sample rate than the stream's, nothing
                at all.
            TooLarge: more steps than a chunk may have.
            UnsupportedInput: audio for a model without encoder.
        """
        if chunk is None:
            if stream.kind is None:
                raise InputError("the session is empty: send input before you end it, or with end=true")
            return 0
        kind = "audio" if isinstance(chunk, AudioChunk) else "spikes"
        if stream.kind not in (None, kind):
            raise InputError(f"the session began with {stream.kind}: go on with that, or open another for {kind}")
        if isinstance(chunk, AudioChunk):
            encoder = model.encoder
            if stream.resampler is not None and chunk.rate_hz != stream.resampler.rate_hz:
                raise InputError(
                    f"the session's sample rate is {stream.resampler.rate_hz} Hz, this chunk's is {chunk.rate_hz} Hz: "
                    "keep the rate, or open another session"
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
            ArtifactError, RuntimeUnavailable: a graph does not load, fails, or gives what it should not.
        """
        plans = [_plan(model, work) for work in batch]
        outcomes: dict[int, Outcome] = {}
        for kind in ("audio", "spikes"):
            # longest first: the streams that go on beyond a segment are then a prefix of the batch
            chosen = [b for b, plan in enumerate(plans) if plan.steps and plan.stream.kind == kind]
            chosen.sort(key=lambda b: -plans[b].steps)
            if chosen:
                done = self._run_group(model, form, [plans[b] for b in chosen])
                outcomes |= dict(zip(chosen, done, strict=True))
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
        asked = [NEXT_STEP, SCORES, PROBABILITIES, *([READOUT] if trace else [])]
        states = model.states(form).batch([plan.stream.network for plan in plans])
        step = np.array([plan.stream.step for plan in plans], np.int64)
        encoder = _stack([plan.stream.encoder for plan in plans]) if is_audio else {}
        scores = probabilities = np.zeros((0, manifest.outputs), np.float32)
        readouts: list[list[Floats]] = [[] for _ in plans]
        for begin in range(0, plans[0].steps, self._segment_steps):
            active = [plan for plan in plans if plan.steps > begin] if begin else plans
            count = len(active)
            steps = np.array([min(plan.steps - begin, self._segment_steps) for plan in active], np.int64)
            if is_audio:
                events, encoder = _encode(model, active, begin, steps, encoder)
            else:
                events = _events(active, begin, steps)
            outputs = states.run(graph, {**events, STEPS: steps, STEP: step[:count]}, asked, count)
            step = replaced(model.name, NEXT_STEP, step, outputs[NEXT_STEP])
            if begin == 0:  # all plans have a step in the first segment
                scores, probabilities = outputs[SCORES], outputs[PROBABILITIES]
            else:
                scores[:count], probabilities[:count] = outputs[SCORES], outputs[PROBABILITIES]
            if trace:
                for b, done in enumerate(steps):
                    readouts[b].append(outputs[READOUT][b, :done])
        if not (np.isfinite(scores).all() and np.isfinite(probabilities).all()):
            raise ArtifactError(f"model {model.name!r} version {model.version!r} gave numbers that are not finite")
        outcomes = []
        for b, (plan, row, done) in enumerate(zip(plans, states.rows(), step.tolist(), strict=True)):
            stream = plan.stream
            after = StreamState(
                row,
                done,
                _unstack(encoder, b) if is_audio else stream.encoder,
                stream.kind,
                stream.resampler,
                stream.pending,
            )
            readout = np.concatenate(readouts[b]) if trace else None
            counted = done > manifest.decision.skip_steps
            outcomes.append(Outcome(after, Result(plan.steps, scores[b], probabilities[b], counted, readout)))
        return outcomes


def probabilities_of(decision: Decision, score: Floats, step: int) -> Floats:
    """Class probabilities [outputs] from the decision's state; uniform before the first step that counts.

    Args:
        score: [outputs]. step: steps done.
    """
    if decision.rule == "sum_softmax":
        counted = step - decision.skip_steps
        return score / np.float32(counted) if counted > 0 else np.full_like(score, 1 / len(score))
    powers = np.exp(score - score.max())
    share: Floats = powers / powers.sum()
    return share


def _check_channels(model: Model, chunk: SpikeChunk) -> None:
    channels = model.manifest.input.channels
    if chunk.channels is not None and chunk.channels != channels:
        raise InputError(f"the rows have {chunk.channels} values, model {model.name!r} has {channels} channels")
    if len(chunk.unit) and int(chunk.unit.max()) >= channels:
        raise InputError(f"unit {int(chunk.unit.max())} is outside model {model.name!r}'s channels 0-{channels - 1}")


def _plan(model: Model, work: Work) -> _Plan:
    stream, chunk = work.stream, work.chunk
    tail = model.manifest.decision.tail_steps if work.end else 0
    if isinstance(chunk, SpikeChunk) or (chunk is None and stream.kind == "spikes"):
        steps, step, unit = (chunk.steps, chunk.step, chunk.unit) if chunk else (0, NO_EVENTS, NO_EVENTS)
        if stream.kind is None:
            stream = replace(stream, kind="spikes")
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
    # a copy, or what is left would keep the whole chunk in memory
    pending = samples[steps * per_step :].copy()
    after = replace(stream, kind="audio", resampler=resampler, pending=pending)
    return _Plan(after, steps, samples[: steps * per_step], NO_EVENTS, NO_EVENTS)


def _events(plans: Sequence[_Plan], begin: int, steps: Integers) -> State:
    """Events of a segment that begins at step ``begin``; steps: int64 [b] of each plan in it."""
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


def _encode(model: Model, plans: Sequence[_Plan], begin: int, steps: Integers, state: State) -> tuple[State, State]:
    """Events of a segment of audio, and the encoder's state [b, ...] after it."""
    per_step = model.encoder.samples_per_step
    audio = np.zeros((len(plans), int(steps.max()) * per_step), np.float32)
    for b, plan in enumerate(plans):
        piece = plan.samples[begin * per_step : (begin + int(steps[b])) * per_step]
        audio[b, : len(piece)] = piece
    layout, count = model.encoder.state, len(plans)
    given = {f"state.{tensor.name}": state[tensor.name][:count] for tensor in layout}
    asked = [EVENT_ROW, EVENT_UNIT, *(f"next.{tensor.name}" for tensor in layout)]
    outputs = model.encoder_graph.run({AUDIO: audio, STEPS: steps, **given}, asked)
    after = {t.name: replaced(model.name, f"next.{t.name}", state[t.name], outputs[f"next.{t.name}"]) for t in layout}
    return {name: outputs[name] for name in (EVENT_ROW, EVENT_UNIT)}, after


def _stack(states: Sequence[State]) -> State:
    if len(states) == 1:
        return {name: value[np.newaxis] for name, value in states[0].items()}
    return {name: np.stack([state[name] for state in states]) for name in states[0]}


def _unstack(states: State, b: int) -> State:
    """State of stream b; a copy where it would keep the whole batch in memory."""
    return {name: _own(value[b, ...], alone=len(value) == 1) for name, value in states.items()}


def _own(value: Array, alone: bool) -> Array:
    return value if alone else value.copy()


def _result_of_state(model: Model, form: FormName, stream: StreamState) -> Result:
    """The result of a chunk without a whole step."""
    decision, outputs = model.manifest.decision, model.manifest.outputs
    row = model.states(form).to_host(stream.network)
    score = row[-outputs:].copy()  # the last of the row, by the manifest's schema
    readout = np.zeros((0, outputs), np.float32) if decision.rule == "trace" else None
    shares = probabilities_of(decision, score, stream.step)
    return Result(0, score, shares, stream.step > decision.skip_steps, readout)
