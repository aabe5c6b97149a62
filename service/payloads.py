"""The wire schemas of ``/infer`` and the way from bytes to a request and from a reply to JSON.

A body is JSON, or raw bytes whose session, model, version, form, seq, end and carry are query parameters, or such bytes
in a frame with a carried session's token.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from service import carried_frame, packed_events
from service.artifact import FormName
from service.audio import check_rate, decode_base64_pcm, decode_l16, decode_wav
from service.chunks import AudioChunk, Chunk, SpikeChunk, dense_chunk, digest, spike_chunk
from service.errors import InputError, TokenForeign, UnsupportedInput

JSON_TYPE = "application/json"
L16_TYPE = "audio/l16"
WAV_TYPES = ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave")
CONTENT_TYPES = (
    JSON_TYPE, WAV_TYPES[0], "audio/L16;rate=8000", packed_events.MEDIA_TYPE, carried_frame.MEDIA_TYPE,
)  # fmt: skip

SESSION_ID = r"^[A-Za-z0-9._~:-]{1,128}$"
SessionId = Annotated[str, Field(pattern=SESSION_ID)]
ModelName = Annotated[str, Field(min_length=1, max_length=64)]


def _whole(value: Any) -> Any:
    """JSON has one kind of number, and some programs write 25 as 25.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
# floats for the same reason: ``spike_chunk`` checks all of them at once that they are whole
Wholes = Annotated[list[float], WithJsonSchema({"type": "array", "items": {"type": "integer"}})]
# read from the left, so that booleans cost numbers nothing
Bit = Annotated[float | bool, Field(union_mode="left_to_right")]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AudioInput(_Wire):
    """A piece of sound; it need not be a whole number of steps."""

    kind: Literal["audio"]
    encoding: Literal["pcm_s16le"] = Field(description="16-bit little-endian PCM, mono")
    sample_rate: Whole = Field(description="Hz, the same for a whole session")
    data: str = Field(description="base64")

    def chunk(self) -> AudioChunk:
        return AudioChunk(decode_base64_pcm(self.data), check_rate(self.sample_rate))


class EventsInput(_Wire):
    """Spikes as a list; the i-th is on channel units[i] in step times[i]."""

    kind: Literal["events"]
    steps: Whole = Field(ge=0, description="length of the chunk")
    times: Wholes = Field(description="from 0, below steps, in any order")
    units: Wholes = Field(description="channels, from 0")

    def chunk(self) -> SpikeChunk:
        return spike_chunk(self.steps, self.times, self.units)


class DenseInput(_Wire):
    """Spikes as zeros and ones."""

    kind: Literal["dense"]
    spikes: list[list[Bit]] = Field(description="one row a step, one value a channel, 0 or 1")

    def chunk(self) -> SpikeChunk:
        return dense_chunk(self.spikes)


Input = Annotated[AudioInput | EventsInput | DenseInput, Field(discriminator="kind")]
LONGEST_PLACE = 100
INPUT_KINDS = ("audio", "events", "dense")


class Envelope(_Wire):
    """What goes with a chunk, in the JSON body or as query parameters."""

    session: SessionId | None = Field(default=None, description="made by the server if left out")
    model: ModelName | None = Field(default=None, description="by default the configured or the only model")
    version: ModelName | None = Field(default=None, description="by default the newest")
    form: FormName | None = Field(default=None, description="by default the model's default form")
    seq: int | None = Field(default=None, ge=0, le=2**53, description="number of the chunk, from 0")
    end: bool = Field(default=False, description="the session ends with this chunk")
    carry: bool = Field(default=False, description="the client carries the session, as the reply's token")


class InferBody(Envelope):
    """The JSON body of ``POST /infer``."""

    token: str | None = Field(default=None, description="of the reply to the session's last chunk, base64")
    input: Input | None = Field(default=None, description="only an end may come without")

    @field_validator("seq", mode="before")
    @classmethod
    def _seq_may_be_a_float(cls, value: Any) -> Any:
        return _whole(value)

    @field_validator("end", "carry", mode="before")
    @classmethod
    def _null_is_the_default(cls, value: Any) -> Any:
        return False if value is None else value


