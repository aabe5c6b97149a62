"""A session as bytes and back. Stores keep these records, and ``/sessions/{id}/state`` exports and imports them.

    offset  size  little endian
    0       4     magic "HSST"
    4       2     format version
    6       1     status: 0 open, 1 ended, 2 dropped
    7       1     flags: 1 float16 network, 2 audio, 4 spikes, 8 resampler
    8       8     bytes of the whole record
    16      32    model hash: SHA-256 of the manifest's content
    48      8+8   created, last used: float64, seconds since 1970
    64      8+8   expected seq, total steps: uint64
    80      4+4   resampler: rate and target rate, Hz
    88      8+8   resampler: samples received and emitted
    104     4*8   bytes of each section
    136           sections: session id; model, version and form (by line); digest and reply (JSON) of the last
                  chunk; state of the network (its row of float32, then its steps, int64) and of the encoder, tensor
                  after tensor, both in the manifest's order; samples (float32) waiting in the resampler, for a step
    end-32  32    SHA-256 of everything before it

With float16 the network's row takes half the room. The decision's scores at the end of the row, one word or two, stay
float32, because they add up over the session. If a value is too large for float16, the whole row stays float32. No
other module knows the layout of a record.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service.contract.manifest import FormName, TensorDescription, content_hash
from service.engine.resampler import Resampler
from service.engine.stream import InputKind, StreamState
from service.errors import ModelChanged, StateCorrupt, StateForeign, StateFormat, StateMismatch, StateTruncated
from service.models.model import Arrays, Model
from service.runtime.onnx import Array
from service.session.protocol import Answered, Known, Progress
from service.session.session import Session
from service.wire.pcm import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, Samples
from service.wire.schema import Reply

MEDIA_TYPE = "application/vnd.hetsyn.session"
MAGIC = b"HSST"
FORMAT_VERSION = 1
CHECKSUM_BYTES = 32
LONGEST_WAIT_S = 4  # length of the samples in a resampler; it needs three seconds at the oddest rates

OPEN, ENDED, DROPPED = 0, 1, 2
FLOAT16, AUDIO, SPIKES, RESAMPLER = 1, 2, 4, 8

_HEAD = struct.Struct("<4sHBBQ32sddQQIIQQ8I")
_START = struct.Struct("<4sH2xQ")
_STEPS = struct.Struct("<q")
_DTYPES = {"float32": "<f4", "float64": "<f8", "int64": "<i8"}


@dataclass(frozen=True)
class Record:
    """A session record whose bytes are intact. ``Packing.unpack`` checks their meaning.

    Attributes:
        content: the whole record.
        session: the session's id.
        model: name of the session's model.
        version: of the model.
        form: of the model.
        model_hash: SHA-256 of the manifest's content.
        sections: the eight sections, views of ``content``.
    """

    content: bytes
    session: str
    model: str
    version: str
    form: str
    model_hash: bytes
    sections: tuple[memoryview, ...]


@dataclass(frozen=True)
class _Layout:
    """How a record lays out the state of a model's form.

    Attributes:
        model_hash: SHA-256 of the manifest's content.
        names: model, version and form, as a record has them.
        words: float32 values of the network's row.
        exact: values at the end of the row that are never rounded.
        encoder: the encoder's state tensors, in order.
    """

    model_hash: bytes
    names: bytes
    words: int
    exact: int
    encoder: tuple[TensorDescription, ...]


class Packing:
    """Packs sessions as records and unpacks records.

    Args:
        float16: pack the network's state as float16; unpacking takes both.
    """

    def __init__(self, *, float16: bool = False) -> None:
        self.float16 = float16
        self._layouts: WeakKeyDictionary[Model, dict[str, _Layout]] = WeakKeyDictionary()

    def pack(self, session_id: str, session: Session) -> bytes:
        """The content of a session's record.

        Raises:
            ValueError: no chunk of the session was applied yet.
        """
        layout = self._layout(session.model, session.form)
        known, stream, last = session.known, session.stream, session.known.progress.last
        if last is None:
            raise ValueError(f"session {session_id!r} has no chunk yet")
        flags, rate_hz, target_hz, received, emitted = 0, 0, 0, 0, 0
        network = encoder = waiting = pending = b""
        if stream is not None:
            row = session.model.states(session.form).to_host(stream.network)
            network, is_float16 = self._packed_network(layout, row, stream.step)
            encoder = b"".join([_little(stream.encoder[t.name], _DTYPES[t.dtype]) for t in layout.encoder])
            pending = _little(stream.pending, "<f4")
            flags = (FLOAT16 if is_float16 else 0) | (AUDIO if stream.kind == "audio" else SPIKES)
            if stream.resampler is not None:
                flags |= RESAMPLER
                resampler = stream.resampler
                rate_hz, target_hz = resampler.rate_hz, resampler.target_hz
                received, emitted = resampler.received, resampler.emitted
                waiting = _little(resampler.waiting, "<f4")
        progress = known.progress
        sections = (
            session_id.encode(), layout.names, last.digest, last.reply.to_json(), network, encoder, waiting, pending,
        )  # fmt: skip
        sizes = [len(section) for section in sections]
        head = _HEAD.pack(
            MAGIC, FORMAT_VERSION,
            ENDED if progress.ended else DROPPED if stream is None else OPEN, flags,
            _HEAD.size + sum(sizes) + CHECKSUM_BYTES, layout.model_hash, known.created_s, known.used_s,
            progress.expected_seq, progress.total_steps, rate_hz, target_hz, received, emitted, *sizes,
        )  # fmt: skip
        content = b"".join((head, *sections))
        return content + hashlib.sha256(content).digest()

    def model_hash(self, session: Session) -> bytes:
        """SHA-256 of the content of the manifest of the session's model."""
        return self._layout(session.model, session.form).model_hash

    def unpack(self, record: Record, model: Model) -> Session:
        """Unpack a session.

        Args:
            record: of the session.
            model: that the record names.

        Raises:
            ModelChanged: the model has other content than when the session began.
            StateMismatch: the record is not a session of the model.
        """
        if record.model_hash != self._layout(model, model.manifest.default_form).model_hash:
            raise ModelChanged(
                f"the session began with other files of model {model.name!r} version {model.version!r}: "
                "serve those files as a version of their own, or begin another session, under a new id"
            )
        if record.form not in model.manifest.forms:
            raise StateMismatch(
                f"the session record runs on form {record.form!r}, which model {model.name!r} does not have"
            )
        form: FormName = "bank" if record.form == "bank" else "exact"
        layout = self._layout(model, form)
        head = _HEAD.unpack_from(record.content)
        status, flags = head[2:4]
        created_s, used_s, expected, steps, rate_hz, target_hz, received, emitted = head[6:14]
        digest, reply_json, network, encoder, waiting, pending = record.sections[2:]
        reply = _reply(reply_json)
        if not (math.isfinite(created_s) and math.isfinite(used_s) and created_s >= 0 and used_s >= 0):
            raise StateMismatch("the session record's times are not valid")
        if not (1 <= expected <= 2**53 and steps <= 2**53 and status in (OPEN, ENDED, DROPPED)):
            raise StateMismatch("the session record's progress is not possible")
        if (reply.session, reply.seq, reply.end) != (record.session, expected - 1, status == ENDED):
            raise StateMismatch("the session record's last reply is not that of its last chunk")
        if (reply.model, reply.version, reply.form, reply.total_steps) != (model.name, model.version, form, steps):
            raise StateMismatch("the session record's last reply is not that of its model")
        progress = Progress(expected, steps, status == ENDED, Answered(expected - 1, bytes(digest), reply))
        known = Known(progress, created_s, used_s, dropped=status == DROPPED)
        if status != OPEN:
            if any((network, encoder, waiting, pending)):
                raise StateMismatch("the session record has ended, but still has a state")
            return Session(model, form, known, None)
        if (flags & AUDIO and flags & SPIKES) or not flags & (AUDIO | SPIKES):
            raise StateMismatch("the session record does not name exactly one kind of input")
        kind: InputKind = "audio" if flags & AUDIO else "spikes"
        resampler = None
        if flags & RESAMPLER:
            resampler = Resampler(rate_hz, target_hz, _samples(waiting, "waiting"), received, emitted)
        elif waiting:
            raise StateMismatch("the session record has samples to resample, but no resampler")
        row, network_steps = _network(network, layout, is_float16=bool(flags & FLOAT16))
        stream = StreamState(
            model.states(form).from_host(row),
            network_steps,
            _encoder(encoder, layout.encoder),
            kind,
            resampler,
            _samples(pending, "pending"),
        )
        _check_audio(model, stream)
        return Session(model, form, known, stream)

    def as_stored(self, record: bytes, session: Session) -> Session:
        """The session as a replica loads it from the record: rounded if float16, so that all continue from the same."""
        return self.unpack(read(record), session.model) if self.float16 and session.stream else session

    def _layout(self, model: Model, form: FormName) -> _Layout:
        layouts = self._layouts.setdefault(model, {})
        layout = layouts.get(form)
        if layout is None:
            manifest = model.manifest
            layout = layouts[form] = _Layout(
                model_hash(model),
                "\n".join((model.name, model.version, form)).encode(),
                manifest.forms[form].words,
                manifest.forms[form].score_words,
                manifest.encoder.state if manifest.encoder else (),
            )
        return layout

    def _packed_network(self, layout: _Layout, row: NDArray[np.float32], steps: int) -> tuple[bytes, bool]:
        """The packed state of the network, and whether it is float16."""
        packed_steps = _STEPS.pack(steps)
        if self.float16:
            split = layout.words - layout.exact
            with np.errstate(over="ignore"):
                rounded = row[:split].astype("<f2")
            if np.isfinite(rounded).all():
                return b"".join((rounded.tobytes(), _little(row[split:], "<f4"), packed_steps)), True
        return _little(row, "<f4") + packed_steps, False


