"""The manifest of an artifact: everything that a server knows about a model.

The reader owns the schema, the exporter imports it. Every number has a bound, so that a manifest alone never makes a
server allocate or compute without end.
"""

from __future__ import annotations

import hashlib
import json
import re
from math import prod
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import from_json

from service.contract.endpointing import Endpointing as Endpointing
from service.errors import ArtifactError

FORMAT_VERSION: Final = 6
# before format 6 an artifact had several forms of a network; in format 2 a score that adds up is one float32
OLDER_VERSIONS = (2, 3, 4, 5)
# the names of the last state tensors, which are the decision's
DECISION_SCORE_LOW, DECISION_SCORE, DECISION_STEP = "decision.score_low", "decision.score", "decision.step"
MANIFEST = "manifest.json"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]
FormName = Literal["exact", "bank"]
Exactness = Literal["A", "B", "C"]
MAX_MANIFEST_BYTES = 2**20  # a shipped one has 5 kB
MAX_MANIFEST_VALUES = 10_000  # an error for each costs a hundred times its length; a shipped one has 250
MAX_STATE_BYTES = 2**28  # of the tensors of one stream
SHORTEST_STEP_S, LONGEST_STEP_S = 1e-6, 3_600.0  # the length of a session's record depends on it
MAX_TAIL_STEPS = 20_000  # the last chunk of every session runs them
MAX_VALUES = 2**20  # real numbers of a step
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
REJECTION: dict[str, object] = {"rejected_labels": (), "acceptance_threshold": None}  # left out where unused
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileEntry(_Part):
    """One file of the folder."""

    bytes: int = Field(ge=0, le=2**53)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class TensorDescription(_Part):
    """A state tensor of one stream.

    Attributes:
        initial: all its values before the first step, unless ``initial_file`` has an array for it.
    """

    name: str = Field(min_length=1, max_length=256)
    shape: tuple[Count, ...] = Field(max_length=8)
    dtype: Literal["float32", "float64", "int64"]
    initial: float

    @property
    def bytes(self) -> int:
        return prod(self.shape) * (4 if self.dtype == "float32" else 8)

    @model_validator(mode="after")
    def _initial_fits(self) -> TensorDescription:
        largest = 2.0**53 if self.dtype == "int64" else float(np.finfo(self.dtype).max)
        if abs(self.initial) > largest or (self.dtype == "int64" and self.initial != int(self.initial)):
            raise ValueError(f"initial is {self.initial:g}, which {self.dtype} cannot hold")
        return self


class EncoderDescription(_Part):
    """The encoder: turns audio or rows of values into the network's input.

    Attributes:
        kind: ``audio`` has one channel and a rate; samples that do not fill a step wait in the session. ``values`` has
            a row of ``channels`` numbers a step.
        file: the graph that makes spikes of whole steps. None if the samples of audio are the network's values: a step
            takes ``samples_per_step``, one a channel.
        sample_rate_hz: rate of audio; 0 for rows, one of which is a step.
        samples_per_step: samples of a step; 1 for rows.
    """

    kind: Literal["audio", "values"] = "audio"
    file: str | None
    channels: int = Field(default=1, ge=1, le=MAX_VALUES)
    sample_rate_hz: int = Field(ge=0, le=10_000_000)
    samples_per_step: int = Field(ge=1, le=1_000_000)
    state: tuple[TensorDescription, ...]

    @property
    def state_bytes(self) -> int:
        return sum(tensor.bytes for tensor in self.state)

    @model_validator(mode="after")
    def _state_is_bounded(self) -> EncoderDescription:
        _check_state(self.state)
        return self

    @model_validator(mode="after")
    def _kind_fits(self) -> EncoderDescription:
        if self.kind == "audio" and (self.channels != 1 or not self.sample_rate_hz):
            raise ValueError("audio has one channel and a sample rate")
        if self.kind == "values" and (self.samples_per_step != 1 or self.sample_rate_hz or self.file is None):
            raise ValueError("rows of values are one a step, have no rate of their own, and need a graph")
        if self.file is None and self.state:
            raise ValueError("without a graph there is no state")
        return self


