"""The manifest of an artifact: everything that a server knows about a model.

The reader owns the schema, the exporter imports it.
"""

from __future__ import annotations

import hashlib
import json
import re
from math import prod
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import ArtifactError

FORMAT_VERSION = 2
STEP, SCORE = "decision.step", "decision.score"
MANIFEST = "manifest.json"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]
FormName = Literal["exact", "bank"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Part):
    """One file of the folder."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class StateTensor(_Part):
    """A state tensor of one stream."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "float64", "int64"]
    initial: float

    @property
    def bytes(self) -> int:
        return prod(self.shape) * (4 if self.dtype == "float32" else 8)


class Encoder(_Part):
    """Audio to spikes. Audio comes in whole steps; samples that do not fill one wait in the session."""

    file: str
    sample_rate_hz: int = Field(ge=1)
    samples_per_step: int = Field(ge=1)
    state: tuple[StateTensor, ...]


class Input(_Part):
    """What a stream is made of: spikes on channels, and audio where there is an encoder."""

    channels: int = Field(ge=1)
    step_s: float = Field(gt=0)
    description: str = ""


class Decision(_Part):
    """How scores come about: see ``hetsyn_model.readout``. tail_steps: steps without sound (audio) or
    spikes that end a session, so that the last sound is heard out."""

    rule: Literal["sum_softmax", "spike_count", "last", "trace"]
    skip_steps: int = Field(ge=0)
    tail_steps: int = Field(ge=0)


class Form(_Part):
    """One form of the network. kernel_error: relative L2 error of the worst synaptic kernel of each layer
    (0 in the exact form). accuracy, spike_mismatch: on the validation set, the latter against the exact
    form; None where there is none. bank_sizes: decays of each layer."""

    file: str
    torchscript: str
    state: tuple[StateTensor, ...] = Field(min_length=2)
    state_bytes: int
    bank_sizes: dict[str, int]
    kernel_error: dict[str, float]
    accuracy: float | None = None
    spike_mismatch: float | None = None

    @model_validator(mode="after")
    def _bytes_add_up(self) -> Form:
        total = sum(tensor.bytes for tensor in self.state)
        if total != self.state_bytes:
            raise ValueError(f"state_bytes is {self.state_bytes}, the state tensors add up to {total}")
        return self

    @model_validator(mode="after")
    def _row_and_step(self) -> Form:
        *row, step = self.state
        if (step.name, step.dtype, step.shape) != (STEP, "int64", ()) or any(t.dtype != "float32" for t in row):
            raise ValueError(f"the state is not float32 tensors and, last, {STEP} int64")
        if not row or row[-1].name != SCORE:
            raise ValueError(f"the last of the float32 tensors is not {SCORE}")
        return self

    @property
    def words(self) -> int:
        """float32 values of a stream's state."""
        return sum(prod(tensor.shape) for tensor in self.state[:-1])


class Manifest(_Part):
    """Everything that a server knows about a model."""

    format_version: Literal[2]
    name: Name
    version: Name
    description: str
    labels: tuple[str, ...]
    input: Input
    encoder: Encoder | None
    hidden: tuple[int, ...]
    outputs: int = Field(ge=1)
    decision: Decision
    default_form: FormName
    forms: dict[FormName, Form]
    files: dict[str, FileEntry]
    provenance: dict[str, str | int | float | bool | None]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if self.decision.rule != "trace" and len(self.labels) != self.outputs:
            raise ValueError(f"{len(self.labels)} labels for {self.outputs} outputs")
        if self.default_form not in self.forms:
            raise ValueError(f"default_form {self.default_form!r} is not among the forms")
        named = [file for form in self.forms.values() for file in (form.file, form.torchscript)]
        named += [self.encoder.file] if self.encoder else []
        for file in [*named, *self.files]:
            if file not in self.files:
                raise ValueError(f"file {file!r} is used but not listed under files")
            if Path(file).name != file or file in (MANIFEST, ".", ".."):
                raise ValueError(f"file {file!r} is not a plain name in the artifact's folder")
        return self


def parse_manifest(text: str | bytes, where: Path) -> Manifest:
    """A manifest from its JSON.

    Raises:
        ArtifactError: another format version, or not a manifest; says which field.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ArtifactError(f"{where}: not JSON ({error})") from error
    found = raw.get("format_version") if isinstance(raw, dict) else None
    if found != FORMAT_VERSION:
        raise ArtifactError(
            f"{where}: manifest format {found!r}, this server reads {FORMAT_VERSION}: "
            "export the model again with a matching hetsyn"
        )
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "manifest"
        raise ArtifactError(f"{where}: {field}: {first['msg']}") from error


def content_hash(manifest: Manifest) -> bytes:
    """Which content a model has: SHA-256 over what its manifest says, the hashes of its files included, in
    whatever order and spacing."""
    said = manifest.model_dump(mode="json", exclude_unset=True)
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).digest()


def is_name(*texts: str) -> bool:
    """Whether they may name a model or a version. An export that was killed leaves folders that may not."""
    return all(re.fullmatch(NAME, text) for text in texts)
