"""Parses the query of ``WS /stream``: the session, and how binary frames are encoded."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from service.contract.endpointing import EndpointingChange
from service.errors import InputError, UnsupportedInput
from service.keys.caller import Caller
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, ValuesChunk, digest
from service.wire.content_types import LONGEST
from service.wire.decode import decode_query
from service.wire.events import unpack_events
from service.wire.explain import unknown_parameter
from service.wire.schema import InferRequest, Parameters, parameters_of
from service.wire.sound import FILES, RAW, check_channels, check_rate, decode_samples
from service.wire.values import unpack_values

ENCODINGS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(RAW, ("sample_rate", "channels")),
    "events": (),
    "values": ("channels",),
}
"""Of binary frames, with the parameters that each takes."""

_ENVELOPE = ("session", "model", "version")
MORE = ("spikes", "timing")  # optional members of a result
_OWN = ("resume", "encoding", "sample_rate", "channels", "interim", "endpointing", "spikes", "timing")


class StreamQuery(NamedTuple):
    """What a client asks for.

    Attributes:
        envelope: session, model and version; the session always has an id.
        decode: makes a chunk of a binary frame.
        smallest: a chunk of this kind, to ask whether the session's model takes it.
        interim: the client wants the result of each chunk.
        resume: the session must exist.
    """

    envelope: Parameters
    decode: Callable[[bytes], Chunk]
    smallest: Chunk
    interim: bool
    resume: bool = False

    @property
    def session(self) -> str:
        assert self.envelope.session is not None
        return self.envelope.session

    def owned_by(self, caller: Caller) -> StreamQuery:
        """Return a copy for a caller's session: its envelope has the inner id."""
        if not caller.key:
            return self
        return self._replace(envelope=self.envelope._replace(session=caller.session(self.session)))

    def probe(self) -> InferRequest:
        """Make a request to check; it is never applied."""
        return InferRequest(self.envelope, self.smallest, b"")

    @property
    def takes_events(self) -> bool:
        """Return whether binary frames are packed events."""
        return isinstance(self.smallest, SpikeChunk)

    def decoded(self, content: bytes) -> tuple[Chunk, bytes]:
        """Decode a binary frame: its chunk and the chunk's digest.

        Raises:
            InputError: the frame cannot be used.
        """
        chunk = self.decode(content)
        if not (len(chunk.samples) if isinstance(chunk, AudioChunk) else chunk.steps):
            raise InputError("the frame is empty: send at least one sample or step, or CloseStream to end the session")
        return chunk, digest(chunk, False)

    def request(self, seq: int, endpointing: EndpointingChange | None, chunk: Chunk, of_content: bytes) -> InferRequest:
        """Make the request for a chunk with this digest. ``endpointing`` are settings from this chunk on."""
        # four times as fast as ``_replace``
        envelope = tuple.__new__(Parameters, (*self.envelope[:3], seq, *self.envelope[4:]))
        if endpointing is not None:
            envelope = envelope._replace(endpointing=endpointing)
        return tuple.__new__(InferRequest, (envelope, chunk, of_content, False, None, "", None, None))

    def end(self, seq: int) -> InferRequest:
        """Make the request that ends the session without input."""
        return InferRequest(self.envelope._replace(seq=seq, end=True), None, digest(None, True))


def parse_stream_query(query: Iterable[tuple[str, str]], session: str | None = None) -> StreamQuery:
    """Parse the query parameters.

    Args:
        session: id for a client that names none; None makes one.

    Raises:
        InputError: a parameter is unknown, missing, occurs twice, or is wrong.
        UnsupportedInput: there is no such encoding, or the server does not find utterances.
    """
    values: dict[str, str] = {}
    for name, value in query:
        if name not in (*_ENVELOPE, *_OWN):
            known = (*_ENVELOPE, *_OWN)
            sentence = f"query parameter {name[:LONGEST]!r} is not one of a stream: it takes {', '.join(known)}"
            raise unknown_parameter(name, sentence, known)
        if name in values:
            raise InputError(f"query parameter {name!r} occurs twice: send it once")
        values[name] = value
    own = {name: values.pop(name) for name in _OWN if name in values}
    if (endpointing := own.get("endpointing", "on")) not in ("on", "off"):
        raise InputError(f"endpointing={endpointing[:LONGEST]!r}: send on or off, and settings with Configure")
    if "endpointing" in own:
        values["endpointing"] = endpointing
    interim, resume = (
        _is_true(own.get(name, usual), name) for name, usual in (("interim", "true"), ("resume", "false"))
    )
    if resume and "session" not in values:
        raise InputError("resume=true goes on with a session: name it, or leave resume out")
    for name in MORE:
        if name in own:
            values[name] = own[name]
            if not interim and own[name] == "true":
                raise InputError(f"{name}=true needs results: leave interim=false out, or {name}")
    decode, smallest = _decoder(own)
    envelope = decode_query({"session": session or secrets.token_urlsafe(16), **values}.items())
    parameters = Parameters(*parameters_of(envelope))
    return StreamQuery(parameters, decode, smallest, interim, resume)


def _is_true(text: str, name: str) -> bool:
    if text not in ("true", "false"):
        raise InputError(f"{name}={text[:LONGEST]!r}: send true or false")
    return text == "true"


def _decoder(own: Mapping[str, str]) -> tuple[Callable[[bytes], Chunk], Chunk]:
    encoding = own.get("encoding", "pcm_s16le")
    if encoding in FILES:
        raise UnsupportedInput(
            f"encoding {encoding!r} does not come in pieces: send the whole file to POST /infer, or send its samples, "
            "as 'ffmpeg -i FILE -f s16le -ac 1 -ar 16000 -' gives them"
        )
    if encoding not in ENCODINGS:
        raise UnsupportedInput(f"encoding {encoding[:LONGEST]!r} is not taken: send one of {', '.join(ENCODINGS)}")
    for name in ("sample_rate", "channels"):
        if name in own and name not in ENCODINGS[encoding]:
            raise InputError(f"encoding {encoding!r} has no parameter {name!r}: leave it out")
    if encoding == "events":
        none = np.zeros(0, np.int64)
        return unpack_events, SpikeChunk(1, none, none)
    if encoding == "values":
        if "channels" not in own:
            raise InputError("encoding 'values' needs the length of a row: send channels=3 where a row has 3 numbers")
        parameters = {"channels": own["channels"]}
        smallest = unpack_values(b"", parameters)  # checks the parameter
        row = ValuesChunk(np.zeros((1, smallest.values.shape[1]), np.float32))
        return lambda content: unpack_values(content, parameters), row
    rate_hz = check_rate(_whole(own.get("sample_rate", ""), f"encoding {encoding!r} needs its sample rate in Hz"))
    channels = check_channels(_whole(own.get("channels", "1"), f"encoding {encoding!r} needs a number of channels"))
    return (
        lambda content: AudioChunk(decode_samples(content, encoding, channels), rate_hz),
        AudioChunk(np.zeros(1, np.float32), rate_hz),
    )


def _whole(text: str, problem: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InputError(f"{problem}: send such as sample_rate=16000&channels=1")
    return int(text)
