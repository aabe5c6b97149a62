"""The state of a stream between two chunks, and the work on a chunk, cut into pieces so that none delays the others.

Everything here is a value: the engine returns the next state and changes none. A piece can be cut anywhere: the states
of resampler, encoder and network link the pieces, so the result is the same to the bit. A piece becomes the graphs'
inputs. Index letters: b stream, t step, k channel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from math import ceil
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.events import Integers
from hetsyn_client.results import Heard, Trigger, UtteranceEnd
from service.contract.endpointing import Endpointing
from service.contract.graph_io import AUDIO, EVENT_ROW, EVENT_UNIT, STEPS, VALUES, Float32Array
from service.engine.endpointer import Found, Hearing
from service.engine.resampler import Resampler
from service.models.model import Arrays, Model
from service.observe.watch import NOT_RUN, Ran
from service.runtime.states import check_like, out_of_bounds
from service.wire.chunk import (
    AudioChunk,
    Chunk,
    Samples,
    SpikeChunk,
    SpikeNumbers,
    ValuesChunk,
    chunk_bytes,
    part_of_spikes,
    spikes_between,
)

InputKind = Literal["audio", "spikes", "values"]

NO_SAMPLES: Samples = np.zeros(0, np.float32)
STEP_BYTES = 8
UTTERANCE_BYTES = 400  # of ``Utterances`` without input and ends
END_BYTES, PROBABILITY_BYTES = 700, 32  # of one end, and of each of its probabilities
NO_EVENTS: Integers = np.zeros(0, np.int64)
NO_SPIKES = SpikeChunk(0, NO_EVENTS, NO_EVENTS)
NO_VALUES: Float32Array = np.zeros((0, 0), np.float32)


class Utterances(NamedTuple):
    """The utterances of a stream. Positions count the client's input: samples, or steps of other input.

    Attributes:
        settings: the endpointer's; None: an utterance ends only when the client says so.
        number: number of the current or next utterance.
        start: position where the current utterance, or the silence before the next one, began.
        position: input taken so far.
        recent: the last input before ``position`` during silence; an utterance begins with some of it.
        ends: the last ends, for a client that has lost its connection.
    """

    settings: Endpointing | None
    hearing: Hearing
    number: int
    start: int
    position: int
    recent: Chunk | None
    ends: tuple[UtteranceEnd, ...]

    @property
    def is_speech(self) -> bool:
        """Return whether the network hears the next input."""
        return self.settings is None or self.hearing.is_speech

    @property
    def bytes(self) -> int:
        count = UTTERANCE_BYTES + (0 if self.recent is None else chunk_bytes(self.recent))
        return count + sum(END_BYTES + PROBABILITY_BYTES * len(end["probabilities"] or ()) for end in self.ends)


class StreamState(NamedTuple):
    """The state of one stream.

    Attributes:
        network: the network's state, [words].
        step: network steps so far.
        encoder: the encoder's state tensors by name, without a batch axis.
        kind: kind of the input, set by the first chunk; None before it. A network of values takes spikes as values.
        resampler: converts to the model's sample rate; None before the first audio.
        pending: samples at the model's rate that do not fill a step yet.
        utterances: None for a stream that is one utterance. During silence, network and step are those of a new stream;
            the encoder has heard the input so far, because the endpointer hears values by it.
    """

    network: Float32Array
    step: int
    encoder: Arrays
    kind: InputKind | None
    resampler: Resampler | None
    pending: Samples
    utterances: Utterances | None = None

    @property
    def bytes(self) -> int:
        count = self.network.nbytes + STEP_BYTES + self.pending.nbytes
        if self.resampler is not None:
            count += self.resampler.waiting.nbytes
        for tensor in self.encoder.values():  # a sum over a generator would take a microsecond more a chunk
            count += tensor.nbytes
        if self.utterances is not None:
            count += self.utterances.bytes
        return count


def initial_stream(model: Model) -> StreamState:
    return StreamState(model.initial_row, 0, model.initial_encoder, None, None, NO_SAMPLES)


class RasterPart(NamedTuple):
    """The spikes of a segment.

    Attributes:
        first: the session's step at which it begins.
        bits: uint8 [steps, bytes], a bit a unit (``np.packbits``), by the layer's name. If all units spike, lists would
            take a hundred times the memory while a chunk waits.
    """

    first: int
    bits: Mapping[str, NDArray[np.uint8]]


Raster: TypeAlias = tuple[RasterPart, ...]


class Work(NamedTuple):
    """A chunk for a stream.

    Attributes:
        chunk: None if the stream only ends.
        end: the stream ends with the chunk.
        finalize: the utterance ends with the chunk, and the stream goes on; it has ``utterances``.
        spikes: the client asks for spikes.
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
        probabilities: [outputs]; empty, like the scores, if nothing is heard.
        is_decided: a step that counts for the decision has been run.
        readout: [steps, outputs] with rule ``trace``, else None.
        heard: starts and ends of utterances in the chunk.
        utterance: number of the current or next one; None in a stream that is one utterance.
        total_steps: the session's, in a stream with utterances; ``steps`` is then 0.
        raster: the spikes; None if nobody asks.
        label: index of the likeliest label; -1 for null, None if it is not computed yet.
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