class InputDescription(_Part):
    """The input of the network.

    Attributes:
        kind: ``spikes``, or ``values``: real numbers, with 1 for a spike. A model with an encoder also takes the
            encoder's input.
        channels: numbers, or possible spikes, of a step.
        description: what the channels are, for people.
    """

    kind: Literal["spikes", "values"] = "spikes"
    channels: Positive
    step_s: float = Field(ge=SHORTEST_STEP_S, le=LONGEST_STEP_S)
    description: str = ""

    @model_validator(mode="after")
    def _values_are_bounded(self) -> InputDescription:
        if self.kind == "values" and self.channels > MAX_VALUES:
            raise ValueError(f"a step has more than {MAX_VALUES:,} values")
        return self


class Decision(_Part):
    """The rule that makes scores and probabilities of the readout.

    Attributes:
        rule: ``hetsyn_model.readout`` has the equations. ``late_softmax`` is from format 5 on.
        skip_steps: number of first steps that do not count.
        tail_steps: silent steps that end a session, so that its last input takes effect.
    """

    rule: Literal["sum_softmax", "late_softmax", "spike_count", "last", "trace"]
    skip_steps: Count
    tail_steps: int = Field(ge=0, le=MAX_TAIL_STEPS)

    @property
    def adds_up(self) -> bool:
        """Return whether each step adds to the score. If not, the score is the last step's value."""
        return self.averages_softmax or self.rule == "spike_count"

    @property
    def averages_softmax(self) -> bool:
        """Return whether the probabilities are the mean of softmaxes. If not, they are the softmax of the score."""
        return self.rule in ("sum_softmax", "late_softmax")


class NetworkDescription(_Part):
    """The network, with its size and its errors.

    Attributes:
        form: ``bank``: synapses share a few decays a layer; ``exact``: each has its own.
        file: the ONNX graph.
        torchscript: TorchScript of one step; None if the model came as ONNX.
        tolerance: most by which batching and chunking change a stream's state and outputs, relative for values above 1.
            0: they do not change a bit.
        exactness: ``A``: sums of whole numbers, a product and a sum for each state variable. ``B``: other operations
            that IEEE 754 rounds correctly, in a fixed order. Both give the same spikes and potentials everywhere.
            ``C``: the same within ``tolerance``.
        lookahead_steps: steps of later input that an output waits for.
        state: float32 tensors, the last of them ``decision.score``, then ``decision.step``, int64. If the score is a
            sum, ``decision.score_low`` comes before it: the rounding errors of its float32 additions. Older artifacts
            lack it.
        bank_sizes: number of shared decays of each layer; empty in an exact network.
        kernel_error: relative L2 error of each layer's worst synaptic kernel; 0 in an exact network.
        accuracy: share of right labels on the validation set; None without labels.
        spike_mismatch: share of the exact network's hidden spikes that differ; None if it was not measured.
    """

    form: FormName
    file: str
    torchscript: str | None
    tolerance: float = Field(default=0.0, ge=0, le=1)
    exactness: Exactness
    lookahead_steps: Count = 0
    state: tuple[TensorDescription, ...] = Field(min_length=2)
    state_bytes: int
    bank_sizes: dict[str, int]
    kernel_error: dict[str, float]
    accuracy: float | None = None
    spike_mismatch: float | None = None

    @model_validator(mode="after")
    def _bytes_add_up(self) -> NetworkDescription:
        _check_state(self.state)
        total = sum(tensor.bytes for tensor in self.state)
        if total != self.state_bytes:
            raise ValueError(f"state_bytes is {self.state_bytes}, the state tensors add up to {total}")
        return self

    @model_validator(mode="after")
    def _row_and_step(self) -> NetworkDescription:
        *row, step = self.state
        is_step = (step.name, step.dtype, step.shape) == (DECISION_STEP, "int64", ())
        if not is_step or any(tensor.dtype != "float32" for tensor in row):
            raise ValueError(f"the state is not float32 tensors and, last, {DECISION_STEP} int64")
        if not row or row[-1].name != DECISION_SCORE:
            raise ValueError(f"the last of the float32 tensors is not {DECISION_SCORE}")
        return self

    @model_validator(mode="after")
    def _exactness_fits(self) -> NetworkDescription:
        if (self.exactness == "C") != (self.tolerance > 0):
            raise ValueError(f"exactness is {self.exactness}, but tolerance {self.tolerance:g}")
        return self

    @property
    def words(self) -> int:
        """Count the float32 values of a stream's state."""
        return sum(prod(tensor.shape) for tensor in self.state[:-1])

    @property
    def has_score_low(self) -> bool:
        return len(self.state) > 2 and self.state[-3].name == DECISION_SCORE_LOW

    @property
    def score_words(self) -> int:
        """Count the float32 values of the score, at the end of a stream's state."""
        return sum(prod(tensor.shape) for tensor in self.state[-3 if self.has_score_low else -2 : -1])


