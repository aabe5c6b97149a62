"""The reply to an applied chunk, as the value that JSON, frames, rows and tensors are made of."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

from pydantic_core import to_json

from hetsyn_client import frames
from hetsyn_client.results import Heard, More, Reply, Spikes, Timing, classified
from service.observe.watch import Watch
from service.wire.content_types import JSON_TYPE
from service.wire.schema import Parameters

CHUNK_MEMBERS = frozenset(("session", "model", "version", "seq", "steps", "total_steps", "labels", "end"))


class Replied(Protocol):
    """A session after a chunk (``session.Session``)."""

    def last_reply(self, session_id: str) -> bytes: ...

    def reply(self, session_id: str) -> Reply: ...


class Answer(NamedTuple):
    """The reply to a chunk.

    Attributes:
        session_id: of the chunk's session.
        session: after the chunk. It has the reply, and writes it when somebody asks.
        more: what the client asks for beside the reply.
        is_carried: the client carries the session.
        token: the carried session after the chunk; None once it has ended.
    """

    session_id: str
    session: Replied
    watch: Watch
    more: More | None = None
    is_carried: bool = False
    token: bytes | None = None

    @property
    def reply(self) -> Reply:
        """Return all members but the token."""
        reply = self.session.reply(self.session_id)
        return reply if self.more is None else {**reply, **self.more}

    def json(self) -> bytes:
        """Write all members as a JSON object, the token in base64."""
        members = self._members()
        if not self.is_carried:
            return members
        token = b"null" if self.token is None else b'"' + base64.b64encode(self.token) + b'"'
        return members[:-1] + b',"token":' + token + b"}"

    def frame(self) -> bytes:
        """Write the token and all other members as a frame (``hetsyn_client.frames``)."""
        return frames.pack_frame(self.token or b"", JSON_TYPE, self._members())

    def _members(self) -> bytes:
        members = self.session.last_reply(self.session_id)
        return members if self.more is None else members[:-1] + b"," + to_json(self.more)[1:]


def finalized(reply: Reply, utterance: int, heard: Sequence[Heard]) -> Reply:
    """Add the end of an utterance that the client asked for to the reply to a chunk.

    Args:
        reply: the reply to the chunk.
        utterance: number of the next utterance; nothing of it is decided yet.
        heard: events that the end adds.
    """
    # keep only what identifies the chunk: every other member, also a later one, describes the ended utterance
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
