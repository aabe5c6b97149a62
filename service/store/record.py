"""Packs sessions as records and back. Stores keep records, and tokens seal them (``carried.token``).

    offset  size  little endian
    0       4     magic "HSST"
    4       2     format version: 4
    6       1     status: 0 open, 1 ended
    7       1     flags: 2 audio, 4 spikes, 8 resampler, 16 values, 32 plain reply
    8       32    model hash: SHA-256 of the manifest's content
    40      8+8   created, last used: float64, seconds since 1970
    56      8+8   expected seq, total steps: uint64
    72      4+4   resampler: rate and target rate, Hz
    80      8+8   resampler: samples received and emitted
    96      4*10  bytes of each section
    136           sections: session id; model and version, a line each; digest of the last chunk; its reply, JSON, or,
                  if plain, steps and label, int64, and probabilities, float32; state of the network: float32, then
                  its steps, int64; state of the encoder; samples that wait in the resampler, float32; samples that
                  wait for a whole step, float32; utterances; recent input (``utterance_sections`` has the last two).
                  A state is tensor after tensor, as in the manifest
    end-16  16    XXH3, 128 bits, of everything before it

No other module knows the layout of a record. A record comes from a store, or from a client under our seal. Its checksum
reveals damage, and whoever writes to the store is trusted: an intact record of the same model needs no other check.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import xxhash
from pydantic_core import from_json, to_json

from service.contract.manifest import TensorDescription, content_hash
from service.engine.resampler import Resampler
from service.engine.work import InputKind, StreamState
from service.errors import ModelChanged, StateCorrupt, StateFormat, StateMismatch
from service.keys.ids import client_id
from service.models.model import Arrays, Model
from service.runtime.onnx import Array
from service.session.protocol import Answered, Known, Progress
from service.session.session import Kept, PlainReply, Session
from service.store.utterance_sections import pack_utterances, read_utterances
from service.wire.chunk import Samples

MEDIA_TYPE = "application/vnd.hetsyn.session"
MAGIC = b"HSST"
FORMAT_VERSION = 4
CHECKSUM_BYTES = 16

OPEN, ENDED = 0, 1
AUDIO, SPIKES, RESAMPLER, VALUES, PLAIN = 2, 4, 8, 16, 32
_FLAG_OF_KIND: Mapping[InputKind | None, int] = {"audio": AUDIO, "spikes": SPIKES, "values": VALUES}
_KIND_OF_FLAG: Mapping[int, InputKind] = {AUDIO: "audio", SPIKES: "spikes", VALUES: "values"}

_HEAD = struct.Struct("<4sHBB32sddQQIIQQ10I")
_START = struct.Struct("<4sH")
_STEPS = struct.Struct("<q")
_PLAIN = struct.Struct("<2q")
_DTYPES = {"float32": "<f4", "float64": "<f8", "int64": "<i8"}


@dataclass(frozen=True)
class Record:
    """A session record with intact bytes.

    Attributes:
        model_hash: SHA-256 of the manifest's content.
        sections: the sections, views of ``content``.
    """

    content: bytes
    session: str
    model: str
    version: str
    model_hash: bytes
    sections: tuple[memoryview, ...]


@dataclass(frozen=True)
class _Layout:
    """The layout of a model's state in a record.

    Attributes:
        names: model and version, as in a record.
        words: float32 values of the network's row.
        encoder: the encoder's state tensors, in order.
    """

    model_hash: bytes
    names: bytes
    words: int
    encoder: tuple[TensorDescription, ...]


class Packing:
    """Packs sessions as records and unpacks records."""

    def __init__(self) -> None:
        self._layouts: WeakKeyDictionary[Model, _Layout] = WeakKeyDictionary()

    def pack(self, session_id: str, session: Session) -> bytes:
        """Pack a session as a record.

        Raises:
            ValueError: no chunk of the session was applied yet.
        """
        layout = self._layout(session.model)
        known, stream, last = session.known, session.stream, session.known.progress.last
        if last is None:
            raise ValueError(f"session {session_id!r} has no chunk yet")
        flags, rate_hz, target_hz, received, emitted = 0, 0, 0, 0, 0
        network = encoder = waiting = pending = b""
        if stream is not None:
            network = _little(stream.network, "<f4") + _STEPS.pack(stream.step)
            encoder = b"".join([_little(stream.encoder[t.name], _DTYPES[t.dtype]) for t in layout.encoder])
            pending = _little(stream.pending, "<f4")
            flags = _FLAG_OF_KIND[stream.kind]
            if stream.resampler is not None:
                flags |= RESAMPLER
                resampler = stream.resampler
                rate_hz, target_hz = resampler.rate_hz, resampler.target_hz
                received, emitted = resampler.received, resampler.emitted
                waiting = _little(resampler.with_silence(), "<f4")
        progress, reply = known.progress, last.reply
        if isinstance(reply, PlainReply):
            flags |= PLAIN
            reply = _PLAIN.pack(reply.steps, reply.label) + reply.probabilities
        sections = (
            session_id.encode(), layout.names, last.digest, reply, network, encoder, waiting, pending,
            *pack_utterances(None if stream is None else stream.utterances),
        )  # fmt: skip
        head = _HEAD.pack(
            MAGIC, FORMAT_VERSION, ENDED if progress.ended else OPEN, flags, layout.model_hash, known.created_s,
            known.used_s, progress.expected_seq, progress.total_steps, rate_hz, target_hz, received, emitted,
            *map(len, sections),
        )  # fmt: skip
        content = b"".join((head, *sections))
        return content + checksum(content)

    def model_hash(self, session: Session) -> bytes:
        return self._layout(session.model).model_hash

    def unpack(self, record: Record, model: Model) -> Session:
        """Unpack a session of the model that the record names.

        Raises:
            ModelChanged: the model's content has changed since the session began.
            StateMismatch: the record is not a session of the model.
        """
        layout = self._layout(model)
        if record.model_hash != layout.model_hash:
            raise ModelChanged(
                f"the session began with other files of model {model.name!r} version {model.version!r}: "
                "serve those files as a version of their own, or begin another session, under a new id"
            )
        try:
            return _session(record, model, layout)
        except (ValueError, LookupError, TypeError, ArithmeticError) as error:
            raise StateMismatch(
                f"the session record does not fit its model ({error}): begin another session"
            ) from error

    def _layout(self, model: Model) -> _Layout:
        layout = self._layouts.get(model)
        if layout is None:
            manifest = model.manifest
            layout = self._layouts[model] = _Layout(
                model_hash(model),
                f"{model.name}\n{model.version}".encode(),
                manifest.network.words,
                manifest.encoder.state if manifest.encoder else (),
            )
        return layout


def checksum(content: bytes | memoryview) -> bytes:
    """Compute the checksum that follows a record. It reveals damage; SHA-256 would take fifty times as long."""
    return xxhash.xxh3_128_digest(content)


def model_hash(model: Model) -> bytes:
    """Return the SHA-256 of a manifest's content."""
    return content_hash(model.manifest)


