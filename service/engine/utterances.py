"""Runs streams with utterances: the pieces that the network hears, and the starts and ends of utterances.

During silence, neither encoder nor network runs: the endpointer alone hears the input, and the stream keeps the last of
it. At a start, the stream begins like a new one, with the input from ``preroll`` before the onset on. At an end, a copy
of the stream gets the end of a session. So an utterance's final answer is that of ``/infer`` with ``end`` for exactly
its input, bit for bit.

Input is cut as soon as the endpointer can hear a step, not where a chunk ends. So the result is the same however the
input is cut.
"""

from __future__ import annotations

from math import ceil, log10
from typing import cast

import numpy as np

from hetsyn_client.results import Classified, Heard, Trigger, UtteranceEnd, classified
from service.contract.decision import is_decided, label_of
from service.contract.endpointing import Endpointing
from service.contract.graph_io import EVENT_ROW
from service.contract.numbers import json_numbers
from service.engine.endpointer import QUIETEST, Found, Hearing, Rules, scan
from service.engine.fault import out_of_range
from service.engine.resampler import Resampler
from service.engine.work import (
    NO_EVENTS,
    NO_SAMPLES,
    NO_VALUES,
    TAKE,
    Job,
    Outcome,
    Piece,
    Result,
    StreamState,
    Utterances,
    encoded_inputs,
)
from service.models.model import Model
from service.runtime.states import is_bounded
from service.wire.chunk import AudioChunk, Chunk, chunk_length, copied, joined_chunks, part_of_chunk

KEPT_ENDS = 8
FIRST_STEPS, FURTHER = 32, 4  # steps to scan first, and the factor for each further scan


def steps_at(model: Model, stream: StreamState, position: int) -> int:
    """Count the whole steps of a session before a position of its input."""
    resampler = stream.resampler
    if resampler is None:
        return position
    return position * resampler.target_hz // (resampler.rate_hz * model.encoder.samples_per_step)


def hear(model: Model, job: Job, max_steps: int) -> Piece:
    """Take the next piece that the network hears, for a stream with utterances."""
    left = max_steps
    while True:
        utterances = _utterances(job)
        piece, hearing, found = _scanned(model, job, left)
        consumed = piece.job.taken - job.taken  # in the client's units
        position = utterances.position + consumed
        heard = utterances._replace(hearing=hearing, position=position)
        if utterances.is_speech:
            is_last = piece.is_last and found is None
            return piece._replace(
                job=_with(piece.job, heard), is_last=is_last, found=found, heard=max_steps - left
            )  # fmt: skip
        taken = part_of_chunk(job.chunk, job.taken, job.taken + consumed) if job.chunk is not None else None
        heard = heard._replace(recent=_latest(model, piece.job, utterances, taken))
        after = _with(_encoded(model, piece), heard)
        left -= piece.steps
        if found == "start":
            after = _started(model, after)
        elif found == "nothing":
            after = _nothing_heard(model, after, "silence")
        is_last = piece.is_last and found is None
        if is_last or left <= 0:
            return Piece(after, 0, NO_VALUES, NO_EVENTS, NO_EVENTS, is_last, heard=max_steps - left)
        job = after


def _scanned(model: Model, job: Job, max_steps: int) -> tuple[Piece, Hearing, Found | None]:
    """Scan the next piece of a job, up to the first step at which something is found. Returns it with the result.

    It scans few steps first, then more: else each short utterance would scan the whole rest of a chunk.
    """
    utterances = _utterances(job)
    if utterances.settings is None:
        return _cut(model, job, max_steps), utterances.hearing, None
    rules, ahead = _rules(model, utterances.settings, job), min(FIRST_STEPS, max_steps)
    while True:
        piece = _cut(model, job, ahead)
        hearing, used, found = scan(rules, utterances.hearing, _activity(model, piece))
        if found is not None:
            return _cut(model, job, used, is_exact=True), hearing, found
        if piece.is_last or ahead == max_steps:
            return piece, hearing, None
        ahead = min(FURTHER * ahead, max_steps)


def _encoded(model: Model, piece: Piece) -> Job:
    """Return the job after a piece that only the endpointer hears. It hears values by the encoder, so that runs too.

    Raises:
        InputError: the values are out of range.
    """
    job = piece.job
    if job.stream.kind != "values" or not piece.steps:
        return job
    inputs = encoded_inputs(model, "values", [piece], np.array([piece.steps]))
    if inputs.unbounded or not is_bounded(piece.values):
        raise out_of_range(model)
    return job._replace(stream=job.stream._replace(encoder=inputs.encoders[0])) if inputs.encoders else job


def ended(job: Job, trigger: Trigger) -> Job:
    """Make the job that ends an utterance, on a copy of the stream that gets the end of a session."""
    copy = job.stream._replace(utterances=None)
    scores, probabilities, raster = job.scores, job.probabilities, job.raster
    return Job(copy, None, 0, True, 0, scores, probabilities, after=job, trigger=trigger, raster=raster)


