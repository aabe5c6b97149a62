"""What an endpointer tells a client: where utterances begin and end. Times are in seconds of the session's input."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic does not take that of Python 3.11

Trigger = Literal["silence", "length", "forced", "end"]


class SpeechStarted(TypedDict):
    """An utterance has begun. ``at``: where speech began; the utterance takes what came before, too."""

    type: Literal["SpeechStarted"]
    utterance: int
    at: float


class UtteranceEnd(TypedDict):
    """An utterance has ended: what was heard between ``start`` and ``end``.

    ``label`` and ``probabilities`` are those of ``/infer`` with ``end`` for exactly this input; null if nothing was
    heard. ``trigger`` says what ended it: silence, its length, the client (``Finalize``), or the end of the session.
    """

    type: Literal["UtteranceEnd"]
    utterance: int
    start: float
    end: float
    label: str | None
    probabilities: list[float] | None
    trigger: Trigger
    readout: NotRequired[list[list[float]]]


Heard = SpeechStarted | UtteranceEnd
