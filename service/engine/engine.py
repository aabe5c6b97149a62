"""Runs batches: chunks of several streams of one model, states in, new states and results out.

    audio chunk -> resampler -> whole steps ┐
    values chunk ----------------> whole steps┴-> encoder graph -> events ┐
    spike chunk ---------------------------------------------------> events┴-> network graph -> result

Without an encoder graph, the network takes the steps of audio or values directly, and spikes become values.

A chunk is computed in segments: ``take`` cuts the next steps out of each job of a batch, ``compute`` runs the network
on them. Pure: no state is changed in place, so a failed batch leaves all its streams unchanged. Every state and answer
is checked to be in range. One that is not becomes the error of its own chunk; the others keep their results. Index
letters: b stream, t step, k channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from math import ceil
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, cast

import numpy as np

from hetsyn_client.events import Integers
from service.contract.decision import are_distributions, is_decided, is_distribution, labels_of
from service.contract.graph_io import NEXT_STEP, PROBABILITIES, READOUT, SCORES, STEP, STEPS, Float32Array, spikes_name
from service.contract.manifest import Manifest
from service.engine.fault import broken, fault, probabilities_of_row, score_of_row
from service.engine.raster import most_steps, seen
from service.engine.resampler import check_rates
from service.engine.utterances import closed, ended, hear, outcome
from service.engine.work import (
    NO_VALUES,
    TAKE,
    InputKind,
    Inputs,
    Job,
    Outcome,
    Piece,
    Result,
    StreamState,
    Work,
    are_of_spikes,
    begin,
    encoded_inputs,
    kind_of,
    spike_inputs,
    whole_pieces,
)
from service.errors import ArtifactError, HetsynError, InputError, TooLarge
from service.models.model import Model
from service.observe.watch import NOT_RUN
from service.runtime.onnx import Sound
from service.runtime.states import check_like, is_bounded, run_network
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, ValuesChunk

SEGMENT_VALUES = 2**22  # over all streams of a batch: a few bytes of spikes may ask for many rows of zeros
SEGMENT_STEPS = 500  # steps of one call of a graph in ``run``, to bound the memory
KINDS: tuple[InputKind, ...] = ("audio", "values", "spikes")
NOTHING_MORE = Result(0, NO_VALUES, NO_VALUES, False, None)[4:-1]  # of a result that has probabilities alone


class Group(NamedTuple):
    """The streams of a segment that have one kind of input.

    Attributes:
        members: indices of the jobs, each with at least one step.
        steps: int64 [b], steps of each.
        are_whole: each piece is its whole job, in a stream that is one utterance.
    """

    members: Sequence[int]
    steps: Integers
    inputs: Inputs
    are_whole: bool


class Segment(NamedTuple):
    """The next steps of a batch, ready for the network.

    Attributes:
        groups: the streams that have a step to run.
        steps: network steps of all streams.
        events: spikes of all streams.
        heard: further steps that only the endpointer has heard.
    """

    pieces: tuple[Piece, ...]
    groups: tuple[Group, ...]
    steps: int
    events: int
    heard: int = 0


class Engine:
    """Runs batches. It has no state but its bounds; threads may share it."""

    def __init__(self, max_chunk_steps: int, segment_steps: int = SEGMENT_STEPS) -> None:
        self._max_chunk_steps = max_chunk_steps
        self._segment_steps = segment_steps

    def check(self, model: Model, stream: StreamState, chunk: Chunk | None, *, spikes: bool = False) -> None:
        """Check a chunk against its stream; ``run`` relies on it.

        Raises:
            InputError: a channel that the model lacks, another kind or sample rate than the stream's, a sample rate
                that is not taken, or an end without any input.
            TooLarge: more steps than a chunk may have.
            UnsupportedInput: audio or values for a model that does not take them.
        """
        if chunk is None:
            if stream.kind is None:
                raise InputError("the session is empty: send input before you end it, or with end=true")
            return
        kind = kind_of(model, chunk)
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
            if stream.resampler is None:
                check_rates(chunk.rate_hz, encoder.sample_rate_hz)
            samples = len(chunk.samples) * encoder.sample_rate_hz / chunk.rate_hz
            steps = ceil(samples / encoder.samples_per_step)
        else:
            steps = chunk.steps
            if isinstance(chunk, SpikeChunk):
                _check_channels(model, chunk)
            else:
                _check_values(model, chunk)
        if steps > self._max_chunk_steps:
            raise TooLarge(
                f"the chunk has {steps} steps of {model.manifest.input.step_s:g} s, at most {self._max_chunk_steps} "
                "are taken: cut it into several"
            )
        if spikes and steps > most_steps(model):
            raise TooLarge(
                f"the chunk has {steps} steps, at most {most_steps(model)} of model {model.name!r} are taken with "
                "spikes=true: cut it into several, or leave spikes out"
            )

    def takes(self, models: Sequence[Model], streams: Sequence[StreamState], chunks: Sequence[Chunk | None]) -> bool:
        """Check chunks of spikes together. False means that some may be refused: ``check`` tells."""
        if set(map(type, chunks)) != {SpikeChunk} or not are_of_spikes(streams):
            return False
        steps, _, units, channels, _, bounds = zip(*cast("Sequence[SpikeChunk]", chunks), strict=True)
        if {*channels} != {None} or max(steps) > self._max_chunk_steps:
            return False
        bound = int(np.concatenate(units).max(initial=0)) if None in bounds else max(bounds)
        return bool(bound < min(map(_channels_of, {*models})))

    def run(self, model: Model, batch: Sequence[Work]) -> list[Outcome]:
        """Compute the outcome of each chunk, in order. The chunks must have passed ``check``.

        Raises:
            ArtifactError: a graph fails, or its output has a wrong shape or is out of range.
            StateBroken: a stream's state is out of range.
            RuntimeUnavailable: the runtime fails.
        """
        outcomes: dict[int, Outcome] = {}
        jobs = {b: begin(model, work) for b, work in enumerate(batch)}
        while jobs:
            segment = self.take(model, list(jobs.values()), self._segment_steps)
            results = dict(zip(jobs, self.compute(model, segment), strict=True))
            for result in results.values():
                if isinstance(result, HetsynError):
                    raise result
            outcomes |= {b: result for b, result in results.items() if isinstance(result, Outcome)}
            jobs = {b: result for b, result in results.items() if isinstance(result, Job)}
        return [outcomes[b] for b in range(len(batch))]

    def take(self, model: Model, jobs: Sequence[Job], max_steps: int) -> Segment:
        """Cut the next steps, at most ``max_steps``, out of each job, and encode audio and values.

        Its time depends only on the steps.

        Raises:
            ArtifactError: the encoder fails, or its output has a wrong shape.
        """
        if model.row_values:
            max_steps = max(1, min(max_steps, SEGMENT_VALUES // (model.row_values * len(jobs))))
        if jobs[0].raster is not None and model.manifest.hidden:  # then all jobs of the batch have one (``Batcher``)
            max_steps = max(1, min(max_steps, SEGMENT_VALUES // (sum(model.manifest.hidden) * len(jobs))))
        are_spikes = set(map(type, map(_chunk_of, jobs))) == {SpikeChunk}
        if are_spikes and (whole := whole_pieces(jobs, max_steps)) is not None:
            steps_of = list(map(_steps_of, whole))
            steps = np.array(steps_of, np.int64)
            inputs = spike_inputs(whole, steps)
            group = Group(range(len(jobs)), steps, inputs, are_whole=True)
            return Segment(whole, (group,), sum(steps_of), inputs.events)
        pieces: list[Piece] = []
        members_of: dict[InputKind, list[int]] = {kind: [] for kind in KINDS}
        in_parts: set[InputKind] = set()
        for b, job in enumerate(jobs):
            kind, has_utterances = job.stream.kind or "spikes", job.stream.utterances is not None
            piece = hear(model, job, max_steps) if has_utterances else TAKE[kind](model, job, max_steps)
            pieces.append(piece)
            if piece.steps:
                members_of[kind].append(b)
                if has_utterances or job.steps or job.after is not None or not piece.is_last:
                    in_parts.add(kind)
        groups, total_steps, total_events = [], 0, 0
        for kind, members in members_of.items():
            if members:
                chosen = [pieces[b] for b in members]
                steps = np.array([piece.steps for piece in chosen], np.int64)
                is_encoded = kind != "spikes"
                inputs = encoded_inputs(model, kind, chosen, steps) if is_encoded else spike_inputs(chosen, steps)
                groups.append(Group(tuple(members), steps, inputs, kind not in in_parts))
                total_steps += int(steps.sum())
                total_events += inputs.events
        heard = sum([piece.heard for piece in pieces])
        return Segment(tuple(pieces), tuple(groups), total_steps, total_events, heard)

    def compute(self, model: Model, segment: Segment) -> list[Job | Outcome | HetsynError]:
        """Run the network on a segment.

        Returns:
            For each job its outcome if it is done, else the job after the segment. If its state or answer is out of
            range, the error, StateBroken or ArtifactError.

        Raises:
            ArtifactError: a graph fails, or its output has a wrong shape.
            RuntimeUnavailable: the runtime fails.
        """
        if len(segment.groups) == 1 and len(segment.groups[0].members) == len(segment.pieces):
            return self._run_group(model, segment, segment.groups[0])
        results: dict[int, Job | Outcome | HetsynError] = {}
        for group in segment.groups:
            results.update(zip(group.members, self._run_group(model, segment, group), strict=True))
        for b, piece in enumerate(segment.pieces):
            if b not in results:  # no step to run
                results[b] = _after_no_step(model, piece)
        return [results[b] for b in range(len(segment.pieces))]

    def _run_group(self, model: Model, segment: Segment, group: Group) -> list[Job | Outcome | HetsynError]:
        manifest = model.manifest
        pieces = [segment.pieces[b] for b in group.members]
        streams = list(map(_stream_of, pieces))
        has_trace = manifest.decision.rule == "trace"
        names = [NEXT_STEP, SCORES, PROBABILITIES, *([READOUT] if has_trace else [])]
        rasters = list(map(_raster_of, pieces))
        has_raster = rasters.count(None) < len(rasters)
        if has_raster:
            names += map(spikes_name, model.hidden_layers)
        step = np.array(list(map(_step_of, streams)), np.int64)
        rows, outputs, unbounded = run_network(
            model.name,
            model.network,
            list(map(_network_of, streams)),
            {**group.inputs.network, STEPS: group.steps, STEP: step},
            names,
        )
        check_like(model.name, NEXT_STEP, outputs[NEXT_STEP], step)
        scores, probabilities = outputs[SCORES], outputs[PROBABILITIES]
        if not (probabilities.shape == scores.shape == (len(pieces), manifest.outputs)):
            raise ArtifactError(
                f"model {model.name!r} version {model.version!r} gave {probabilities.shape[1:]} "
                f"probabilities and {scores.shape[1:]} scores a stream: export the model again with a matching hetsyn"
            )
        encoders = group.inputs.encoders or list(map(_encoder_of, streams))
        others = [map(itemgetter(index), streams) for index in range(3, 7)]  # members that do not change
        # ten times as fast as ``_replace``
        after = list(map(_stream, zip(rows, outputs[NEXT_STEP].tolist(), encoders, *others, strict=True)))
        is_sound = not group.inputs.unbounded and (
            isinstance(outputs, Sound)
            or (
                not unbounded
                and are_distributions(probabilities)
                and np.array_equal(outputs[NEXT_STEP], step + group.steps)
            )
        )
        if is_sound and not has_trace and not has_raster and group.are_whole:
            return _outcomes(manifest, pieces, after, outputs[NEXT_STEP], scores, probabilities)
        unsound = {*unbounded, *group.inputs.unbounded}
        longest = int(group.steps.max())
        results: list[Job | Outcome | HetsynError] = []
        for b, (piece, stream) in enumerate(zip(pieces, after, strict=True)):
            job = piece.job
            if has_raster and job.raster is not None:
                job = job._replace(raster=seen(model, piece, group.inputs, outputs, b, longest))
            readout = outputs[READOUT][b, : piece.steps] if has_trace else None
            if (
                b in unsound
                or stream.step != streams[b].step + piece.steps
                or not is_distribution(probabilities[b].tolist())
                or (readout is not None and not is_bounded(readout))
            ):
                results.append(fault(model, piece))
            else:
                results.append(_after_steps(model, piece, job, stream, scores[b], probabilities[b], readout))
        return results


_channels_of, _chunk_of = attrgetter("manifest.input.channels"), attrgetter("chunk")
_steps_of, _stream_of, _raster_of = attrgetter("steps"), attrgetter("job.stream"), attrgetter("job.raster")
_step_of, _network_of, _encoder_of = attrgetter("step"), attrgetter("network"), attrgetter("encoder")


_stream: Callable[[Iterable[Any]], StreamState] = partial(tuple.__new__, StreamState)
_result: Callable[[Iterable[Any]], Result] = partial(tuple.__new__, Result)
_outcome: Callable[[Iterable[Any]], Outcome] = partial(tuple.__new__, Outcome)


def _outcomes(
    manifest: Manifest,
    pieces: Sequence[Piece],
    streams: Sequence[StreamState],
    totals: Integers,
    scores: Float32Array,
    probabilities: Float32Array,
) -> list[Job | Outcome | HetsynError]:
    """Make the outcomes of wholly computed jobs together: the results of ``_after_steps``, five times as fast.

    ``streams`` and their steps, ``totals`` [b], are those after the jobs.
    """
    if manifest.rejected_labels or manifest.acceptance_threshold is not None:
        labels = labels_of(manifest, probabilities)
    else:  # what it returns for most models
        labels = np.asarray(probabilities.argmax(axis=1), np.int64)
    are_decided = totals > manifest.decision.skip_steps
    labels[~are_decided] = -1
    parts = (map(_steps_of, pieces), scores, probabilities, are_decided.tolist())
    results = map(_result, zip(*parts, *map(repeat, NOTHING_MORE), labels.tolist(), strict=False))
    return list(map(_outcome, zip(streams, results, repeat(NOT_RUN), strict=False)))


def _after_steps(
    model: Model,
    piece: Piece,
    job: Job,
    stream: StreamState,
    scores: Float32Array,
    probabilities: Float32Array,
    readout: Float32Array | None,
) -> Job | Outcome | HetsynError:
    """Return the job or the outcome after a piece with steps. All arguments from ``stream`` on are those after it."""
    if stream.utterances is not None or job.after is not None:
        done = job._replace(stream=stream, scores=scores.copy(), probabilities=probabilities.copy())
        return _after_piece(model, piece, done)
    steps, readouts = job.steps + piece.steps, job.readouts
    if readout is not None:  # copy, else a chunk that goes on would keep the whole batch in memory
        readouts = (*readouts, readout.copy())
    if piece.is_last:
        whole = None if readout is None else np.concatenate(readouts)
        decided = is_decided(model.manifest.decision, stream.step)
        return Outcome(stream, Result(steps, scores, probabilities, decided, whole, raster=job.raster))
    parts = (steps, scores, probabilities, readouts)
    return Job(stream, job.chunk, job.taken, job.ends, *parts, raster=job.raster)


def _check_channels(model: Model, chunk: SpikeChunk) -> None:
    channels = model.manifest.input.channels
    if chunk.channels is not None and chunk.channels != channels:
        raise InputError(f"the rows have {chunk.channels} values, but model {model.name!r} has {channels} channels")
    if chunk.bound is not None and chunk.bound < channels:
        return
    if len(chunk.unit) and int(np.maximum.reduce(chunk.unit)) >= channels:
        raise InputError(f"unit {int(chunk.unit.max())} is outside model {model.name!r}'s channels 0-{channels - 1}")


def _check_values(model: Model, chunk: ValuesChunk) -> None:
    channels = chunk.values.shape[1]
    if not model.row_values:
        raise model.takes_no("values")
    if channels != model.row_values:
        raise InputError(f"the rows have {channels} values, but model {model.name!r} takes {model.row_values} a step")


def _after_no_step(model: Model, piece: Piece) -> Job | Outcome | HetsynError:
    """Return the job or the outcome after a piece that does not fill a step."""
    job = piece.job
    if job.stream.utterances is not None or job.after is not None:
        return _after_piece(model, piece, job)
    return _outcome_of_state(model, job) if piece.is_last else job


def _after_piece(model: Model, piece: Piece, job: Job) -> Job | Outcome | HetsynError:
    """Return the job or the outcome after a piece of a stream with utterances. ``job`` is the one after the piece."""
    if job.after is None:
        if piece.found == "noise":
            return closed(model, ended(job, "silence"), None)
        if piece.found == "silence" or piece.found == "length":
            return ended(job, piece.found)
        return outcome(model, job) if piece.is_last else job
    if not piece.is_last:
        return job
    last = _outcome_of_state(model, job)
    return closed(model, job, last.result) if isinstance(last, Outcome) else last


def _outcome_of_state(model: Model, job: Job) -> Outcome | HetsynError:
    """Make the outcome of a job without a last step; StateBroken if its state has no answer."""
    decision, outputs = model.manifest.decision, model.manifest.outputs
    scores, probabilities = job.scores, job.probabilities
    if scores is None or probabilities is None:  # the chunk had no step: the state has the score so far
        row = job.stream.network
        scores = score_of_row(model, row)[0].copy()
        probabilities = probabilities_of_row(model, row, job.stream.step)
        if not is_distribution(probabilities.tolist()):
            return broken()
    readout = None
    if decision.rule == "trace":
        readout = np.concatenate([np.zeros((0, outputs), np.float32), *job.readouts])
    decided = is_decided(decision, job.stream.step)
    return Outcome(job.stream, Result(job.steps, scores, probabilities, decided, readout, raster=job.raster))
