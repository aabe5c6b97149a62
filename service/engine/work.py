"""Chunks as the engine computes them: a piece of a chunk's input at a time, so that no chunk keeps the others waiting.

Everything here is a value. A piece can be cut anywhere: the states of resampler, encoder and network link the pieces,
so that the result is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from math import ceil
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.events import Integers
from hetsyn_client.results import Heard, Trigger
from service.contract.graph_io import Float32Array
from service.engine.endpointer import Found
from service.engine.resampler import Resampler
from service.engine.stream import NO_SAMPLES, InputKind, StreamState
from service.models.model import Model
from service.observe.watch import NOT_RUN, Ran
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, ValuesChunk

NO_EVENTS: Integers = np.zeros(0, np.int64)
NO_VALUES: Float32Array = np.zeros((0, 0), np.float32)


class RasterPart(NamedTuple):
    """The spikes of a segment.

    Attributes:
        first: step of the session with which it begins.
        bits: uint8 [steps, bytes], a bit a unit (``np.packbits``), by the layer's name: lists of spikes would take a
            hundred times as much while a chunk waits, if somebody makes all units spike.
    """

    first: int
    bits: Mapping[str, NDArray[np.uint8]]


Raster: TypeAlias = tuple[RasterPart, ...]


class Work(NamedTuple):
    """A chunk for a stream.

    Attributes:
        stream: before the chunk.
        chunk: None when the stream only ends.
        end: the stream ends with the chunk.
        finalize: the utterance ends with the chunk, and the stream goes on; it has ``utterances``.
        spikes: the client asks for them.
    """

    stream: StreamState
    chunk: Chunk | None
    end: bool
    finalize: bool = False
    spikes: bool = False


class Result(NamedTuple):
    """The output of a stream after a chunk.

    Attributes:
        steps: network steps run, the tail at the end included.
        scores: [outputs].
        probabilities: [outputs]; empty, as the scores, where nothing is heard.
        is_decided: a step that counts for the decision has been run.
        readout: [steps, outputs] where the rule is ``trace``, else None.
        heard: where utterances began and ended in the chunk.
        utterance: the one that is under way, or comes next; None in a stream that is one utterance.
        total_steps: of the session, in a stream that has utterances; ``steps`` is 0 then.
        raster: the spikes; None where nobody asks.
        label: index of the likeliest; -1 for none, None where it is not computed yet.
    """

    steps: int
    scores: Float32Array
    probabilities: Float32Array
    is_decided: bool
    readout: Float32Array | None
    heard: tuple[Heard, ...] = ()
    utterance: int | None = None
    total_steps: int = 0
    raster: Raster | None = None
    label: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether there are class probabilities, and nothing else."""
        return self.label is not None


class Outcome(NamedTuple):
    """The stream after the chunk, the result, and when ``Batcher.run`` computed it."""

    stream: StreamState
    result: Result
    ran: Ran = NOT_RUN


