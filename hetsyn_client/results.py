"""What a server answers, as types. They are the JSON objects themselves; docs/reference has every member."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

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


class UtteranceEnd(More):
    """An utterance has ended: its final result.

    Attributes:
        utterance: its number, from 0.
        start: of its input, in seconds of the session's.
        end: likewise.
        label: the likeliest; None if nothing was heard.
        probabilities: one a label of the model; None if nothing was heard.
        trigger: what ended it: silence, its length, the client, or the end of the session.
        readout: [steps][outputs], of a model with rule ``trace``.
    """

    type: Literal["UtteranceEnd"]
    utterance: int
    start: float
    end: float
    label: str | None
    probabilities: list[float] | None
    trigger: Trigger
    readout: NotRequired[list[list[float]]]


class Reply(More):
    """The reply to a chunk, the same over HTTP and over a WebSocket.

    Attributes:
        session: its id.
        model: its name.
        version: of the model.
        form: ``exact`` or ``bank``.
        seq: number of the chunk.
        steps: network steps of the chunk.
        total_steps: network steps of the session so far.
        label: the likeliest; None before the first step that counts, while nothing is heard, and for rule ``trace``.
        labels: of the model's outputs, in order.
        probabilities: one a label, of the session or utterance up to this chunk; None likewise.
        end: whether the session has ended with this chunk.
        utterance: number of the utterance that is under way or comes next; only with endpointing.
        events: where utterances began and ended in this chunk; only with endpointing.
        readout: [steps][outputs]; only for rule ``trace``.
        token: all of a carried session; None once it has ended.
    """

    session: str
    model: str
    version: str
    form: str
    seq: int
    steps: int
    total_steps: int
    label: str | None
    labels: list[str]
    probabilities: list[float] | None
    end: bool
    utterance: NotRequired[int]
    events: NotRequired[list[SpeechStarted | UtteranceEnd]]
    readout: NotRequired[list[list[float]]]
    token: NotRequired[bytes | None]
