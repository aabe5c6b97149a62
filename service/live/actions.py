"""The values that enter and leave a stream's protocol (``live.protocol``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from hetsyn_client.results import UtteranceEnd
from service.contract.endpointing import EndpointingChange
from service.live.text_frames import ServerFrame, StreamsFrame


class Opening(NamedTuple):
    """The state of a session when a stream begins it or goes on with it.

    Attributes:
        total_steps: network steps so far.
        resumed: the session existed before this stream.
        expires_at: when it is too old, in seconds since 1970; None for never.
        has_endpointing: the server finds its utterances.
        ends: the last ``UtteranceEnd`` events.
    """

    session: str
    model: str
    version: str
    labels: Sequence[str]
    next_seq: int
    total_steps: int
    step_s: float
    resumed: bool
    expires_at: float | None
    has_endpointing: bool = False
    ends: Sequence[UtteranceEnd] = ()


class Send(NamedTuple):
    """Send a text frame."""

    frame: ServerFrame | StreamsFrame


class SendBinary(NamedTuple):
    """Send a binary frame."""

    content: bytes


class Work(NamedTuple):
    """Work to do with the session; report it by ``applied``, ``finalized`` or ``refuse``.

    Attributes:
        kind: ``chunk`` applies one, ``finalize`` ends its utterance, ``end`` the session.
        seq: number of the chunk or the end.
        endpointing: the client's settings from this chunk on.
    """

    kind: Literal["chunk", "finalize", "end"]
    seq: int
    content: bytes = b""
    endpointing: EndpointingChange | None = None


class Close(NamedTuple):
    """End the stream: nothing follows."""

    code: int
    reason: str


Action = Send | SendBinary | Work | Close
