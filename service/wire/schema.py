"""The schemas of requests to ``/infer``; ``hetsyn_client.results`` has those of replies.

A request's body is JSON; or raw bytes, with the members of ``Envelope`` as query parameters; or such bytes in a frame
with a carried session's token.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
)

from service.contract.endpointing import EndpointingChange
from service.contract.manifest import Manifest
from service.errors import InputError
from service.keys.ids import inner_id
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, ValuesChunk, dense_chunk, spike_chunk, values_chunk
from service.wire.sound import (
    FILES,
    Sound,
    SoundLimit,
    check_channels,
    check_rate,
    decode_base64,
    decode_samples,
    decode_sound,
)

SESSION_ID = r"^[A-Za-z0-9._~:-]{1,128}$"
SessionId = Annotated[str, Field(pattern=SESSION_ID)]
ModelName = Annotated[str, Field(min_length=1, max_length=64)]


def _whole(value: Any) -> Any:
    """Take 25.0 for 25: JSON has one type of number, and some programs write whole numbers so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
# floats for the same reason; ``spike_chunk`` checks all at once that they are whole. The first wrong value ends the
# validation, because each error costs a hundred times its length
Wholes = Annotated[list[float], FailFast(), WithJsonSchema({"type": "array", "items": {"type": "integer"}})]
# tried from the left, so numbers are not tried as booleans
Bit = Annotated[float | bool, Field(union_mode="left_to_right")]
Bits = Annotated[list[Annotated[list[Bit], FailFast()]], FailFast()]
Row = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], FailFast()]
Rows = Annotated[list[Row], FailFast()]

STRICT = ConfigDict(strict=True)


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, **STRICT)


class AudioInput(_Wire):
    """A piece of audio. It need not be a whole number of steps."""

    kind: Literal["audio"]
    encoding: Literal["pcm_s16le", "pcm_s24le", "pcm_f32le", "mulaw", "alaw", "wav", "flac", "ogg", "mp3"] = Field(
        description="samples, little endian; or a whole file"
    )
    sample_rate: Whole | None = Field(default=None, description="Hz, the same for a whole session; a file has its own")
    channels: Whole | None = Field(default=None, description="of samples, interleaved; they are averaged; by default 1")
    data: str = Field(description="base64")

    def decode(self, limit: SoundLimit) -> AudioChunk:
        """Decode the sound, as ``decode_sound``."""
        if self.encoding in FILES:
            for name in ("sample_rate", "channels"):
                if getattr(self, name) is not None:
                    raise InputError(f"input.{name} is not one of encoding {self.encoding!r}, a file: leave it out")
            return decode_sound(Sound(self.encoding), decode_base64(self.data), limit)
        if self.sample_rate is None:
            raise InputError("input.sample_rate is missing: send it")
        data = decode_base64(self.data)
        channels = 1 if self.channels is None else check_channels(self.channels)
        return AudioChunk(decode_samples(data, self.encoding, channels), check_rate(self.sample_rate))


class EventsInput(_Wire):
    """Spikes as a list. Spike i is on channel units[i] in step times[i]."""

    kind: Literal["events"]
    steps: Whole = Field(ge=0, description="length of the chunk")
    times: Wholes = Field(description="from 0, below steps, in any order")
    units: Wholes = Field(description="channels, from 0")

    def chunk(self) -> SpikeChunk:
        return spike_chunk(self.steps, self.times, self.units)


class DenseInput(_Wire):
    """Spikes as a matrix of zeros and ones."""

    kind: Literal["dense"]
    spikes: Bits = Field(description="one row a step, one value a channel, 0 or 1")

    def chunk(self) -> SpikeChunk:
        return dense_chunk(self.spikes)


class ValuesInput(_Wire):
    """Real numbers, one row a step."""

    kind: Literal["values"]
    values: Rows = Field(description="one row a step, one number a channel; taken as float32")

    def chunk(self) -> ValuesChunk:
        return values_chunk(self.values)


Input = Annotated[AudioInput | EventsInput | DenseInput | ValuesInput, Field(discriminator="kind")]
INPUT_KINDS = ("audio", "events", "dense", "values")


def _kind_of_choice(choice: Any) -> str:
    return "settings" if isinstance(choice, dict | EndpointingChange) else "switch"


Choice = Annotated[
    Annotated[Literal["on", "off"], Tag("switch")] | Annotated[EndpointingChange, Tag("settings")],
    Discriminator(_kind_of_choice),
]