class Reply(BaseModel):
    """The answer to a chunk, kept to be given again.

    probabilities: [labels] from the session's beginning to this chunk; None where the rule is ``trace``.
    label: the likeliest; None before the first step that counts. steps: network steps of this chunk, with
    the tail of silence at the end. readout: [steps][outputs] of this chunk; only where the rule is ``trace``.
    """

    model_config = ConfigDict(frozen=True)

    session: str
    model: str
    version: str
    form: FormName
    seq: int
    steps: int
    total_steps: int
    label: str | None
    labels: tuple[str, ...]
    probabilities: tuple[float, ...] | None
    end: bool
    readout: tuple[tuple[float, ...], ...] | None = None

    def to_json(self) -> bytes:
        return self.model_dump_json(exclude={"readout"} if self.readout is None else None).encode()


class InferRequest(NamedTuple):
    """A decoded request. chunk: None when it only ends its session. digest: of chunk and end.

    carry: the client carries the session. token: the session as it carries it; None where it begins.
    """

    envelope: Envelope
    chunk: Chunk | None
    digest: bytes
    carry: bool = False
    token: bytes | None = None


@dataclass(frozen=True)
class Carried:
    """The answer to a chunk of a session that the client carries. token: None once it has ended."""

    reply: Reply
    token: bytes | None

    def to_json(self) -> bytes:
        token = b"null" if self.token is None else b'"' + base64.b64encode(self.token) + b'"'
        return self.reply.to_json()[:-1] + b',"token":' + token + b"}"

    def to_frame(self) -> bytes:
        return carried_frame.pack_frame(self.token or b"", JSON_TYPE, self.reply.to_json())


class CarriedReply(Reply):
    """``Carried`` as JSON."""

    token: str | None = Field(description="the session, to be sent with its next chunk, base64; null at its end")


_BODY: TypeAdapter[InferBody] = TypeAdapter(InferBody)


def decode_json(body: bytes) -> InferRequest:
    """
    Raises:
        InputError: not JSON, or not this schema; names the first wrong place.
        UnsupportedInput: an input kind that does not exist.
    """
    try:
        parsed = _BODY.validate_json(body)
    except ValidationError as error:
        raise _explained(error, "the body", "a field of this request: leave it out") from error
    # without the input, whose numbers would stay in memory a second time
    envelope = Envelope.model_validate(parsed.model_dump(exclude={"input", "token"}))
    token = None if parsed.token is None else _decode_token(parsed.token)
    return _request(envelope, parsed.input.chunk() if parsed.input else None, token)


def decode_raw(content_type: str, query: Iterable[tuple[str, str]], body: bytes) -> InferRequest:
    """
    Args:
        content_type: with its parameters.
        query: names and values of the query parameters.

    Raises:
        InputError: a wrong parameter or body.
        UnsupportedInput: a content type that is not taken.
    """
    media_type, parameters = parse_content_type(content_type)
    if media_type == carried_frame.MEDIA_TYPE:
        return _decode_frame(query, body)
    decode = _raw_decoder(media_type, parameters)
    envelope = decode_query(query)
    return _request(envelope, decode(body) if body else None)


def _decode_frame(query: Iterable[tuple[str, str]], body: bytes) -> InferRequest:
    """A frame is of a carried session, whether or not it has a token yet."""
    token, content_type, inner = carried_frame.unpack_frame(body)
    envelope = decode_query(query)
    chunk = _raw_decoder(*parse_content_type(content_type))(inner) if inner else None
    return _request(envelope, chunk, token or None)._replace(carry=True)


def _decode_token(text: str) -> bytes:
    """
    Raises:
        TokenForeign: it is no base64, or not as an encoder writes it: what is changed in a token is to be noticed.
    """
    try:
        token = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        token = None
    if token is None or base64.b64encode(token).decode() != text:
        raise TokenForeign("token is not base64: send the one of the last reply as it came")
    return token


def decode_query(query: Iterable[tuple[str, str]]) -> Envelope:
    """
    Raises:
        InputError: a parameter that is unknown, there twice, or wrong.
    """
    values: dict[str, str] = {}
    for name, value in query:
        if name in values:
            raise InputError(f"query parameter {name!r} is there twice: send it once")
        values[name] = value
    try:
        return Envelope.model_validate_strings(values)
    except ValidationError as error:
        raise _explained(error, "the query", _QUERY_FIELDS) from error