class Job(NamedTuple):
    """A chunk of which a part may be computed.

    Attributes:
        stream: after the part that is computed; ``pending`` may hold whole steps that are not.
        chunk: None when the stream only ends.
        taken: samples, or steps of spikes or values, that were taken out of the chunk.
        ends: the end of the stream is still to be added.
        steps: network steps run.
        scores: [outputs] after them; None before the first.
        probabilities: likewise.
        readouts: of each part, [steps, outputs], where the rule is ``trace``.
        closes: the utterance ends after the chunk, for this reason.
        heard: where utterances began and ended so far.
        after: this job is only the end of an utterance, on a copy of the stream; with that one the chunk goes on.
        trigger: why that utterance ends.
        raster: the spikes so far; None where nobody asks.
    """

    stream: StreamState
    chunk: Chunk | None
    taken: int
    ends: bool
    steps: int = 0
    scores: Float32Array | None = None
    probabilities: Float32Array | None = None
    readouts: tuple[Float32Array, ...] = ()
    closes: Trigger | None = None
    heard: tuple[Heard, ...] = ()
    after: Job | None = None
    trigger: Trigger | None = None
    raster: Raster | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the stream is one utterance."""
        return self.stream.utterances is None and self.after is None


class Piece(NamedTuple):
    """Whole steps of a job's input.

    Attributes:
        job: after the input is taken out of it; ``taken`` is not kept where nothing is left.
        steps: 0 where the input does not fill a step.
        values: [steps, samples of a step], or [steps, channels] of values; empty for spikes.
        step: int64 [events], ascending, of each spike, from 0; empty for audio and values.
        unit: int64 [events], of each spike.
        is_last: the job is done when these steps are.
        found: the utterance ends after these steps, for this reason; or it was noise.
        heard: steps before these, which the endpointer alone has heard.
    """

    job: Job
    steps: int
    values: Float32Array
    step: Integers
    unit: Integers
    is_last: bool
    found: Found | None = None
    heard: int = 0


_NOTHING_DONE = (0, None, None, (), None, (), None, None, None)  # of a ``Job``, from ``steps`` on


def kind_of(model: Model, chunk: Chunk | None) -> InputKind:
    """The kind of a stream whose first chunk this is."""
    if isinstance(chunk, AudioChunk):
        return "audio"
    return "values" if model.takes_values_only or isinstance(chunk, ValuesChunk) else "spikes"


def begin(model: Model, work: Work) -> Job:
    """A chunk of which nothing is computed."""
    stream, chunk, end, finalize, spikes = work
    if stream.kind is None:
        stream = stream._replace(kind=kind_of(model, chunk))
    if isinstance(chunk, AudioChunk) and not len(chunk.samples):
        chunk = None  # a piece of a file that completes no sample: it does not fix the sample rate
    raster: Raster | None = () if spikes else None
    if stream.utterances is None:
        return Job(stream, chunk, 0, end, raster=raster)
    closes: Trigger | None = "end" if end else "forced" if finalize else None
    return Job(stream, chunk, 0, False, closes=closes, raster=raster)


def begin_all(models: Sequence[Model], works: Sequence[Work]) -> list[tuple[Job, int, int | None]]:
    """Begin chunks that came together.

    Returns:
        Of each its job (``begin``), steps and spikes (``size_of``).
    """
    streams, chunks, ends, *_, spikes = zip(*works, strict=True)
    if are_of_spikes(streams, chunks) and True not in ends and True not in spikes:  # at a tenth of the time
        jobs = map(_job, zip(streams, chunks, repeat(0), ends, *map(repeat, _NOTHING_DONE), strict=False))
        return list(zip(jobs, map(_steps_of, chunks), map(len, map(_step_of, chunks)), strict=True))
    begun = list(map(begin, models, works))
    return [(job, *size_of(model, job)) for model, job in zip(models, begun, strict=True)]


def are_of_spikes(streams: Sequence[StreamState], chunks: Sequence[Chunk | None]) -> bool:
    """Whether all chunks are spikes, of streams that are one utterance each."""
    return (
        set(map(type, chunks)) == {SpikeChunk}
        and set(map(_kind_of, streams)) == {"spikes"}
        and list(map(_utterances_of, streams)).count(None) == len(streams)
    )


def take(model: Model, job: Job, max_steps: int) -> Piece:
    """Cut the next steps out of a job's input.

    Args:
        max_steps: of the piece, at least 1.
    """
    if job.stream.kind == "spikes":
        return _take_spikes(model, job, max_steps)
    return _take_audio(model, job, max_steps) if job.stream.kind == "audio" else _take_values(model, job, max_steps)


_stream_of, _chunk_of, _after_of = attrgetter("stream"), attrgetter("chunk"), attrgetter("after")
_kind_of, _utterances_of = attrgetter("kind"), attrgetter("utterances")
_steps_of, _step_of, _unit_of = attrgetter("steps"), attrgetter("step"), attrgetter("unit")
_taken_of, _ends_of = attrgetter("taken"), attrgetter("ends")
_piece: Callable[[Iterable[Any]], Piece] = partial(tuple.__new__, Piece)
_job: Callable[[Iterable[Any]], Job] = partial(tuple.__new__, Job)


def are_whole(jobs: Sequence[Job], max_steps: int) -> bool:
    """Whether all jobs are chunks of spikes that one piece each computes as a whole, without an end."""
    streams, chunks = list(map(_stream_of, jobs)), list(map(_chunk_of, jobs))
    return (
        are_of_spikes(streams, chunks)
        and max(map(_steps_of, chunks)) <= max_steps
        and not any(map(_taken_of, jobs))
        and not any(map(_ends_of, jobs))
        and list(map(_after_of, jobs)).count(None) == len(jobs)
    )


def whole_pieces(jobs: Sequence[Job]) -> tuple[Piece, ...]:
    """The pieces of jobs that ``are_whole``: as ``take``, at a fraction of its time."""
    chunks = list(map(_chunk_of, jobs))
    steps, times, units = map(_steps_of, chunks), map(_step_of, chunks), map(_unit_of, chunks)
    rest = repeat(True), repeat(None), repeat(0)
    return tuple(map(_piece, zip(jobs, steps, repeat(NO_VALUES), times, units, *rest, strict=False)))


def are_done(pieces: Sequence[Piece]) -> bool:
    """Whether each piece is all of its job, of a stream that is one utterance."""
    return all(piece.is_last and not piece.job.steps and piece.job.is_plain for piece in pieces)


def size_of(model: Model, job: Job) -> tuple[int, int | None]:
    """Steps that a job still takes, at least 1, and the spikes in them (``count_events``)."""
    left = steps_left(model, job) or 1
    return left, count_events(job, left)


def steps_left(model: Model, job: Job) -> int:
    """Steps that a job still takes, the tail at the end included; for audio a few more where samples stay waiting."""
    if job.after is not None:  # the chunk goes on after the end of an utterance
        return steps_left(model, job._replace(after=None)) + steps_left(model, job.after)
    tail = model.manifest.decision.tail_steps if job.ends else 0
    if job.stream.kind != "audio":
        return (job.chunk.steps if isinstance(job.chunk, SpikeChunk | ValuesChunk) else 0) + tail - job.taken
    encoder, resampler, samples = model.encoder, job.stream.resampler, len(job.stream.pending)
    if isinstance(job.chunk, AudioChunk):
        received = resampler.received if resampler else 0
        emitted = resampler.emitted if resampler else 0
        received += len(job.chunk.samples) - job.taken
        samples += ceil(received * encoder.sample_rate_hz / job.chunk.rate_hz) - emitted
    elif resampler and job.ends:
        samples += ceil(resampler.received * encoder.sample_rate_hz / resampler.rate_hz) - resampler.emitted
    return -(-samples // encoder.samples_per_step) + tail


def resampler_of(model: Model, job: Job) -> Resampler | None:
    """What resamples a job's next sound, at the beginning of its stream too; None without any."""
    if job.stream.resampler is None and isinstance(job.chunk, AudioChunk):
        return Resampler.between(job.chunk.rate_hz, model.encoder.sample_rate_hz)
    return job.stream.resampler


