"""The query of ``WS /stream``: which session, and what a binary frame is."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from service.contract.endpointing import EndpointingChange
from service.errors import InputError, UnsupportedInput
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, ValuesChunk, digest
from service.wire.content_types import LONGEST
from service.wire.decode import decode_query
from service.wire.events import unpack_events
from service.wire.pcm import check_rate, decode_pcm
from service.wire.schema import Envelope, InferRequest
from service.wire.values import unpack_values

ENCODINGS = {"pcm_s16le": "sample_rate", "events": "", "values": "channels"}
"""Of binary frames, with the parameter that each needs."""

_ENVELOPE = ("session", "model", "version", "form")
_OWN = ("encoding", "sample_rate", "channels", "interim", "endpointing")


class StreamQuery(NamedTuple):
    """What a client asks for.

    Attributes:
        envelope: session, model, version and form; the session always has an id.
        decode: makes a chunk of a binary frame.
        smallest: a chunk of that kind, with which a session can be asked whether it takes such.
        interim: whether the client wants the result of each chunk.
    """

    envelope: Envelope
    decode: Callable[[bytes], Chunk]
    smallest: Chunk
    interim: bool

    @property
    def session(self) -> str:
        assert self.envelope.session is not None
        return self.envelope.session

    def probe(self) -> InferRequest:
        """A request that is never applied."""
        return InferRequest(self.envelope, self.smallest, b"")

    def request(self, content: bytes, seq: int, endpointing: EndpointingChange | None = None) -> InferRequest:
        """The chunk of a binary frame.

        Args:
            content: of the frame.
            seq: number of the chunk.
            endpointing: settings that hold from this chunk on.

        Raises:
            InputError: the frame cannot be used.
        """
        chunk = self.decode(content)
        if not (len(chunk.samples) if isinstance(chunk, AudioChunk) else chunk.steps):
            raise InputError("the frame is empty: send at least one sample or step, or CloseStream to end the session")
        update = {"seq": seq} if endpointing is None else {"seq": seq, "endpointing": endpointing}
        return InferRequest(self.envelope.model_copy(update=update), chunk, digest(chunk, False))

    def end(self, seq: int) -> InferRequest:
        """The end of the session without further input."""
        return InferRequest(self.envelope.model_copy(update={"seq": seq, "end": True}), None, digest(None, True))


def parse_stream_query(query: Iterable[tuple[str, str]]) -> StreamQuery:
    """Parse the query parameters.

    Raises:
        InputError: a parameter is unknown, missing, occurs twice, or is wrong.
        UnsupportedInput: there is no such encoding, or the server does not find utterances.
    """
    values: dict[str, str] = {}
    for name, value in query:
        if name not in (*_ENVELOPE, *_OWN):
            raise InputError(
                f"query parameter {name[:LONGEST]!r} is not one of a stream: it takes {', '.join((*_ENVELOPE, *_OWN))}"
            )
        if name in values:
            raise InputError(f"query parameter {name!r} occurs twice: send it once")
        values[name] = value
    own = {name: values.pop(name) for name in _OWN if name in values}
    if (endpointing := own.get("endpointing", "on")) not in ("on", "off"):
        raise InputError(f"endpointing={endpointing[:LONGEST]!r}: send on or off, and settings with Configure")
    if "endpointing" in own:
        values["endpointing"] = endpointing
    if (interim := own.get("interim", "true")) not in ("true", "false"):
        raise InputError(f"interim={interim[:LONGEST]!r}: send true or false")
    decode, smallest = _decoder(own)
    envelope = decode_query({"session": secrets.token_urlsafe(16), **values}.items())
    return StreamQuery(envelope, decode, smallest, interim == "true")


def _decoder(own: Mapping[str, str]) -> tuple[Callable[[bytes], Chunk], Chunk]:
    encoding = own.get("encoding", "pcm_s16le")
    if encoding not in ENCODINGS:
        raise UnsupportedInput(f"encoding {encoding[:LONGEST]!r} is not taken: send one of {', '.join(ENCODINGS)}")
    for name in ("sample_rate", "channels"):
        if name in own and name != ENCODINGS[encoding]:
            raise InputError(f"encoding {encoding!r} has no parameter {name!r}: leave it out")
    if encoding == "events":
        none = np.zeros(0, np.int64)
        return unpack_events, SpikeChunk(1, none, none)
    if encoding == "values":
        parameters = {name: own[name] for name in ("channels",) if name in own}
        smallest = unpack_values(b"", parameters)  # checks the parameter
        channels = smallest.values.shape[1]
        return lambda content: unpack_values(content, parameters), ValuesChunk(np.zeros((1, channels), np.float32))
    text = own.get("sample_rate", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InputError("encoding 'pcm_s16le' needs its sample rate in Hz: send such as sample_rate=16000")
    rate_hz = check_rate(int(text))
    return (
        lambda content: AudioChunk(decode_pcm(content, "<i2"), rate_hz),
        AudioChunk(np.zeros(1, np.float32), rate_hz),
    )