@lru_cache(maxsize=256)
def parse_content_type(content_type: str) -> tuple[str, Mapping[str, str]]:
    """Media type and parameters; names in lower case, values unquoted.

    Raises:
        InputError: a parameter is there twice.
    """
    media_type, *rest = content_type.split(";")
    parameters: dict[str, str] = {}
    for part in rest:
        name, _, value = part.partition("=")
        name = name.strip().lower()
        if name in parameters:
            raise InputError(f"the content type's parameter {name[:LONGEST_PLACE]!r} is there twice: send it once")
        if name:
            parameters[name] = value.strip().strip('"')
    return media_type.strip().lower(), MappingProxyType(parameters)


def unsupported(content_type: str) -> UnsupportedInput:
    named = f"content type {content_type!r} is not taken" if content_type else "the request has no content type"
    return UnsupportedInput(f"{named}: send one of {', '.join(CONTENT_TYPES)}")


def _raw_decoder(media_type: str, parameters: Mapping[str, str]) -> Any:
    if media_type in WAV_TYPES:
        return lambda body: AudioChunk(*decode_wav(body))
    if media_type == L16_TYPE:
        return lambda body: AudioChunk(*decode_l16(body, parameters))
    if media_type == packed_events.MEDIA_TYPE:
        return packed_events.unpack_events
    raise unsupported(media_type)


def _request(envelope: Envelope, chunk: Chunk | None, token: bytes | None = None) -> InferRequest:
    if chunk is not None and not (len(chunk.samples) if isinstance(chunk, AudioChunk) else chunk.steps):
        chunk = None
    if chunk is None and not envelope.end:
        raise InputError("the chunk is empty: send at least one sample or step, or end the session with end=true")
    return InferRequest(envelope, chunk, digest(chunk, envelope.end), envelope.carry or token is not None, token)


_QUERY_FIELDS = f"a query parameter of this request: it takes {', '.join(Envelope.model_fields)}"

# by pydantic's kind of error; in braces what its context says
_ADVICE: Mapping[str, str] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "send a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "send a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "send true or false"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "send one JSON object"),
    "list_type": "send an array",
    "string_type": "send a string",
    "literal_error": "send {expected}",
    "greater_than_equal": "send a number of at least {ge}",
    "less_than_equal": "send a number of at most {le}",
    "string_too_short": "send at least {min_length} character(s)",
    "string_too_long": "send at most {max_length} characters",
}


def _explained(error: ValidationError, what: str, fields: str) -> InputError | UnsupportedInput:
    """The first thing that is wrong, as a sentence; input values are not repeated, they may be long.

    Args:
        fields: how the sentence about an unknown field goes on after "is not".
    """
    # a number in a dense row is refused twice, as a number and as a boolean
    first, *others = (
        item for item in error.errors(include_url=False, include_input=False) if item["loc"][-2:][1:] != ("bool",)
    )
    place = _place(first["loc"])
    kind = first["type"]
    more = f" ({len(others)} more)" if others else ""
    if kind == "json_invalid":
        return InputError(f"{what} is not JSON ({first['ctx']['error']}): send one JSON object")
    if kind == "union_tag_invalid":
        return UnsupportedInput(f"input.kind is not taken: send one of {', '.join(INPUT_KINDS)}")
    if kind == "union_tag_not_found":
        return InputError(f"input.kind is missing: send one of {', '.join(INPUT_KINDS)}")
    if kind == "missing":
        return InputError(f"{place} is missing: send it{more}")
    if kind == "extra_forbidden":
        return InputError(f"{place} is not {fields}{more}")
    if place == "session":
        return InputError("session is not an id: send 1 to 128 characters of A-Z a-z 0-9 . _ ~ : -")
    advice = _ADVICE.get(kind, f"{first['msg']}: send what /docs describes").format_map(first.get("ctx", {}))
    return InputError(f"{place or what}: {advice}{more}")


def _place(location: tuple[int | str, ...]) -> str:
    """``input.times[3]``; pydantic puts the chosen kind between."""
    parts = list(location)
    if len(parts) > 1 and parts[0] == "input" and parts[1] in INPUT_KINDS:
        del parts[1]
    if parts[-1:] == ["float"]:  # of ``Bit``
        del parts[-1]
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text if len(text) <= LONGEST_PLACE else f"{text[:LONGEST_PLACE]}..."
