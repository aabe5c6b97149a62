"""The wire schemas of ``/infer``: what a request says, and what a reply says.

A body is JSON, or raw bytes whose session, model, version, form, seq, end and carry are query parameters, or such bytes
in a frame with a carried session's token."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator

from hetsyn_client import frames
from service.contract.manifest import FormName
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, dense_chunk, spike_chunk
from service.wire.content_types import JSON_TYPE
from service.wire.pcm import check_rate, decode_base64_pcm

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

    @property
    def names_a_model(self) -> bool:
        return not (self.model is self.version is self.form is None)


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
        return frames.pack_frame(self.token or b"", JSON_TYPE, self.reply.to_json())


class CarriedReply(Reply):
    """``Carried`` as JSON."""

    token: str | None = Field(description="the session, to be sent with its next chunk, base64; null at its end")
