"""A session between two chunks, as a value, and the reply to its last chunk, of which all transports make theirs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from pydantic_core import from_json, to_json

from hetsyn_client import carried_frame
from hetsyn_client.results import Heard, More, Outcome, Reply, Spikes, Timing, classified
from service.contract.numbers import json_numbers
from service.engine.work import StreamState
from service.errors import ModelMismatch, SessionEnded
from service.models.model import Model
from service.observe.watch import Watch
from service.session.protocol import Known
from service.wire.content_types import JSON_TYPE
from service.wire.schema import Parameters

STREAM_BYTES = 800  # objects of a stream: its value, a resampler, and the heads of half a dozen arrays
OBJECT_BYTES = 100  # of a ``PlainReply`` without its probabilities
ALLOCATOR_LOSS = 8  # every 8th byte is lost between blocks of different sizes: 3% if all are alike, 9% in a mix


class PlainReply(NamedTuple):
    """The reply to a session's last chunk, if it has class probabilities and nothing else.

    It is written as JSON only on demand: most are replaced before anybody asks for them.

    Attributes:
        label: index of the likeliest label; -1 for null.
        probabilities: float32 [outputs], as bytes: an array would take three times the memory.
    """

    steps: int
    label: int
    probabilities: bytes


CHUNK_MEMBERS = frozenset(("session", "model", "version", "seq", "steps", "total_steps", "labels", "end"))
"""Members of a reply that identify the chunk; every other one, also a later one, describes an utterance."""

Json: TypeAlias = bytes
Kept: TypeAlias = bytes | PlainReply
"""The last reply of a session."""


class Session(NamedTuple):
    """A session between two chunks.

    Attributes:
        known: the protocol's knowledge of it, with the last reply as JSON or as numbers: Python objects would take many
            times the memory.
        stream: the state of its stream; None after the session has ended or was dropped.
    """

    model: Model
    known: Known[Kept]
    stream: StreamState | None

    @property
    def bytes(self) -> int:
        """Count the memory of its state and its last reply, with the allocator's loss."""
        stream, last = self.stream, self.known.progress.last
        count = 0
        if last is not None:
            reply = last.reply
            count = len(reply) if isinstance(reply, bytes) else OBJECT_BYTES + len(reply.probabilities)
        if stream is not None:
            count += STREAM_BYTES + stream.bytes
            if stream.step == 0 and stream.network is self.model.initial_row:  # all sessions share it
                count -= stream.network.nbytes
                if stream.encoder is self.model.initial_encoder:
                    count -= sum([tensor.nbytes for tensor in stream.encoder.values()])
        return count + count // ALLOCATOR_LOSS

    def last_reply(self, client_id: str) -> Json:
        """Return the last reply as JSON. ``client_id`` is the client's id of the session."""
        last = self.known.progress.last
        assert last is not None
        if isinstance(last.reply, bytes):
            return last.reply
        return to_json(self.reply(client_id, last.seq, self.outcome()))

    def reply(self, client_id: str, seq: int, outcome: Mapping[str, object], *, end: bool = False) -> Reply:
        """Make the reply to a chunk with this outcome."""
        manifest = self.model.manifest
        reply = {
            "session": client_id,
            "model": manifest.name,
            "version": manifest.version,
            "seq": seq,
            **outcome,
            "labels": list(manifest.labels),
            "end": end,
        }
        return cast(Reply, reply)

    def outcome(self) -> Outcome:
        """Return the members of the last reply that say what its chunk has brought about, and maybe others."""
        progress = self.known.progress
        last = progress.last
        assert last is not None
        members: Any
        if isinstance(last.reply, bytes):
            members = from_json(last.reply)
        else:
            steps, label, probabilities = last.reply
            name = None if label < 0 else self.model.manifest.labels[label]
            said = classified(name, json_numbers(np.frombuffer(probabilities, np.float32)))
            members = {"steps": steps, "total_steps": progress.total_steps, **said}
        outcome: Outcome = members
        return outcome

    def written(self, client_id: str) -> Session:
        """Return a copy with the last reply as JSON."""
        progress = self.known.progress
        if progress.last is None or isinstance(progress.last.reply, bytes):
            return self
        last = progress.last._replace(reply=self.last_reply(client_id))
        return self._replace(known=self.known._replace(progress=progress._replace(last=last)))

    def description(self, client_id: str, now_s: float) -> dict[str, Any]:
        """Describe it as JSON values (``wire.schema.SessionDescription``), at a time by the clock of sessions."""
        (progress, _, used_s), stream = self.known, self.stream
        return {
            "session": client_id,
            "model": self.model.name,
            "version": self.model.version,
            "expected_seq": progress.expected_seq,
            "total_steps": progress.total_steps,
            "ended": progress.ended,
            "kind": stream.kind if stream else None,
            "state_bytes": stream.bytes if stream else 0,
            "label": from_json(self.last_reply(client_id))["label"] if progress.last else None,
            "idle_s": max(0.0, now_s - used_s),
        }

    @property
    def open_stream(self) -> StreamState:
        """Return the stream of a session that takes chunks. Raises SessionEnded if it takes no more."""
        if self.stream is None:
            raise SessionEnded("the session has ended: begin another one under a new id")
        return self.stream

    def check_model(self, envelope: Parameters) -> None:
        """Raise ModelMismatch if a request names another model or version than this session's."""
        for field, actual, requested in (
            ("model", self.model.name, envelope.model),
            ("version", self.model.version, envelope.version),
        ):
            if requested is not None and requested != actual:
                raise ModelMismatch(
                    f"the session runs on {field} {actual!r}, not {requested!r}: name that one, or leave it out"
                )

    def shifted(self, by_s: float) -> Session:
        """Return a copy with times on another clock, which is ahead by ``by_s``."""
        known = self.known
        return self._replace(known=known._replace(created_s=known.created_s + by_s, used_s=known.used_s + by_s))