class Manifest(_Part):
    """Everything that a server knows about a model.

    ``endpointing``: finds utterances in a stream; None: no settings of its own. ``initial_file``: first values of state
    tensors (``contract.initial``); None if one value fills each tensor. ``rejected_labels``: labels for which the
    answer is null, such as other words. ``acceptance_threshold``: the answer is the likeliest label that is not
    rejected, if it has at least this probability, else null. None: the answer is null if a rejected label is the
    likeliest.
    """

    format_version: Literal[6]
    name: Name
    version: Name
    description: str
    labels: tuple[str, ...]
    rejected_labels: tuple[str, ...] = ()
    acceptance_threshold: Share | None = None
    input: InputDescription
    encoder: EncoderDescription | None
    hidden: tuple[Positive, ...]
    outputs: Positive
    decision: Decision
    endpointing: Endpointing | None = None
    network: NetworkDescription
    initial_file: str | None = None
    files: dict[str, FileEntry]
    provenance: dict[str, str | int | float | bool | None]
    _hash: bytes = PrivateAttr(b"")  # hash of the file's fields as they were read

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if self.decision.rule != "trace" and len(self.labels) != self.outputs:
            raise ValueError(f"{len(self.labels)} labels for {self.outputs} outputs")
        if self.rejected_labels and not set(self.rejected_labels) < set(self.labels):
            raise ValueError(f"rejected_labels are {self.rejected_labels}, which are not some of the labels")
        if self.network.has_score_low and not self.decision.adds_up:
            raise ValueError(f"with rule {self.decision.rule}, a state does not have {DECISION_SCORE_LOW}")
        if self.network.score_words != self.outputs * (2 if self.network.has_score_low else 1):
            raise ValueError(f"the score does not have the {self.outputs} outputs")
        encoder, taken = self.encoder, (self.input.kind, self.input.channels)
        if encoder and encoder.file is not None and self.input.kind == "values":
            raise ValueError("an encoder makes spikes, but the network takes values")
        if encoder and encoder.file is None and taken != ("values", encoder.samples_per_step):
            raise ValueError("samples go straight to the network, which does not take a step of them as values")
        encoded_by = self.encoder.file if self.encoder else None
        used = [self.network.file, self.network.torchscript, encoded_by, self.initial_file]
        for file in [*filter(None, used), *self.files]:
            if file not in self.files:
                raise ValueError(f"file {file!r} is used but not listed under files")
            if not is_name(file) or file == MANIFEST:
                raise ValueError(f"file {file!r} is not a plain name in the artifact's folder")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """List the kinds of input that ``POST /infer`` takes. A network of values takes spikes as ones."""
        encoder = self.encoder.kind if self.encoder else None
        takes_values = encoder == "values" or self.input.kind == "values"
        audio, values = ("audio",) * (encoder == "audio"), ("values",) * takes_values
        return (*audio, *values, "events", "dense")

    def to_json(self) -> str:
        unused = {name for name, value in REJECTION.items() if getattr(self, name) == value}
        return self.model_dump_json(indent=1, exclude=unused) + "\n"

    @property
    def total_bytes(self) -> int:
        encoder = self.encoder.state_bytes if self.encoder else 0
        return sum(entry.bytes for entry in self.files.values()) + self.network.state_bytes + encoder


