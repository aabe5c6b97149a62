"""What a server answers, as types: the one description of it, which the server uses too.

They are the JSON objects themselves; docs/reference has every member.
"""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic, by which a server describes them, takes no other in Python 3.11

Trigger = Literal["silence", "length", "forced", "end"]


class SpeechStarted(TypedDict):
    """An utterance has begun.

    Attributes:
        utterance: its number, from 0.
        at: where speech began, in seconds of the session's input.
    """

    type: Literal["SpeechStarted"]
    utterance: int
    at: float


class LayerSpikes(TypedDict):
    """The spikes of a layer.

    Attributes:
        name: ``input``, ``hidden1`` and so on.
        size: units of the layer.
        times: [spikes], the step of each, from the first one of ``Spikes``.
        units: [spikes], its unit.
    """

    name: str
    size: int
    times: list[int]
    units: list[int]


class Spikes(TypedDict):
    """The spikes of a chunk.

    Attributes:
        first_step: of the session, from which times count.
        steps: of the network.
        layers: those that have spikes.
    """

    first_step: int
    steps: int
    layers: list[LayerSpikes]


class Timing(TypedDict):
    """Milliseconds of a chunk in the server: waited, computed, stored."""

    queue_ms: float
    engine_ms: float
    store_ms: float


class More(TypedDict, total=False):
    """What comes if it is asked for.

    Attributes:
        spikes: of the chunk; None if it was sent again.
        timing: likewise.
    """

    spikes: Spikes | None
    timing: Timing | None


class Classified(TypedDict):
    """What the network says of an input. Replies, results and ends of utterances have these members.

    Attributes:
        label: the likeliest; None before the first step that counts, while nothing is heard, and for rule ``trace``.
        probabilities: one a label, of the session or utterance up to here; None likewise.
        readout: [steps][outputs] of this chunk; only for rule ``trace``.
    """

    label: str | None
    probabilities: list[float] | None
    readout: NotRequired[list[list[float]]]


class UtteranceEnd(Classified, More):
    """An utterance has ended: its final result, which is that of ``/infer`` with ``end`` for exactly this input.

    Attributes:
        utterance: its number, from 0.
        start: of its input, in seconds of the session's.
        end: likewise.
        trigger: what ended it: silence, its length, the client (``Finalize``), or the end of the session.
    """

    type: Literal["UtteranceEnd"]
    utterance: int
    start: float
    end: float
    trigger: Trigger


Heard = SpeechStarted | UtteranceEnd
"""What the server hears in a session with utterances."""


class Outcome(Classified, More):
    """What a chunk has brought about.

    Attributes:
        steps: network steps of the chunk.
        total_steps: network steps of the session so far.
        utterance: number of the utterance that is under way or comes next; only with endpointing.
        events: where utterances began and ended in this chunk; only with endpointing.
    """

    steps: int
    total_steps: int
    utterance: NotRequired[int]
    events: NotRequired[list[Heard]]


class Reply(Outcome):
    """The reply to a chunk, the same over HTTP and over a WebSocket.

    Attributes:
        session: its id.
        model: its name.
        version: of the model.
        seq: number of the chunk.
        labels: of the model's outputs, in order.
        end: whether the session has ended with this chunk.
        token: all of a carried session; None once it has ended.
    """

    session: str
    model: str
    version: str
    seq: int
    labels: list[str]
    end: bool
    token: NotRequired[bytes | None]
