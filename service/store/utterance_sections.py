"""The two sections of a session record that a session with utterances has: where it is among them, and recent input.

The first is JSON (``_Section``), whose floats are exact; the second is the input, as the client counts it: float32
samples or rows, or the step and then the channel of each spike, int64.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hetsyn_client.results import UtteranceEnd
from service.contract.endpointing import Endpointing
from service.engine.endpointer import Hearing
from service.engine.stream import InputKind, StreamState, Utterances
from service.engine.utterances import KEPT_ENDS
from service.errors import StateMismatch
from service.models.model import Model
from service.runtime.states import LARGEST_VALUE, is_bounded
from service.session.session import LARGEST_COUNT
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, ValuesChunk, chunk_length

LONGEST_WAIT_S = 4  # length of the samples in a resampler; it needs three seconds at the oddest rates
_WRONG = "the session record's utterances are not those of a session"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    settings: Endpointing | None
    hearing: tuple[bool, int, int, int, float, float, bool, float, float, float, int]
    number: int = Field(ge=0, le=LARGEST_COUNT)
    start: int = Field(ge=0, le=LARGEST_COUNT)
    position: int = Field(ge=0, le=LARGEST_COUNT)
    recent_steps: int | None = Field(ge=0, le=LARGEST_COUNT)
    ends: list[UtteranceEnd] = Field(max_length=KEPT_ENDS)


_SECTION = TypeAdapter(_Section)


def has_utterances(stream: StreamState | None, reply: bytes) -> bool:
    """Whether a session has utterances.

    Args:
        stream: of the session; None once it has ended, when the reply alone tells.
        reply: its last.
    """
    if stream is not None:
        return stream.utterances is not None
    return b',"utterance":' in reply  # a string would have backslashes among these bytes


def pack_utterances(utterances: Utterances | None) -> tuple[bytes, bytes]:
    """The two sections; empty once the session has ended."""
    if utterances is None:
        return b"", b""
    recent = utterances.recent
    section = {
        "settings": None if utterances.settings is None else utterances.settings.model_dump(),
        "hearing": utterances.hearing,
        "number": utterances.number,
        "start": utterances.start,
        "position": utterances.position,
        "recent_steps": None if recent is None else chunk_length(recent),
        "ends": utterances.ends,
    }
    content = b""
    if isinstance(recent, AudioChunk):
        content = recent.samples.astype("<f4", copy=False).tobytes()
    elif isinstance(recent, ValuesChunk):
        content = recent.values.astype("<f4", copy=False).tobytes()
    elif recent is not None:
        content = recent.step.astype("<i8", copy=False).tobytes() + recent.unit.astype("<i8", copy=False).tobytes()
    return json.dumps(section, separators=(",", ":")).encode(), content


def read_utterances(sections: Sequence[memoryview], model: Model, kind: InputKind, rate_hz: int) -> Utterances | None:
    """Unpack the two sections; None where the session has none.

    Args:
        sections: both, or none.
        model: of the session.
        kind: of the session's input.
        rate_hz: of its sound.

    Raises:
        StateMismatch: no session can have come there.
    """
    if not sections:
        return None
    section, recent = sections
    manifest = model.manifest
    try:
        read = _SECTION.validate_json(bytes(section))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise StateMismatch(f"{_WRONG} ({first['msg']})") from error
    hearing = Hearing(*read.hearing)
    counts = (hearing.steps, hearing.run, hearing.skip, hearing.low_steps)
    is_counted = min(counts) >= 0 and max(counts) <= LARGEST_COUNT and read.start <= read.position
    levels = (hearing.activity, hearing.background, hearing.peak, hearing.low, hearing.last_low)
    if not is_counted or max(map(abs, levels)) >= LARGEST_VALUE:  # whose differences are floats too
        raise StateMismatch(_WRONG)
    for end in read.ends:
        probabilities, label = end["probabilities"], end["label"]
        if (label is not None and label not in manifest.labels) or (
            probabilities is not None and len(probabilities) != manifest.outputs
        ):
            raise StateMismatch(f"{_WRONG} of its model")
    chunk = _read_recent(recent, model, kind, rate_hz, read.recent_steps)
    if chunk is not None and (read.settings is None or hearing.is_speech or chunk_length(chunk) > read.position):
        raise StateMismatch(_WRONG)
    return Utterances(
        read.settings, hearing, read.number, read.start, read.position, chunk, tuple(read.ends)
    )  # fmt: skip


def _read_recent(content: memoryview, model: Model, kind: InputKind, rate_hz: int, length: int | None) -> Chunk | None:
    if length is None:
        if content:
            raise StateMismatch(f"{_WRONG}: there is input that belongs to none")
        return None
    if kind == "audio":
        samples = np.frombuffer(content, "<f4").astype(np.float32) if len(content) == 4 * length else None
        if samples is not None and is_bounded(samples):
            return AudioChunk(samples, rate_hz)
    elif kind == "values":
        channels = model.row_values
        values = np.frombuffer(content, "<f4").astype(np.float32) if len(content) == 4 * length * channels else None
        if values is not None and is_bounded(values):
            return ValuesChunk(values.reshape(length, channels))
    elif len(content) % 16 == 0:
        step, unit = np.frombuffer(content, "<i8").astype(np.int64).reshape(2, -1)
        order = step * model.manifest.input.channels + unit
        is_inside = not len(step) or (
            step[0] >= 0 and step[-1] < length and unit.min() >= 0 and unit.max() < model.manifest.input.channels
        )
        if is_inside and (np.diff(order) > 0).all():
            return SpikeChunk(length, step, unit)
    raise StateMismatch(f"{_WRONG}: the recent input is not input of its model")
