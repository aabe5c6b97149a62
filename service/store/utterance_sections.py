"""Packs the two sections of a session record about utterances: the session's utterances, and recent input.

The first is JSON with exact floats. The second is input in the client's units: float32 samples or rows, or the steps
and then the channels of spikes, int64.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from service.contract.endpointing import Endpointing
from service.engine.endpointer import Hearing
from service.engine.work import InputKind, Utterances
from service.models.model import Model
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, ValuesChunk, chunk_length


def pack_utterances(utterances: Utterances | None) -> tuple[bytes, bytes]:
    """Pack the two sections; both are empty for a stream that is one utterance, and once the session has ended."""
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
    """Unpack the two sections; None if they are empty.

    Raises:
        ValueError, LookupError, TypeError: they are damaged.
    """
    section, content = sections
    if not section:
        return None
    found = json.loads(bytes(section))
    settings, steps = found["settings"], found["recent_steps"]
    return Utterances(
        None if settings is None else Endpointing(**settings),
        Hearing(*found["hearing"]),
        found["number"],
        found["start"],
        found["position"],
        None if steps is None else _recent(content, model, kind, rate_hz, steps),
        tuple(found["ends"]),
    )


def _recent(content: memoryview, model: Model, kind: InputKind, rate_hz: int, steps: int) -> Chunk:
    if kind == "audio":
        return AudioChunk(np.frombuffer(content, "<f4").astype(np.float32), rate_hz)
    if kind == "values":
        return ValuesChunk(np.frombuffer(content, "<f4").astype(np.float32).reshape(steps, model.row_values))
    step, unit = np.frombuffer(content, "<i8").astype(np.int64).reshape(2, -1)
    return SpikeChunk(steps, step, unit)
