"""The sections of a session record, read and checked against the session's model.

A record comes from a store or, sealed, from a client that exported it. A checksum detects damage, not forgery: whoever
can write to the store is trusted.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from hetsyn_client.results import Reply
from service.contract.decision import is_distribution, is_possible_score
from service.contract.manifest import Manifest, TensorDescription
from service.engine.fault import score_of_row
from service.engine.resampler import Resampler
from service.engine.stream import StreamState
from service.engine.utterances import steps_at
from service.errors import StateMismatch
from service.models.model import Arrays, Model
from service.runtime.onnx import Array
from service.runtime.states import LARGEST_VALUE, is_bounded
from service.session.session import LARGEST_COUNT
from service.store.utterance_sections import LONGEST_WAIT_S
from service.wire.pcm import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, Samples

LARGEST_SAMPLE = 100.0  # plus or minus; PCM is within 1, and a resampler may overshoot by a few

STEPS = struct.Struct("<q")
DTYPES = {"float32": "<f4", "float64": "<f8", "int64": "<i8"}
_REPLY = TypeAdapter(Reply)


def little(value: Array, dtype: str) -> bytes:
    """The bytes of an array, little endian."""
    return value.astype(dtype, copy=False).tobytes()


def read_network(content: memoryview, words: int) -> tuple[NDArray[np.float32], int]:
    """Unpack the state of the network.

    Args:
        content: the section.
        words: float32 values of the row.

    Returns:
        The row, float32 [words], and the steps that the network has done.

    Raises:
        StateMismatch: the size is not the manifest's, a number is not finite or too large, or the steps are no count.
    """
    expected = 4 * words + STEPS.size
    if len(content) != expected:
        raise StateMismatch(f"the session record has {len(content)} bytes of state, its model has {expected}")
    row = np.frombuffer(content, "<f4", words).astype(np.float32)  # a copy in aligned memory
    if not is_bounded(row):
        raise StateMismatch(f"the network's state in the session record has numbers that are {_NOT_BOUNDED}")
    (steps,) = STEPS.unpack_from(content, expected - STEPS.size)
    if not 0 <= steps <= LARGEST_COUNT:
        raise StateMismatch("the network's steps in the session record are not a valid count")
    return row, steps


def read_encoder(content: memoryview, tensors: Sequence[TensorDescription]) -> Arrays:
    """Unpack the state of the encoder, by name.

    Raises:
        StateMismatch: the size is not the manifest's, or a number is not finite or too large.
    """
    expected = sum(tensor.bytes for tensor in tensors)
    if len(content) != expected:
        raise StateMismatch(f"the session record has {len(content)} bytes of encoder state, its model has {expected}")
    state: Arrays = {}
    offset = 0
    for tensor in tensors:
        packed = np.frombuffer(content, DTYPES[tensor.dtype], math.prod(tensor.shape), offset)
        offset += tensor.bytes
        if not is_bounded(packed):
            raise StateMismatch(f"{tensor.name} of the session record has numbers that are {_NOT_BOUNDED}")
        state[tensor.name] = packed.reshape(tensor.shape).astype(tensor.dtype)  # a copy in aligned memory
    return state


def read_samples(content: memoryview, name: str) -> Samples:
    """Unpack samples that wait.

    Raises:
        StateMismatch: they are cut off, or none that a resampler gives.
    """
    if len(content) % 4:
        raise StateMismatch(f"the session record's {name} samples are cut off")
    samples: Samples = np.frombuffer(content, "<f4").astype(np.float32)
    if len(samples) and not np.abs(samples).max() <= LARGEST_SAMPLE:
        raise StateMismatch(f"the session record's {name} samples are not finite, or above {LARGEST_SAMPLE:g}")
    return samples


def read_resampler(
    content: memoryview, manifest: Manifest, rate_hz: int, target_hz: int, received: int, emitted: int
) -> Resampler:
    """Unpack the resampler of a session. Its numbers are those of the record's head.

    Raises:
        StateMismatch: no chunk can have led to it.
    """
    encoder = manifest.encoder
    if (
        encoder is None
        or encoder.kind != "audio"
        or target_hz != encoder.sample_rate_hz
        or not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ
    ):
        raise StateMismatch("the session record's sample rates are not those of its model")
    resampler = Resampler.from_record(rate_hz, target_hz, read_samples(content, "waiting"), received, emitted)
    if received > LARGEST_COUNT or not resampler.is_possible:
        raise StateMismatch(_NOT_FITTING)
    return resampler


def check_stream(model: Model, row: NDArray[np.float32], stream: StreamState, total_steps: int) -> None:
    """Check that a stream can have come from a session's chunks.

    Args:
        model: of the session.
        row: the network's state, [words].
        stream: of the session.
        total_steps: of the session's chunks.

    Raises:
        StateMismatch: it cannot.
    """
    resampler, encoder, utterances = stream.resampler, model.manifest.encoder, stream.utterances
    if utterances is None and stream.step != total_steps:
        raise StateMismatch(f"the session record's network has done {stream.step} steps, its session {total_steps}")
    if not is_possible_score(
        model.manifest.decision, *score_of_row(model, row), stream.step, counts_spikes=bool(model.manifest.hidden)
    ):
        raise StateMismatch("the session record's steps cannot have led to its score")
    if utterances is not None:
        ahead = steps_at(model, stream, utterances.position) - total_steps  # as sound that the resampler holds back
        if not 0 <= ahead <= math.ceil(LONGEST_WAIT_S / model.manifest.input.step_s):
            raise StateMismatch("the session record's utterances are not where its steps are")
    if stream.kind != "audio":
        if resampler is not None or len(stream.pending):
            raise StateMismatch(f"the session record takes {stream.kind}, but has sound that waits")
        if model.takes_values_only if stream.kind == "spikes" else not model.row_values:
            raise StateMismatch(f"the session record takes {stream.kind}, which its model does not")
        return
    has_no_sound = resampler is None and not total_steps and not len(stream.pending)  # only the header of a file came
    if encoder is None or encoder.kind != "audio" or (resampler is None and not has_no_sound):
        raise StateMismatch("the session record takes sound, but it has no resampler, or its model has no encoder")
    if resampler is None:
        return
    if not (
        len(stream.pending) < encoder.samples_per_step
        # while nobody speaks, the network has not heard what was resampled
        and (
            resampler.emitted == stream.step * encoder.samples_per_step + len(stream.pending)
            or (utterances is not None and not utterances.is_speech and resampler.emitted >= len(stream.pending))
        )
    ):
        raise StateMismatch(_NOT_FITTING)


def read_reply(content: memoryview, manifest: Manifest, max_steps: int, *, has_utterances: bool) -> Reply:
    """Parse the last reply, and check it against the session's model.

    Args:
        content: the section.
        manifest: of the session's model.
        max_steps: the most that the reply can be to.
        has_utterances: the session has them.

    Raises:
        StateMismatch: no such reply came from the model.
    """
    try:
        reply = _REPLY.validate_json(bytes(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise StateMismatch(f"the session record's last reply is not valid ({first['msg']})") from error
    label, probabilities, readout = reply["label"], reply["probabilities"], reply.get("readout")
    if not 0 <= reply["steps"] <= max_steps:
        raise StateMismatch(f"the session record's last reply is to {reply['steps']} steps, at most {max_steps} can be")
    if tuple(reply["labels"]) != manifest.labels or (label is not None and label not in manifest.labels):
        raise StateMismatch("the session record's last reply has other labels than its model")
    is_trace = manifest.decision.rule == "trace"
    if ("utterance" in reply, "events" in reply) != (has_utterances, has_utterances):
        raise StateMismatch("the session record's last reply and its session do not both have utterances")
    may_be_unheard = has_utterances and not is_trace
    if (readout is not None) != is_trace or (probabilities is None and not may_be_unheard) != is_trace:
        raise StateMismatch("the session record's last reply does not follow its model's rule")
    if probabilities is not None and not (len(probabilities) == manifest.outputs and is_distribution(probabilities)):
        raise StateMismatch("the session record's last reply has no class probabilities of its model")
    if readout is not None:
        if len(readout) != reply["steps"] or any(len(row) != manifest.outputs for row in readout):
            raise StateMismatch("the session record's last reply has a readout of another size than its steps")
        if not all(abs(value) < LARGEST_VALUE for value in chain.from_iterable(readout)):
            raise StateMismatch(f"the session record's last readout has numbers that are {_NOT_BOUNDED}")
    return reply


_NOT_FITTING = "the session record's waiting sound does not fit its model"
_NOT_BOUNDED = f"not finite, or not below {LARGEST_VALUE:g}"