class Envelope(_Wire):
    """The parameters of a request beside its input, in the JSON body or as query parameters."""

    session: SessionId | None = Field(default=None, description="id of the session; by default the server makes one")
    model: ModelName | None = Field(default=None, description="name of a model; by default the server's default model")
    version: ModelName | None = Field(default=None, description="version of the model; by default the newest")
    seq: int | None = Field(default=None, ge=0, le=2**53, description="number of the chunk, from 0")
    begin: bool = Field(
        default=False,
        description="true: the session begins with this chunk, whatever was there under its id; for chunks without seq",
    )
    end: bool = Field(default=False, description="true: the session ends with this chunk")
    carry: bool = Field(default=False, description="true: the client carries the session, as the reply's token")
    endpointing: Choice | None = Field(
        default=None,
        description="on, or settings as an object: the session is cut into utterances; with its first chunk. Settings "
        "with a later chunk hold from there on",
    )
    spikes: bool = Field(default=False, description="true: the reply has the spikes of input and hidden layers")
    timing: bool = Field(default=False, description="true: the reply has the time that the chunk took, by part")


class Parameters(NamedTuple):
    """The members of ``Envelope`` as a plain tuple, made in a microsecond."""

    session: str | None = None
    model: str | None = None
    version: str | None = None
    seq: int | None = None
    begin: bool = False
    end: bool = False
    endpointing: EndpointingChange | Literal["on", "off"] | None = None
    spikes: bool = False
    timing: bool = False

    @property
    def names_a_model(self) -> bool:
        return not (self.model is self.version is None)

    @property
    def asks_more(self) -> bool:
        """Return whether the reply needs spikes or times."""
        return self.spikes or self.timing


parameters_of: Callable[[Envelope], tuple[Any, ...]] = attrgetter(*Parameters._fields)
"""Gets the values of a ``Parameters``."""


class InferBody(Envelope):
    """The JSON body of ``POST /infer``."""

    token: str | None = Field(default=None, description="from the reply to the session's last chunk, base64")
    input: Input | None = Field(default=None, description="may be left out only if the session ends")

    @field_validator("seq", mode="before")
    @classmethod
    def _seq_may_be_a_float(cls, value: Any) -> Any:
        return _whole(value)

    @field_validator("begin", "end", "carry", "spikes", "timing", mode="before")
    @classmethod
    def _null_is_the_default(cls, value: Any) -> Any:
        return False if value is None else value


class SessionDescription(BaseModel):
    """A session, as ``GET /sessions/{id}`` describes it."""

    session: str = Field(description="id of the session")
    model: str = Field(description="name of the session's model")
    version: str = Field(description="version of the model")
    expected_seq: int = Field(description="number of the next chunk")
    total_steps: int = Field(description="network steps of the session so far")
    ended: bool = Field(description="whether the session has ended")
    kind: Literal["audio", "spikes", "values"] | None = Field(
        description="of the input; null before the first and after the end"
    )
    state_bytes: int = Field(description="bytes in memory of the network's and encoder's state and of waiting samples")
    label: str | None = Field(description="label of the last reply")
    idle_s: float = Field(description="seconds since the last applied chunk")


class InferRequest(NamedTuple):
    """A decoded request.

    Attributes:
        chunk: None if the request only ends its session.
        digest: ``chunk.digest`` of chunk and end flag, 16 bytes.
        carry: the client carries the session.
        token: the carried session; None if it begins, or is not carried.
        owner: name of the key that owns the session; empty where the server has no keys.
        timeout_s: the client's limit until the work begins; None without one.
        completed: completes the request when the model of its session is known; None if that is not necessary. A
            request with it names its model.
    """

    envelope: Parameters
    chunk: Chunk | None
    digest: bytes
    carry: bool = False
    token: bytes | None = None
    owner: str = ""
    timeout_s: float | None = None
    completed: Callable[[InferRequest, Manifest], InferRequest] | None = None

    def of(self, manifest: Manifest) -> InferRequest:
        """Complete the request for the model of its session.

        Raises:
            InputError: the model does not take it.
        """
        return self if self.completed is None else self.completed(self, manifest)

    @property
    def session(self) -> str | None:
        """Return the session's inner id; None: the server makes one."""
        named = self.envelope.session
        return None if named is None else inner_id(self.owner, named)
