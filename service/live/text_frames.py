"""The text frames of ``WS /stream`` and ``WS /streams``, as types. ``docs/reference`` describes them."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # as in ``hetsyn_client.results``

from hetsyn_client.results import Classified, Heard, More, SpeechStarted, UtteranceEnd
from service.problem import Error

SUBPROTOCOL = "hetsyn.v1"


class Begin(TypedDict):
    """The first frame of the server. The next chunk has the number ``next_seq``."""

    type: Literal["Begin"]
    session: str
    model: str
    version: str
    labels: list[str]
    next_seq: int
    step_ms: float
    max_inflight: int
    resumed: bool
    expires_at: float | None


class Result(Classified, More):
    """A chunk was applied, and is kept: this acknowledges it. Times are in seconds of the session's input."""

    type: Literal["Result"]
    seq: int
    utterance: int
    is_final: bool
    speech_final: bool
    start: float
    duration: float
    total_steps: int


class Ack(TypedDict):
    """All chunks up to ``seq`` were applied, and are kept. In place of ``Result``, with ``interim=false``."""

    type: Literal["Ack"]
    seq: int


class Termination(TypedDict):
    """The session has ended; the server closes the connection with 1000. Counts are those of the whole session."""

    type: Literal["Termination"]
    chunks: int
    audio_s: float
    utterances: int


class StreamsBegin(TypedDict):
    """The first frame of the server on ``/streams``: what all sessions of the connection have in common."""

    type: Literal["Begin"]
    model: str
    version: str
    labels: list[str]
    step_ms: float
    max_inflight: int
    max_rows: int
    max_sessions: int


class StreamsTermination(TypedDict):
    """All frames of ``/streams`` are answered; the server closes the connection with 1000. ``chunks`` were applied."""

    type: Literal["Termination"]
    chunks: int


class Finalize(TypedDict):
    """End the utterance now."""

    type: Literal["Finalize"]


class Endpointing(TypedDict, total=False):
    """When utterances begin and end (``contract.endpointing``); times are in seconds."""

    threshold: float
    release: float
    onset_s: float
    preroll_s: float
    silence_s: float
    no_speech_s: float
    max_s: float


class Configure(TypedDict):
    """Change when utterances begin and end, from the next chunk on."""

    type: Literal["Configure"]
    endpointing: Endpointing


class KeepAlive(TypedDict):
    """Tells the server that the client is still there. A pong does the same."""

    type: Literal["KeepAlive"]


class CloseStream(TypedDict):
    """End the session after the chunks before. ``last_seq``: the number of the last one, which the server checks."""

    type: Literal["CloseStream"]
    last_seq: NotRequired[int | None]


ServerFrame = Begin | Result | Ack | Heard | Termination | Error
StreamsFrame = StreamsBegin | StreamsTermination | Error
SERVER_FRAMES: tuple[type, ...] = (Begin, Result, Ack, SpeechStarted, UtteranceEnd, Termination, Error)
CLIENT_FRAMES: tuple[type, ...] = (Finalize, Configure, KeepAlive, CloseStream)
STREAMS_CLIENT_FRAMES: tuple[type, ...] = (KeepAlive, CloseStream)
STREAMS_SERVER_FRAMES: tuple[type, ...] = (StreamsBegin, StreamsTermination, Error)
FRAMES = (*CLIENT_FRAMES, *SERVER_FRAMES, *STREAMS_CLIENT_FRAMES, *STREAMS_SERVER_FRAMES)