class Outcome(NamedTuple):
    """The stream after the chunk, the result, and when ``Batcher.run`` computed it."""

    stream: StreamState
    result: Result
    ran: Ran = NOT_RUN


class Job(NamedTuple):
    """A chunk, partly computed.

    An utterance ends by a job of its own, on a copy of the stream. It has ``after`` and ``trigger``.

    Attributes:
        stream: the stream after the computed part; ``pending`` may have whole steps that are not computed. It has its
            ``kind``, and a resampler if the chunk is audio.
        chunk: None if the stream only ends.
        taken: samples, or steps of spikes or values, that were taken out of the chunk.
        ends: the stream ends after the chunk, and its end is not computed yet.
        steps: computed network steps.
        scores: [outputs] after these steps; None before the first.
        probabilities: [outputs] after these steps; None before the first.
        readouts: [steps, outputs] of each computed part, with rule ``trace``.
        closes: why the chunk ends its utterance; None if it does not.
        heard: starts and ends of utterances so far.
        after: the job to go on with after the end of an utterance.
        trigger: why the utterance ends.
        raster: the spikes so far; None if the client does not ask for them.
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


class Piece(NamedTuple):
    """Whole steps of a job's input.

    Attributes:
        job: the job after the input was taken out of it; ``taken`` is stale if ``is_last``.
        steps: 0 if the input does not fill a step.
        values: [steps, samples of a step], or [steps, channels] of values; empty for spikes.
        step: [events], each spike's step from 0, ascending; empty for audio and values.
        unit: [events], each spike's channel.
        is_last: the job is done after these steps.
        found: reason for which the utterance ends after these steps, or that it was noise.
        heard: steps before these that only the endpointer has heard.
    """

    job: Job
    steps: int
    values: Float32Array
    step: SpikeNumbers
    unit: SpikeNumbers
    is_last: bool
    found: Found | None = None
    heard: int = 0


class Inputs(NamedTuple):
    """The inputs of some streams.

    Attributes:
        network: inputs of the network's graph, without the state.
        encoders: each stream's encoder state after these steps; empty without an encoder.
        unbounded: streams with an encoder state out of bounds.
    """

    network: Arrays
    events: int
    encoders: tuple[Arrays, ...] = ()
    unbounded: Collection[int] = ()


_NOTHING_DONE = (0, None, None, (), None, (), None, None, None)  # members of a new ``Job`` from ``steps`` on


def kind_of(model: Model, chunk: Chunk | None) -> InputKind:
    """Return the kind of a stream with this first chunk."""
    if isinstance(chunk, AudioChunk):
        return "audio"
    return "values" if model.takes_values_only or isinstance(chunk, ValuesChunk) else "spikes"


def begin(model: Model, work: Work) -> Job:
    """Make the job of a chunk."""
    stream, chunk, end, finalize, spikes = work
    if stream.kind is None:
        stream = stream._replace(kind=kind_of(model, chunk))
    if isinstance(chunk, AudioChunk):
        if not len(chunk.samples):
            chunk = None  # a piece of a file that completes no sample does not set the sample rate
        elif stream.resampler is None:
            stream = stream._replace(resampler=Resampler.between(chunk.rate_hz, model.encoder.sample_rate_hz))
    raster: Raster | None = () if spikes else None
    if stream.utterances is None:
        return Job(stream, chunk, 0, end, raster=raster)
    closes: Trigger | None = "end" if end else "forced" if finalize else None
    return Job(stream, chunk, 0, False, closes=closes, raster=raster)


def begin_all(models: Sequence[Model], works: Sequence[Work]) -> list[tuple[Job, int, int | None]]:
    """Begin chunks that came together. Returns the job, steps and spikes of each (``begin``, ``size_of``)."""
    streams, chunks, ends, *_, spikes = zip(*works, strict=True)
    are_spikes = set(map(type, chunks)) == {SpikeChunk} and are_of_spikes(streams)
    if are_spikes and True not in ends and True not in spikes:  # ten times as fast
        jobs = map(_job, zip(streams, chunks, repeat(0), ends, *map(repeat, _NOTHING_DONE), strict=False))
        return list(zip(jobs, map(_steps_of, chunks), map(len, map(_step_of, chunks)), strict=True))
    begun = list(map(begin, models, works))
    return [(job, *size_of(model, job)) for model, job in zip(models, begun, strict=True)]


def are_of_spikes(streams: Sequence[StreamState]) -> bool:
    """Return whether all streams are of spikes, and one utterance each."""
    is_one = list(map(_utterances_of, streams)).count(None) == len(streams)
    return is_one and set(map(_kind_of, streams)) == {"spikes"}


_stream_of, _chunk_of = attrgetter("stream"), attrgetter("chunk")
_kind_of, _utterances_of = attrgetter("kind"), attrgetter("utterances")
_steps_of, _step_of, _unit_of = attrgetter("steps"), attrgetter("step"), attrgetter("unit")
_taken_of, _ends_of = attrgetter("taken"), attrgetter("ends")
_piece: Callable[[Iterable[Any]], Piece] = partial(tuple.__new__, Piece)
_job: Callable[[Iterable[Any]], Job] = partial(tuple.__new__, Job)


def whole_pieces(jobs: Sequence[Job], max_steps: int) -> tuple[Piece, ...] | None:
    """Take jobs with chunks of spikes as one piece each: as ``TAKE``, much faster.

    Returns:
        None if a stream hears no spikes, or has utterances, or a job was begun, ends its session, or has more than
        ``max_steps``.
    """
    chunks = list(map(_chunk_of, jobs))
    if (
        not are_of_spikes(list(map(_stream_of, jobs)))
        or max(map(_steps_of, chunks)) > max_steps
        or any(map(_taken_of, jobs))
        or any(map(_ends_of, jobs))
    ):
        return None
    steps, times, units = map(_steps_of, chunks), map(_step_of, chunks), map(_unit_of, chunks)
    rest = repeat(True), repeat(None), repeat(0)
    return tuple(map(_piece, zip(jobs, steps, repeat(NO_VALUES), times, units, *rest, strict=False)))


def size_of(model: Model, job: Job) -> tuple[int, int | None]:
    """Count the steps that a job still takes, at least 1, and their spikes (``count_events``).

    The tail at the end counts. For audio it may be a few steps more, if samples will wait.
    """
    stream, chunk, resampler = job.stream, job.chunk, job.stream.resampler
    left = model.manifest.decision.tail_steps if job.ends else 0
    if job.after is not None:  # the chunk goes on after an utterance's end
        left += size_of(model, job.after)[0]
    if stream.kind != "audio":
        length = chunk.steps if isinstance(chunk, SpikeChunk | ValuesChunk) else 0
        left = max(1, left + length - job.taken)
        return left, count_events(job, left)
    samples, received = len(stream.pending), 0
    if isinstance(chunk, AudioChunk):
        received = len(chunk.samples) - job.taken
    if resampler is not None and (chunk is not None or job.ends):
        received += resampler.received
        samples += ceil(received * resampler.target_hz / resampler.rate_hz) - resampler.emitted
    return max(1, left - (-samples // model.encoder.samples_per_step)), None


def count_events(job: Job, max_steps: int) -> int | None:
    """Count the spikes in the next steps of a job's input; None for audio and values: an encoder may make spikes."""
    if job.stream.kind != "spikes":
        return None
    if not isinstance(job.chunk, SpikeChunk):
        return 0
    if job.taken == 0 and max_steps >= job.chunk.steps:
        return len(job.chunk.step)
    first, end = spikes_between(job.chunk, job.taken, job.taken + max_steps)
    return end - first