def closed(model: Model, job: Job, result: Result | None) -> Job | Outcome:
    """Return the job or the outcome after the end of an utterance.

    Args:
        job: the result of ``ended``.
        result: the utterance's result; None if it was noise.
    """
    assert job.after is not None
    assert job.trigger is not None
    after, utterances = job.after, _utterances(job.after)
    stream, said = after.stream, classified(None, None)
    if result is not None:
        label = label_of(model.manifest, result.probabilities) if result.is_decided else None
        said = classified(label, json_numbers(result.probabilities))
    end = _end(model, after, said, job.trigger)
    hearing = utterances.hearing._replace(is_speech=False, steps=0, run=0, skip=0)
    if utterances.settings is None:  # the next utterance begins with the next input
        stream = stream._replace(encoder=model.initial_encoder)
        if stream.resampler is not None:
            resampler = Resampler.between(stream.resampler.rate_hz, stream.resampler.target_hz)
            stream = stream._replace(resampler=resampler, pending=NO_SAMPLES)
    silence = utterances._replace(hearing=hearing, number=utterances.number + 1, start=utterances.position)
    silence = silence._replace(ends=(*utterances.ends, end)[-KEPT_ENDS:])
    stream = stream._replace(network=model.initial_row, step=0, utterances=silence)
    after = after._replace(stream=stream, scores=None, probabilities=None, heard=(*after.heard, end), raster=job.raster)
    return outcome(model, after._replace(closes=None)) if job.trigger in ("end", "forced") else after


def outcome(model: Model, job: Job) -> Job | Outcome:
    """Return the job that ends the utterance after a chunk's last piece, or the outcome."""
    utterances = _utterances(job)
    if job.closes is not None:
        if utterances.is_speech and utterances.position > utterances.start:
            return ended(job, job.closes)
        job = _nothing_heard(model, job, job.closes)
        utterances = _utterances(job)
    steps = steps_at(model, job.stream, utterances.position)
    scores, probabilities = NO_SAMPLES, NO_SAMPLES
    if utterances.is_speech and job.scores is not None and job.probabilities is not None:
        scores, probabilities = job.scores, job.probabilities
    is_decided_now = len(probabilities) > 0 and is_decided(model.manifest.decision, job.stream.step)
    result = Result(0, scores, probabilities, is_decided_now, None, job.heard, utterances.number, steps, job.raster)
    return Outcome(job.stream, result)


def _utterances(job: Job) -> Utterances:
    assert job.stream.utterances is not None
    return job.stream.utterances


def _with(job: Job, utterances: Utterances) -> Job:
    return job._replace(stream=job.stream._replace(utterances=utterances))


def _rules(model: Model, settings: Endpointing, job: Job) -> Rules:
    return Rules.of(settings, model.manifest.input.step_s, is_sound=job.stream.kind == "audio")


def _activity(model: Model, piece: Piece) -> list[float]:
    """Compute the activity of each step of a piece: the level of sound in dB, or the spikes of other input.

    The step's mean and slope are subtracted: an offset and rumble are no speech, and would hide its gaps.
    """
    if not piece.steps:
        return []
    if piece.job.stream.kind == "audio":
        values = piece.values.astype(np.float64)
        power = np.square(values).mean(1)
        if (count := values.shape[1]) > 2:
            place = np.arange(count) - (count - 1) / 2
            # sums, not matrix products: a row's product may depend on the number of rows
            slope = (values * place).sum(1) / np.square(place).sum()
            power = np.maximum(values.var(1) - np.square(slope) * np.square(place).mean(), 0.0)
        return [10.0 * log10(mean + QUIETEST) for mean in power.tolist()]
    step = piece.step
    if piece.job.stream.kind == "values":
        step = encoded_inputs(model, "values", [piece], np.array([piece.steps])).network[EVENT_ROW]
    counts: list[float] = np.bincount(step, minlength=piece.steps).astype(np.float64).tolist()
    return counts