def _session(record: Record, model: Model, layout: _Layout) -> Session:
    """Unpack the session of a record.

    Raises:
        ValueError, LookupError, TypeError, ArithmeticError: the record is not the model's.
    """
    head = _HEAD.unpack_from(record.content)
    status, flags = head[2:4]
    created_s, used_s, expected, steps, rate_hz, target_hz, received, emitted = head[5:13]
    digest, reply, network, encoder, waiting, pending = record.sections[2:8]
    kept: Kept = bytes(reply)
    if flags & PLAIN:
        plain_steps, label = np.frombuffer(reply, "<i8", 2).tolist()
        kept = PlainReply(plain_steps, label, bytes(reply[_PLAIN.size :]))
    progress = Progress(expected, steps, status == ENDED, Answered(expected - 1, bytes(digest), kept))
    known = Known(progress, created_s, used_s)
    if status == ENDED:
        return Session(model, known, None)
    kind = _KIND_OF_FLAG[flags & (AUDIO | SPIKES | VALUES)]
    if len(network) != 4 * layout.words + _STEPS.size:
        raise ValueError(f"{len(network)} bytes of state")
    row = np.frombuffer(network, "<f4", layout.words).astype(np.float32)  # a copy in aligned memory
    (network_steps,) = _STEPS.unpack_from(network, 4 * layout.words)
    resampler = None
    if flags & RESAMPLER:
        resampler = Resampler.from_record(rate_hz, target_hz, _samples(waiting), received, emitted)
    utterances = read_utterances(record.sections[8:], model, kind, rate_hz)
    stream = StreamState(
        row, network_steps, _encoder(encoder, layout.encoder), kind, resampler, _samples(pending), utterances
    )
    return Session(model, known, stream)