def _take_spikes(model: Model, job: Job, max_steps: int) -> Piece:
    chunk = job.chunk if isinstance(job.chunk, SpikeChunk) else NO_SPIKES
    # the tail is silence after the chunk
    total = chunk.steps + (model.manifest.decision.tail_steps if job.ends else 0)
    steps = min(total - job.taken, max_steps)
    taken = job.taken + steps
    if steps < total:
        chunk = part_of_spikes(chunk, job.taken, taken)
    is_last = taken == total
    return Piece(job if is_last else job._replace(taken=taken), steps, NO_VALUES, chunk.step, chunk.unit, is_last)


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
            part = part_of_spikes(chunk, job.taken, taken)
            values[part.step, part.unit] = 1.0
    is_last = taken == total
    after = job if is_last else job._replace(taken=taken)
    return Piece(after, steps, values, NO_EVENTS, NO_EVENTS, is_last)


def _take_audio(model: Model, job: Job, max_steps: int) -> Piece:
    per_step = model.encoder.samples_per_step
    stream, taken, ends = job.stream, job.taken, job.ends
    resampler, parts = stream.resampler, [stream.pending]
    missing = max_steps * per_step - len(stream.pending)
    total = 0
    if isinstance(job.chunk, AudioChunk) and resampler is not None:
        chunk = job.chunk
        total = len(chunk.samples)
        if missing > 0 and taken < total:
            until = min(total, taken + ceil(missing * resampler.rate_hz / resampler.target_hz))
            samples = chunk.samples[taken:until]
            if resampler.rate_hz == resampler.target_hz:  # they are only counted
                received = resampler.received + len(samples)
                resampler = Resampler(chunk.rate_hz, chunk.rate_hz, resampler.waiting, received, emitted=received)
            else:
                resampler, samples = resampler.push(samples)
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
    if len(samples) > steps * per_step:  # copy, else the rest would keep the whole chunk in memory
        pending, samples = samples[steps * per_step :].copy(), samples[: steps * per_step]
    stream = StreamState(stream.network, stream.step, stream.encoder, stream.kind, resampler, pending)
    after = job._replace(stream=stream, taken=taken, ends=ends)
    is_last = taken == total and not ends and len(pending) < per_step
    return Piece(after, steps, samples.reshape(steps, per_step), NO_EVENTS, NO_EVENTS, is_last)