def _cut(model: Model, job: Job, max_steps: int, *, is_exact: bool = False) -> Piece:
    """Cut the next steps off a job's input, and no more of it than they need.

    Args:
        is_exact: the steps are complete: take only their input, even if the rest of the chunk fills no step.
    """
    if job.chunk is None and job.stream.kind != "audio":
        return Piece(job, 0, NO_VALUES, NO_EVENTS, NO_EVENTS, is_last=True)
    if job.stream.kind != "audio":
        piece = TAKE[job.stream.kind](model, job, max_steps)
        return piece._replace(job=piece.job._replace(taken=job.taken + piece.steps))
    stream, per_step = job.stream, model.encoder.samples_per_step
    pending, samples = stream.pending, NO_SAMPLES
    resampler, taken, total = stream.resampler, job.taken, job.taken
    if isinstance(job.chunk, AudioChunk) and resampler is not None:
        total = len(job.chunk.samples)
        available = len(pending) + resampler.emitted_after(resampler.received + total - taken) - resampler.emitted
        until = total
        if is_exact or available // per_step > max_steps:
            needed = resampler.emitted + max(0, max_steps * per_step - len(pending))
            until = min(total, taken + max(0, resampler.needed_for(needed) - resampler.received))
        if until > taken:
            resampler, samples = resampler.push(job.chunk.samples[taken:until])
            taken = until
    samples = np.concatenate([pending, samples]) if len(pending) else samples
    steps = min(len(samples) // per_step, max_steps)
    stream = stream._replace(resampler=resampler, pending=samples[steps * per_step :].copy())
    is_last = taken == total and len(stream.pending) < per_step
    values = samples[: steps * per_step].reshape(steps, per_step)
    return Piece(job._replace(stream=stream, taken=taken), steps, values, NO_EVENTS, NO_EVENTS, is_last)


def _per_step(model: Model, job: Job, steps: int) -> int:
    """Count the input of ``steps`` steps in the client's units, rounded up."""
    resampler = job.stream.resampler
    if job.stream.kind != "audio" or resampler is None:
        return steps
    return ceil(steps * model.encoder.samples_per_step * resampler.rate_hz / resampler.target_hz)


def _latest(model: Model, job: Job, before: Utterances, taken: Chunk | None) -> Chunk | None:
    """Return the part of the input so far that an utterance may begin with."""
    recent = before.recent
    if taken is not None:
        recent = taken if recent is None else joined_chunks(recent, taken)
    if recent is None or before.settings is None:
        return recent
    rules = _rules(model, before.settings, job)
    delay = job.stream.resampler.longest_delay if job.stream.resampler is not None else 0
    most = _per_step(model, job, rules.onset + rules.preroll + 2) + delay
    length = chunk_length(recent)
    return copied(part_of_chunk(recent, max(0, length - most)))  # a view would keep the whole chunk in memory


def _started(model: Model, job: Job) -> Job:
    """Return the job at the beginning of an utterance; it hears the input again from there on."""
    utterances, resampler = _utterances(job), job.stream.resampler
    settings, recent = utterances.settings, utterances.recent
    assert settings is not None
    assert recent is not None
    rules = _rules(model, settings, job)
    late = 0  # input that was taken and not heard yet
    if resampler is not None:
        waiting = resampler.emitted - len(job.stream.pending)
        late = resampler.received - waiting * resampler.rate_hz // resampler.target_hz
    now = utterances.position - late
    first = max(utterances.start, utterances.position - chunk_length(recent))
    start = max(first, now - _per_step(model, job, rules.onset + rules.preroll))
    onset = max(first, now - _per_step(model, job, rules.onset))
    chunk = part_of_chunk(recent, chunk_length(recent) - (utterances.position - start))
    if job.chunk is not None:
        chunk = joined_chunks(chunk, part_of_chunk(job.chunk, job.taken))
    stream = job.stream
    if resampler is not None:
        resampler = Resampler.between(resampler.rate_hz, resampler.target_hz)
    skip = steps_at(model, stream, max(0, now - start))
    begun = utterances._replace(
        hearing=utterances.hearing._replace(is_speech=True, steps=0, run=0, skip=skip),
        start=start,
        position=start,
        recent=None,
    )
    started: Heard = {
        "type": "SpeechStarted",
        "utterance": utterances.number,
        "at": _seconds(model, stream, onset),
    }
    encoder = model.initial_encoder
    stream = stream._replace(encoder=encoder, resampler=resampler, pending=NO_SAMPLES, utterances=begun)
    return job._replace(stream=stream, chunk=chunk, taken=0, heard=(*job.heard, started))


def _nothing_heard(model: Model, job: Job, trigger: Trigger) -> Job:
    """Return the job after a silence. One of length 0 only answers a client that asked for the end."""
    utterances = _utterances(job)
    end = _end(model, job, classified(None, None), trigger)
    if utterances.position == utterances.start:
        return job if trigger == "end" else job._replace(heard=(*job.heard, end))
    hearing = utterances.hearing._replace(steps=0, run=0)
    after = utterances._replace(hearing=hearing, start=utterances.position, ends=(*utterances.ends, end)[-KEPT_ENDS:])
    return _with(job, after._replace(number=utterances.number + 1))._replace(heard=(*job.heard, end))


def _end(model: Model, job: Job, said: Classified, trigger: Trigger) -> UtteranceEnd:
    utterances, stream = _utterances(job), job.stream
    end = {
        "type": "UtteranceEnd",
        "utterance": utterances.number,
        "start": _seconds(model, stream, utterances.start),
        "end": _seconds(model, stream, utterances.position),
        **said,
        "trigger": trigger,
    }
    return cast(UtteranceEnd, end)


def _seconds(model: Model, stream: StreamState, position: int) -> float:
    resampler = stream.resampler
    seconds = position * model.manifest.input.step_s if resampler is None else position / resampler.rate_hz
    return round(seconds, 9)