def model_hash(model: Model) -> bytes:
    """SHA-256 of the content of a model's manifest."""
    return content_hash(model.manifest)


def read(content: bytes, session_id: str | None = None) -> Record:
    """Check that the bytes of a record are intact.

    Args:
        content: the bytes.
        session_id: the session that the record must be of; None takes any.

    Raises:
        StateForeign: the bytes do not begin like a record.
        StateFormat: the record has an older or a newer format.
        StateTruncated: the record is cut off.
        StateCorrupt: the record is too long, or its checksum does not match.
        StateMismatch: the record is intact, but malformed or of another session.
    """
    if content[:4] != MAGIC[: len(content)]:
        raise StateForeign("these bytes are not a session record of hetsyn: they begin with something else")
    if len(content) < _START.size:
        raise StateTruncated(f"the session record is cut off after {len(content)} bytes")
    _, version, total = _START.unpack_from(content)
    if version != FORMAT_VERSION:
        relation = "an older" if version < FORMAT_VERSION else "a newer"
        raise StateFormat(
            f"the session record has {relation} format, {version}, but this server reads {FORMAT_VERSION}: "
            "finish the session on a server of its own version, or begin another"
        )
    if len(content) < max(total, _HEAD.size + CHECKSUM_BYTES):
        raise StateTruncated(f"the session record is cut off: it has {len(content)} bytes of {total}")
    if len(content) > total:
        raise StateCorrupt(f"the session record has {len(content)} bytes, but declares {total}")
    if hashlib.sha256(memoryview(content)[:-CHECKSUM_BYTES]).digest() != content[-CHECKSUM_BYTES:]:
        raise StateCorrupt("the session record is damaged: its checksum does not match its content")
    head = _HEAD.unpack_from(content)
    sizes = head[14:]
    if _HEAD.size + sum(sizes) + CHECKSUM_BYTES != total:
        raise StateMismatch("the session record's sections do not add up to its size")
    view, offset, sections = memoryview(content), _HEAD.size, []
    for size in sizes:
        sections.append(view[offset : offset + size])
        offset += size
    try:
        session, names = str(sections[0], "utf-8"), str(sections[1], "utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise StateMismatch(f"the session record's names are not text ({error})") from error
    if len(names) != 3:
        raise StateMismatch("the session record does not name its model, version and form")
    model, version, form = names
    if session_id is not None and session != session_id:
        raise StateMismatch(f"the session record belongs to {session!r}, not {session_id!r}")
    return Record(content, session, model, version, form, head[5], tuple(sections))


def renamed(session: Session, session_id: str) -> Session:
    """The session under another id, which its last reply names too."""
    progress = session.known.progress
    if progress.last is None or progress.last.reply.session == session_id:
        return session
    reply = progress.last.reply.model_copy(update={"session": session_id})
    last = progress.last._replace(reply=reply)
    return session._replace(known=session.known._replace(progress=progress._replace(last=last)))


def _little(value: Array, dtype: str) -> bytes:
    return value.astype(dtype, copy=False).tobytes()


def _network(content: memoryview, layout: _Layout, *, is_float16: bool) -> tuple[NDArray[np.float32], int]:
    """Unpack the state of the network: its row, float32 [words], and the steps that it has done.

    Raises:
        StateMismatch: the size is not the manifest's, a number is not finite, or the steps are no count.
    """
    split = layout.words - layout.exact if is_float16 else 0
    expected = 2 * split + 4 * (layout.words - split) + _STEPS.size
    if len(content) != expected:
        raise StateMismatch(f"the session record has {len(content)} bytes of state, its model has {expected}")
    row = np.empty(layout.words, np.float32)
    row[:split] = np.frombuffer(content, "<f2", split)
    row[split:] = np.frombuffer(content, "<f4", layout.words - split, 2 * split)
    if not np.isfinite(row).all():
        raise StateMismatch("the network's state in the session record has numbers that are not finite")
    (steps,) = _STEPS.unpack_from(content, expected - _STEPS.size)
    if not 0 <= steps <= 2**53:
        raise StateMismatch("the network's steps in the session record are not a valid count")
    return row, steps


def _encoder(content: memoryview, tensors: Sequence[TensorDescription]) -> Arrays:
    """Unpack the state of the encoder, by name.

    Raises:
        StateMismatch: the size is not the manifest's, or a number is not finite.
    """
    expected = sum(tensor.bytes for tensor in tensors)
    if len(content) != expected:
        raise StateMismatch(f"the session record has {len(content)} bytes of encoder state, its model has {expected}")
    state: Arrays = {}
    offset = 0
    for tensor in tensors:
        packed = np.frombuffer(content, _DTYPES[tensor.dtype], math.prod(tensor.shape), offset)
        offset += tensor.bytes
        if not np.isfinite(packed).all():
            raise StateMismatch(f"{tensor.name} of the session record has numbers that are not finite")
        state[tensor.name] = packed.reshape(tensor.shape).astype(tensor.dtype)  # a copy in aligned memory
    return state


def _samples(content: memoryview, name: str) -> Samples:
    if len(content) % 4:
        raise StateMismatch(f"the session record's {name} samples are cut off")
    samples: Samples = np.frombuffer(content, "<f4").astype(np.float32)
    if not np.isfinite(samples).all():
        raise StateMismatch(f"the session record's {name} samples are not finite")
    return samples


def _check_audio(model: Model, stream: StreamState) -> None:
    """Check the samples of a stream that wait to be resampled or encoded.

    Raises:
        StateMismatch: the model cannot have them.
    """
    resampler, encoder = stream.resampler, model.manifest.encoder
    if stream.kind == "spikes":
        if resampler is not None or len(stream.pending):
            raise StateMismatch("the session record takes spikes, but has sound that waits")
        return
    if encoder is None or resampler is None:
        raise StateMismatch("the session record takes sound, but it has no resampler, or its model has no encoder")
    rate_hz = resampler.rate_hz
    if not (
        LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ
        and resampler.target_hz == encoder.sample_rate_hz
        and resampler.received <= 2**53
        and resampler.emitted * rate_hz <= resampler.received * resampler.target_hz + rate_hz
        and len(resampler.waiting) <= LONGEST_WAIT_S * rate_hz
        and len(stream.pending) < encoder.samples_per_step
    ):
        raise StateMismatch("the session record's waiting sound does not fit its model")


def _reply(content: memoryview) -> Reply:
    try:
        reply = Reply.model_validate_json(bytes(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise StateMismatch(f"the session record's last reply is not valid ({first['msg']})") from error
    if not all(map(math.isfinite, chain(reply.probabilities or (), *(reply.readout or ())))):
        raise StateMismatch("the session record's last reply has numbers that are not finite")  # JSON has none
    return reply