TAKE: Mapping[InputKind | None, Callable[[Model, Job, int], Piece]] = {
    "audio": _take_audio,
    "spikes": _take_spikes,
    "values": _take_values,
}
"""By the kind of a stream: the function that cuts the next steps, up to a number, out of a job's input."""


def spike_inputs(pieces: Sequence[Piece], steps: Integers) -> Inputs:
    """Make the inputs of streams of spikes."""
    times, units = list(map(_step_of, pieces)), list(map(_unit_of, pieces))
    rows = np.concatenate(times, dtype=np.int64)
    if len(pieces) > 1:
        rows += np.repeat(np.arange(len(pieces)) * int(steps.max()), list(map(len, times)))
    return Inputs({EVENT_ROW: rows, EVENT_UNIT: np.concatenate(units, dtype=np.int64)}, len(rows))


def encoded_inputs(model: Model, kind: InputKind, pieces: Sequence[Piece], steps: Integers) -> Inputs:
    """Make the inputs of streams of audio or of values: their spikes, or the values if the model has no encoder.

    Raises:
        ArtifactError: the encoder fails, or its output has a wrong shape.
    """
    graph, tensors, count = model.encoder_graph, model.encoder_state, len(pieces)
    states = [piece.job.stream.encoder for piece in pieces]
    if count == 1:
        values = pieces[0].values[np.newaxis]
        before = {name: states[0][name][np.newaxis] for name, *_ in tensors}
    else:  # [b, longest, numbers of a step], 0 past a stream's end
        values = np.zeros((count, int(steps.max()), pieces[0].values.shape[1]), np.float32)
        for b, piece in enumerate(pieces):
            values[b, : piece.steps] = piece.values
        before = {name: np.stack([state[name] for state in states]) for name, *_ in tensors}
    if graph is None:
        return Inputs({VALUES: values}, 0)
    inputs: Arrays = {VALUES: values} if kind == "values" else {AUDIO: values.reshape(count, -1)}
    inputs |= {STEPS: steps, **{key: before[name] for name, key, _ in tensors}}
    outputs = graph.run(inputs, [EVENT_ROW, EVENT_UNIT, *[key for *_, key in tensors]])
    after = {name: outputs[key] for name, _, key in tensors}
    for name, _, key in tensors:
        check_like(model.name, key, after[name], before[name])
    unbounded = out_of_bounds(*after.values())
    events = {key: outputs[key] for key in (EVENT_ROW, EVENT_UNIT)}
    encoders: tuple[Arrays, ...]
    if count == 1:
        encoders = ({name: value[0, ...] for name, value in after.items()},)
    else:  # copy, else a state would keep the whole batch in memory
        encoders = tuple([{name: value[b, ...].copy() for name, value in after.items()} for b in range(count)])
    return Inputs(events, len(events[EVENT_ROW]), encoders, unbounded)