class Answer(NamedTuple):
    """The reply to a chunk.

    Attributes:
        client_id: the client's id of the session.
        session: after the chunk. It has the reply, and writes it when somebody asks.
        more: what the client asks for beside the reply.
        is_carried: the client carries the session.
        token: the carried session after the chunk; None once it has ended.
    """

    client_id: str
    session: Session
    watch: Watch
    more: More | None = None
    is_carried: bool = False
    token: bytes | None = None

    @property
    def reply(self) -> Reply:
        """Return all members but the token."""
        last = self.session.known.progress.last
        assert last is not None
        if isinstance(last.reply, bytes):
            reply: Reply = from_json(last.reply)
        else:
            reply = self.session.reply(self.client_id, last.seq, self.session.outcome())
        return reply if self.more is None else {**reply, **self.more}

    @property
    def outcome(self) -> Outcome:
        """Return the members that a stream repeats, and maybe others."""
        outcome = self.session.outcome()
        return outcome if self.more is None else {**outcome, **self.more}

    def json(self) -> bytes:
        """Write all members as a JSON object, the token in base64."""
        members = self.session.last_reply(self.client_id)
        if self.more is not None:
            members = members[:-1] + b"," + to_json(self.more)[1:]
        if not self.is_carried:
            return members
        token = b"null" if self.token is None else b'"' + base64.b64encode(self.token) + b'"'
        return members[:-1] + b',"token":' + token + b"}"

    def frame(self) -> bytes:
        """Write the token and all other members as a frame (``hetsyn_client.carried_frame``)."""
        members = self._replace(is_carried=False).json()
        return carried_frame.pack_frame(self.token or b"", JSON_TYPE, members)


def finalized(reply: Reply, utterance: int, heard: Sequence[Heard]) -> Reply:
    """Add the end of an utterance that the client asked for to the reply to a chunk.

    Args:
        reply: the reply to the chunk.
        utterance: number of the next utterance; nothing of it is decided yet.
        heard: events that the end adds.
    """
    kept = {name: value for name, value in reply.items() if name in CHUNK_MEMBERS}
    events = [*reply.get("events", ()), *heard]
    return cast(Reply, {**kept, **classified(None, None), "utterance": utterance, "events": events})


def more_of(envelope: Parameters, spikes: Spikes | None = None, watch: Watch | None = None) -> More | None:
    """Make the members that a client asks for beside the reply; None for none, and for a replayed chunk."""
    if not envelope.asks_more:
        return None
    more: More = {}
    if envelope.spikes:
        more["spikes"] = spikes
    if envelope.timing:
        more["timing"] = None if watch is None else _timing(watch)
    return more


def _timing(watch: Watch) -> Timing:
    return {
        "queue_ms": _milliseconds(watch.queue_s),
        "engine_ms": _milliseconds(watch.ran.engine_s),
        "store_ms": _milliseconds(watch.store_s),
    }


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