def _little(value: Array, dtype: str) -> bytes:
    """Return the bytes of an array, little endian."""
    return value.astype(dtype, copy=False).tobytes()


def _samples(content: memoryview) -> Samples:
    return np.frombuffer(content, "<f4").astype(np.float32)


def _encoder(content: memoryview, tensors: tuple[TensorDescription, ...]) -> Arrays:
    """Unpack the encoder's state, by name."""
    state: Arrays = {}
    offset = 0
    for tensor in tensors:
        packed = np.frombuffer(content, _DTYPES[tensor.dtype], math.prod(tensor.shape), offset)
        offset += tensor.bytes
        state[tensor.name] = packed.reshape(tensor.shape).astype(tensor.dtype)  # a copy in aligned memory
    if len(content) != offset:
        raise ValueError(f"{len(content)} bytes of encoder state")
    return state


def read(content: bytes, session_id: str | None = None) -> Record:
    """Check that the bytes of a record are intact.

    Args:
        session_id: the session that the record must have; None takes any.

    Raises:
        StateFormat: the record has an older or a newer format.
        StateCorrupt: the magic bytes or the checksum are wrong.
        StateMismatch: the record is intact, but malformed or of another session.
    """
    if len(content) < _START.size or content[:4] != MAGIC:
        raise StateCorrupt("these bytes are not a session record of hetsyn: they begin with something else")
    _, version = _START.unpack_from(content)
    if version != FORMAT_VERSION:
        relation = "an older" if version < FORMAT_VERSION else "a newer"
        raise StateFormat(
            f"the session record has {relation} format, {version}, but this server reads {FORMAT_VERSION}: finish the "
            "session on a server of its own version, or begin another"
        )
    if (
        len(content) < _HEAD.size + CHECKSUM_BYTES
        or checksum(memoryview(content)[:-CHECKSUM_BYTES]) != content[-CHECKSUM_BYTES:]
    ):
        raise StateCorrupt("the session record is damaged or cut off: its checksum does not match its content")
    head = _HEAD.unpack_from(content)
    view, offset, sections = memoryview(content), _HEAD.size, []
    for size in head[13:]:
        sections.append(view[offset : offset + size])
        offset += size
    if offset + CHECKSUM_BYTES != len(content):
        raise StateMismatch("the session record's sections do not add up to its size")
    try:
        session = str(sections[0], "utf-8")
        model, version = str(sections[1], "utf-8").split("\n")
    except ValueError as error:
        raise StateMismatch("the session record does not name its session, model and version") from error
    if session_id is not None and session != session_id:
        raise StateMismatch(f"the session record belongs to {client_id(session)!r}, not {client_id(session_id)!r}")
    return Record(content, session, model, version, head[4], tuple(sections))


def renamed(session: Session, session_id: str) -> Session:
    """Return a copy under another id, also in its last reply."""
    progress = session.known.progress
    last = progress.last
    if last is None or not isinstance(last.reply, bytes):  # else the reply is made with the session's id later
        return session
    if (reply := from_json(last.reply))["session"] == client_id(session_id):
        return session
    last = last._replace(reply=to_json({**reply, "session": client_id(session_id)}))
    return session._replace(known=session.known._replace(progress=progress._replace(last=last)))
