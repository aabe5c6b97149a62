"""The reply to a chunk that was applied and is kept, as a value: JSON, frames, rows and tensors are made of it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import cast

from pydantic_core import from_json, to_json

from hetsyn_client import frames
from hetsyn_client.results import Heard, More, Reply, Spikes, Timing, classified
from service.observe.watch import Watch
from service.wire.content_types import JSON_TYPE
from service.wire.schema import Envelope

CHUNK_MEMBERS = frozenset(("session", "model", "version", "seq", "steps", "total_steps", "labels", "end"))


class Answer:
    """The reply to a chunk.

    Args:
        kept: the reply as JSON, as its session keeps it.
        watch: of the chunk.
        reply: the same as values; None reads them of ``kept`` when somebody asks.
        more: what the client asks for beside it.

    Attributes:
        watch: see above.
        is_carried: the client carries the session.
        token: the carried session after the chunk; None once it has ended.
    """

    __slots__ = ("_kept", "_more", "_reply", "is_carried", "token", "watch")

    def __init__(self, kept: bytes, watch: Watch, reply: Reply | None = None, more: More | None = None) -> None:
        self._kept = kept
        self._reply = reply
        self._more = more
        self.watch = watch
        self.is_carried = False
        self.token: bytes | None = None

    @property
    def reply(self) -> Reply:
        """All members, without the token."""
        reply: Reply = from_json(self._kept) if self._reply is None else self._reply
        return reply if self._more is None else {**reply, **self._more}

    def json(self) -> bytes:
        """All members as a JSON object, the token in base64."""
        if not self.is_carried and self._more is None:
            return self._kept  # nearly every reply
        members = self._members()
        if not self.is_carried:
            return members
        token = b"null" if self.token is None else b'"' + base64.b64encode(self.token) + b'"'
        return members[:-1] + b',"token":' + token + b"}"

    def frame(self) -> bytes:
        """The token and all other members, as ``hetsyn_client.frames`` has them."""
        return frames.pack_frame(self.token or b"", JSON_TYPE, self._members())

    def _members(self) -> bytes:
        return self._kept if self._more is None else self._kept[:-1] + b"," + to_json(self._more)[1:]


def finalized(reply: Reply, utterance: int, heard: Sequence[Heard]) -> Reply:
    """Add the end of an utterance that the client asked for to the reply to a chunk.

    Args:
        reply: to the chunk.
        utterance: number of the next one, of which nothing is decided yet.
        heard: what the end adds to ``events``.
    """
    # only what identifies the chunk is kept: any other member, also a new one, tells of the utterance before
    kept = {name: value for name, value in reply.items() if name in CHUNK_MEMBERS}
    events = [*reply.get("events", ()), *heard]
    return cast(Reply, {**kept, **classified(None, None), "utterance": utterance, "events": events})


def more_of(envelope: Envelope, spikes: Spikes | None = None, watch: Watch | None = None) -> More | None:
    """What a client asks for beside the reply; None for nothing. Of a chunk that was applied before it is None.

    Args:
        envelope: of the request.
        spikes: of the chunk.
        watch: of the chunk.
    """
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