def count_events(job: Job, max_steps: int) -> int | None:
    """Spikes in the next steps of a job's input; None for audio and values, of which an encoder may make spikes."""
    if job.stream.kind != "spikes":
        return None
    if not isinstance(job.chunk, SpikeChunk):
        return 0
    if job.taken == 0 and max_steps >= job.chunk.steps:
        return len(job.chunk.step)
    first, last = np.searchsorted(job.chunk.step, (job.taken, job.taken + max_steps))
    return int(last - first)


def _take_spikes(model: Model, job: Job, max_steps: int) -> Piece:
    total, step, unit = 0, NO_EVENTS, NO_EVENTS
    if isinstance(job.chunk, SpikeChunk):
        total, step, unit = job.chunk.steps, job.chunk.step, job.chunk.unit
    # the tail is silence after the chunk
    total += model.manifest.decision.tail_steps if job.ends else 0
    steps = min(total - job.taken, max_steps)
    if job.taken or steps < total:
        first, last = np.searchsorted(step, (job.taken, job.taken + steps))
        step, unit = step[first:last] - job.taken, unit[first:last]
    taken = job.taken + steps
    is_last = taken == total
    return Piece(job if is_last else job._replace(taken=taken), steps, NO_VALUES, step, unit, is_last)


def _take_values(model: Model, job: Job, max_steps: int) -> Piece:
    chunk = job.chunk if isinstance(job.chunk, SpikeChunk | ValuesChunk) else None
    length = 0 if chunk is None else chunk.steps
    total = length + (model.manifest.decision.tail_steps if job.ends else 0)
    steps = min(total - job.taken, max_steps)
    taken = job.taken + steps
    if isinstance(chunk, ValuesChunk) and taken <= length:
        values = chunk.values[job.taken : taken]
    else:
        values = np.zeros((steps, model.row_values), np.float32)  # the tail is zeros after the chunk
        if isinstance(chunk, ValuesChunk):
            values[: max(0, length - job.taken)] = chunk.values[job.taken :]
        elif chunk is not None:
            first, last = np.searchsorted(chunk.step, (job.taken, taken))
            values[chunk.step[first:last] - job.taken, chunk.unit[first:last]] = 1.0
    is_last = taken == total
    after = job if is_last else job._replace(taken=taken)
    return Piece(after, steps, values, NO_EVENTS, NO_EVENTS, is_last)


def _take_audio(model: Model, job: Job, max_steps: int) -> Piece:
    per_step = model.encoder.samples_per_step
    stream, taken, ends = job.stream, job.taken, job.ends
    resampler, parts = stream.resampler, [stream.pending]
    missing = max_steps * per_step - len(stream.pending)
    total = 0
    if isinstance(job.chunk, AudioChunk):
        chunk = job.chunk
        total = len(chunk.samples)
        resampler = resampler or Resampler.between(chunk.rate_hz, model.encoder.sample_rate_hz)
        if missing > 0 and taken < total:
            until = min(total, taken + ceil(missing * chunk.rate_hz / model.encoder.sample_rate_hz))
            resampler, samples = resampler.push(chunk.samples[taken:until])
            parts.append(samples)
            taken = until
    if ends and taken == total and missing > 0:
        if resampler is not None:
            resampler, samples = resampler.flush()
            parts.append(samples)
        unfilled = -sum(map(len, parts)) % per_step
        parts.append(np.zeros(unfilled + model.manifest.decision.tail_steps * per_step, np.float32))
        ends = False
    parts = [part for part in parts if len(part)]
    samples = parts[0] if len(parts) == 1 else np.concatenate([NO_SAMPLES, *parts])
    steps = min(len(samples) // per_step, max_steps)
    pending = NO_SAMPLES
    if len(samples) > steps * per_step:  # a copy, or the rest would keep the whole chunk in memory
        pending, samples = samples[steps * per_step :].copy(), samples[: steps * per_step]
    stream = StreamState(stream.network, stream.step, stream.encoder, stream.kind, resampler, pending)
    after = job._replace(stream=stream, taken=taken, ends=ends)
    is_last = taken == total and not ends and len(pending) < per_step
    return Piece(after, steps, samples.reshape(steps, per_step), NO_EVENTS, NO_EVENTS, is_last)
