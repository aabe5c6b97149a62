"""The reply to an applied chunk, as the value that JSON, frames, rows and tensors are made of."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

from pydantic_core import from_json, to_json

from hetsyn_client import frames
from hetsyn_client.results import Heard, More, Reply, Spikes, Timing, classified
from service.observe.watch import Watch
from service.wire.content_types import JSON_TYPE
from service.wire.schema import Parameters

Columns: TypeAlias = tuple[int, int, int, bytes]
"""Steps of the session and of the chunk, index of the label (-1 for none), and probabilities (float32)."""

CHUNK_MEMBERS = frozenset(("session", "model", "version", "seq", "steps", "total_steps", "labels", "end"))


class Answer:
    """The reply to a chunk.

    Args:
        reply: the members as JSON, or a function that makes them on demand.
        more: spikes and times, if the client asked for them.
        columns: the part that a row of ``/streams`` needs, if the client needs no more.

    Attributes:
        is_carried: the client carries the session.
        token: the carried session after the chunk; None once it has ended.
    """

    __slots__ = ("_more", "_reply", "columns", "is_carried", "token", "watch")

    def __init__(
        self,
        reply: bytes | Callable[[], Reply],
        watch: Watch,
        more: More | None = None,
        columns: Columns | None = None,
    ) -> None:
        self._reply = reply
        self._more = more
        self.watch = watch
        self.columns = columns
        self.is_carried = False
        self.token: bytes | None = None

    @property
    def reply(self) -> Reply:
        """Return all members but the token."""
        reply: Reply = from_json(self._reply) if isinstance(self._reply, bytes) else self._reply()
        return reply if self._more is None else {**reply, **self._more}

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
        members = self._reply if isinstance(self._reply, bytes) else to_json(self._reply())
        return members if self._more is None else members[:-1] + b"," + to_json(self._more)[1:]


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
        "engine_ms": _milliseconds(watch.engine_s),
        "store_ms": _milliseconds(watch.store_s),
    }


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