def usual_exactness(tolerance: float, kind: str, *, has_bank: bool) -> Exactness:
    """Find the exactness of a network of HetSyn or LIF that takes spikes or values."""
    if tolerance:
        return "C"
    return "A" if has_bank and kind == "spikes" else "B"


def _of_format_6(raw: dict[str, Any]) -> dict[str, Any]:
    """Make a manifest of an older format one of format 6: its network is the default form."""
    name, forms, kind = raw.get("default_form"), raw.get("forms"), raw.get("input")
    network = forms.get(name) if isinstance(name, str) and isinstance(forms, dict) else None
    if not isinstance(network, dict):
        raise ValueError(f"default_form {name!r:.40} is not among the forms")
    exactness = usual_exactness(
        network.get("tolerance", 0.0),
        kind.get("kind", "spikes") if isinstance(kind, dict) else "spikes",
        has_bank=bool(network.get("bank_sizes")),
    )
    rest = {field: value for field, value in raw.items() if field not in ("default_form", "forms")}
    served = {"exactness": exactness, **network, "form": name}
    return rest | {"format_version": FORMAT_VERSION, "network": served}


def parse_manifest(text: str | bytes, where: Path) -> Manifest:
    """Parse a manifest.

    Raises:
        ArtifactError: the format version is unknown, or a field is wrong; the message names it.
    """
    try:
        raw = from_json(text)
    except ValueError as error:
        raise ArtifactError(f"{where}: not JSON ({error}): copy the artifact again") from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version not in (*OLDER_VERSIONS, FORMAT_VERSION):
        raise ArtifactError(
            f"{where}: has manifest format {version!r:.40}, but this server reads {OLDER_VERSIONS[0]} to "
            f"{FORMAT_VERSION}: export the model again with a matching hetsyn"
        )
    if _count(raw) > MAX_MANIFEST_VALUES:
        raise ArtifactError(f"{where}: has more than {MAX_MANIFEST_VALUES:,} values: export the model again")
    try:
        manifest = Manifest.model_validate(raw if version == FORMAT_VERSION else _of_format_6(raw))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "manifest"
        raise ArtifactError(
            f"{where}: {field:.200}: {first['msg']:.300}: export the model again with a matching hetsyn"
        ) from error
    except ValueError as error:
        raise ArtifactError(f"{where}: {error}: export the model again with a matching hetsyn") from error
    manifest._hash = _hash(raw)
    return manifest


def _count(value: Any) -> int:
    count, waiting = 0, [value]
    while waiting:
        inner = waiting.pop()
        count += 1
        if isinstance(inner, dict):
            waiting.extend(inner.values())
        elif isinstance(inner, list):
            waiting.extend(inner)
    return count


def content_hash(manifest: Manifest) -> bytes:
    """Hash the manifest's fields, with the hashes of all files, by SHA-256. Order and spacing do not matter."""
    return manifest._hash or _hash(json.loads(manifest.to_json()))


def _hash(fields: Any) -> bytes:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).digest()


def _check_state(state: tuple[TensorDescription, ...]) -> None:
    """Raise ValueError if two tensors have the same name, or they are too large."""
    names = [tensor.name for tensor in state]
    if len(set(names)) < len(names):
        raise ValueError("two state tensors have the same name")
    if sum(tensor.bytes for tensor in state) > MAX_STATE_BYTES:
        raise ValueError(f"the state tensors have more than {MAX_STATE_BYTES:,} bytes")


def is_name(*texts: str) -> bool:
    """Return whether each text may name a model or a version. A killed export leaves folders with other names."""
    return all(re.fullmatch(NAME, text) for text in texts)
