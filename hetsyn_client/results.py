"""What a server answers, as types: the one description of it.

They are the JSON objects themselves. The server makes its answers, OpenAPI and AsyncAPI of these types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, NotRequired

from typing_extensions import TypedDict  # pydantic, by which a server describes them, takes no other in Python 3.11


class Says(NamedTuple):
    """What a member means. OpenAPI, AsyncAPI and docs/reference repeat it."""

    text: str

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Describe the member in a JSON schema; pydantic calls this."""
        return {**handler(core_schema), "description": self.text}


Trigger = Literal["silence", "length", "forced", "end"]


class SpeechStarted(TypedDict):
    """An utterance has begun. It takes what came shortly before, too."""

    type: Literal["SpeechStarted"]
    utterance: Annotated[int, Says("its number, from 0")]
    at: Annotated[float, Says("where speech began, in seconds of the session's input")]


class LayerSpikes(TypedDict):
    """The spikes of a layer, in order."""

    name: Annotated[str, Says("`input`, `hidden1` and so on")]
    size: Annotated[int, Says("units of the layer")]
    times: Annotated[list[int], Says("the step of each spike, from the first one of `Spikes`")]
    units: Annotated[list[int], Says("the unit of each spike")]


class Spikes(TypedDict):
    """The spikes of a chunk."""

    first_step: Annotated[int, Says("of the session, from which times count")]
    steps: Annotated[int, Says("of the network")]
    layers: Annotated[list[LayerSpikes], Says("those that have spikes")]


class Timing(TypedDict):
    """Milliseconds of a chunk in the server: waited, computed, stored."""

    queue_ms: float
    engine_ms: float
    store_ms: float


class More(TypedDict, total=False):
    """What comes if it is asked for."""

    spikes: Annotated[
        Spikes | None, Says("of input and hidden layers; only with `spikes=true`; null of a chunk that was sent again")
    ]
    timing: Annotated[
        Timing | None, Says("time that the chunk took, by part; only with `timing=true`; null of a chunk sent again")
    ]


class Classified(TypedDict):
    """What the network says of an input. Replies, results and ends of utterances have these members.

    A new member stands here and in ``classified``. All transports and their descriptions then have it.
    """

    probabilities: Annotated[
        list[float] | None,
        Says("one a label, of the session or utterance up to here; null for rule trace, and while nothing is heard"),
    ]
    label: Annotated[
        str | None,
        Says(
            "the likeliest that is not rejected; null for no word, before the first step that counts, while nothing is "
            "heard, and for rule trace"
        ),
    ]
    readout: NotRequired[
        Annotated[list[list[float]], Says("one row a step of this chunk, one value an output; only for rule trace")]
    ]


def classified(label: str | None, probabilities: list[float] | None) -> Classified:
    """Make the members that every answer has, of label and probabilities; both None where nothing is heard."""
    return {"label": label, "probabilities": probabilities}


class UtteranceEnd(Classified, More):
    """An utterance has ended: its final result, which is that of `/infer` with `end` for exactly this input."""

    type: Literal["UtteranceEnd"]
    utterance: Annotated[int, Says("its number, from 0")]
    start: Annotated[float, Says("of its input, in seconds of the session's")]
    end: Annotated[float, Says("of its input, likewise")]
    trigger: Annotated[
        Trigger, Says("what ended it: silence, its length, the client (`Finalize`), or the end of the session")
    ]


Heard = SpeechStarted | UtteranceEnd
"""What the server hears in a session with utterances."""


class Outcome(Classified, More):
    """What a chunk has brought about."""

    steps: Annotated[int, Says("network steps of this chunk, with the silence at the end")]
    total_steps: Annotated[int, Says("network steps of the session so far")]
    utterance: NotRequired[
        Annotated[int, Says("number of the utterance that is under way or comes next; only with endpointing")]
    ]
    events: NotRequired[
        Annotated[list[Heard], Says("where utterances began and ended in this chunk; only with endpointing")]
    ]


class Reply(Outcome):
    """The reply to a chunk, the same over HTTP and over a WebSocket. A session keeps its last one."""

    session: Annotated[str, Says("id of the session")]
    model: Annotated[str, Says("name of the session's model")]
    version: Annotated[str, Says("version of the model")]
    seq: Annotated[int, Says("number of the chunk")]
    labels: Annotated[list[str], Says("labels of the model's outputs, in order")]
    end: Annotated[bool, Says("whether the session has ended with this chunk")]
    token: NotRequired[
        Annotated[
            bytes | None,
            Says(
                "of a carried session: all of it, to send with its next chunk; base64 in JSON; null once it has ended"
            ),
        ]
    ]
