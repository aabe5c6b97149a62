"""The configuration of a training run: every hyperparameter, in one TOML file.

A file has the differences from a base: a shipped configuration that it names (``base = "speech-digits"``), else the
shipped one for the kind of data, ``audio``, ``spikes`` or ``values``. ``config.toml`` in a run's folder has every
value.
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.spec import DecisionSpec, NeuronSpec, PathSpec, SpecError, SurrogateSpec
from hetsyn_model.spec.errors import ModelError
from hetsyn_model.training.datasets.examples import Kind
from hetsyn_model.training.datasets.others import OthersSpec
from hetsyn_model.training.datasets.split import SplitSpec
from hetsyn_model.training.encoding.augment import AugmentSpec
from hetsyn_model.training.encoding.front import SpikesAugmentSpec, ValuesAugmentSpec
from hetsyn_model.training.endpointing import EndpointingConfig
from hetsyn_model.training.schedule import DelayTraining

# keys of earlier versions, without effect on a run's network
EARLIER = ("phonemes", "kernel", "training.distillation", "training.quiet_s", "encoder.spikes.channels")
SHIPPED = Path(__file__).with_name("configs")


class ConfigError(ModelError):
    """A configuration that cannot be read or used; the message names the file and the field."""

    code = "bad-config"


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network; see :class:`hetsyn_model.spec.NetworkSpec`. The data give outputs and step.

    Attributes:
        channels: number of input channels. 0 takes it from the data: the width of arrays, or for spike times the
            highest unit plus one.
    """

    channels: int = 0
    hidden: tuple[int, ...] = (128,)
    recurrent: bool = True
    self_recurrent: bool = True
    bias: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.channels < 0:
            raise SpecError(f"channels: {self.channels} is below 0")


@dataclass(frozen=True)
class DelaysConfig:
    """Delays of spikes; a path without ``max_delay_steps`` has none.

    Attributes:
        input: path into each layer from the one before.
        recurrent: path of a hidden layer's own spikes.
    """

    input: PathSpec = field(default_factory=PathSpec)
    recurrent: PathSpec = field(default_factory=PathSpec)
    training: DelayTraining = field(default_factory=DelayTraining)


@dataclass(frozen=True)
class SpikesConfig:
    """The steps of spikes that have times.

    Attributes:
        step_s: duration of a step.
        longest_s: longer streams are cut; 0 cuts none.
    """

    step_s: float = 4e-3
    longest_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.step_s > 0 or self.longest_s < 0:
            raise SpecError("give a step_s above 0, and a longest_s of 0 or more")


@dataclass(frozen=True)
class ValuesConfig:
    """The level-crossing encoder; offset and scale of each channel are learned from the training data.

    Attributes:
        step_s: time from one row to the next.
        quantile: share of a channel's values below its levels, and above them.
        scan: a ``row`` or a ``pixel`` of an image is a step.
    """

    levels: int = 12
    step_s: float = 0.01
    quantile: float = 0.01
    scan: Literal["row", "pixel"] = "row"

    def __post_init__(self) -> None:
        if self.levels < 1 or not self.step_s > 0 or not 0 <= self.quantile < 0.5:
            raise SpecError("give levels of 1 or more, a step_s above 0, and a quantile in [0, 0.5)")


@dataclass(frozen=True)
class EncoderConfig:
    """The settings of the encoders: a section for each kind of data, of which a run uses one."""

    audio: EncoderSpec = field(default_factory=EncoderSpec)
    spikes: SpikesConfig = field(default_factory=SpikesConfig)
    values: ValuesConfig = field(default_factory=ValuesConfig)


@dataclass(frozen=True)
class AugmentationConfig:
    """How examples are varied in training: a section for each kind of data, of which a run uses one."""

    audio: AugmentSpec = field(default_factory=AugmentSpec)
    spikes: SpikesAugmentSpec = field(default_factory=SpikesAugmentSpec)
    values: ValuesAugmentSpec = field(default_factory=ValuesAugmentSpec)


@dataclass(frozen=True)
class TrainSpec:
    """Optimiser, schedule and loss of a training.

    Attributes:
        epochs: passes over the training examples.
        batch: examples of an optimiser step.
        learning_rate: highest learning rate of the weights.
        decay_rate_factor: learning rate of the decays over that of the weights.
        clip: largest norm of the gradient.
        warmup: share of the steps in which the rate rises.
        final: share of the steps with the constant last rate; a cosine is between.
        extra_per_real: extra examples (synthesised voices) for each other example, redrawn every epoch.
        tail_steps: silence after an example in training.
        served_tail_steps: silence after an example in validation, and at the end of a session.
        bank_size: decays of each bank in training.
        refit_every: updates between two fits of the banks to the learned decays; 0: every epoch.
        average: decay of the running mean of the weights that is evaluated.
        sharpness: factor on the mean of softmax before the cross entropy.
        late: weight of a second cross entropy, on each step's potentials, which counts later steps more.
        tied: a neuron of the first layer learns one weight and one decay for all synapses from a band of audio
            (``hetsyn_model/training/tied_layer.py``).
        choose: criterion of the chosen epoch on the validation examples: ``accuracy`` (of equal ones the lower loss),
            or ``loss``.
    """

    epochs: int = 40
    batch: int = 64
    learning_rate: float = 2e-3
    decay_rate_factor: float = 2.0
    weight_decay: float = 4e-3
    clip: float = 5.0
    warmup: float = 0.05
    final: float = 0.05
    extra_per_real: float = 1.0
    tail_steps: int = 15
    served_tail_steps: int = 10
    bank_size: int = 6
    refit_every: int = 0
    smoothing: float = 0.05
    average: float = 0.998
    sharpness: float = 10.0
    late: float = 0.0
    tied: bool = False
    choose: Literal["accuracy", "loss"] = "accuracy"

    def __post_init__(self) -> None:
        for name, lowest in (
            ("epochs", 1),
            ("batch", 1),
            ("bank_size", 1),
            ("refit_every", 0),
            ("tail_steps", 0),
            ("served_tail_steps", 0),
        ):
            if getattr(self, name) < lowest:
                raise SpecError(f"{name}: {getattr(self, name)} is below {lowest}")
        for name in ("learning_rate", "decay_rate_factor", "clip", "sharpness"):
            if not getattr(self, name) > 0:
                raise SpecError(f"{name}: {getattr(self, name)} is not above 0")
        for name in ("weight_decay", "extra_per_real", "late"):
            if getattr(self, name) < 0:
                raise SpecError(f"{name}: {getattr(self, name)} is below 0")
        for name in ("warmup", "final", "smoothing", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"{name}: {getattr(self, name)} is not in [0, 1]")
        if self.warmup + self.final >= 1:
            raise SpecError(f"warmup {self.warmup} and final {self.final} leave no steps between them")


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on besides its data.

    Attributes:
        description: one line for people about the model; empty: it names the data.
        names: names of classes for people, by their labels in the data; a label without one is its own name.
        seed: for weights, batches and variation; ``split`` has its own.
        rejected: classes, by their labels in the data, for which a server answers null; labels that the data lack are
            ignored.
    """

    description: str = ""
    names: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    network: NetworkConfig = field(default_factory=NetworkConfig)
    neuron: NeuronSpec = field(default_factory=NeuronSpec)
    delays: DelaysConfig = field(default_factory=DelaysConfig)
    surrogate: SurrogateSpec = field(default_factory=SurrogateSpec)
    decision: DecisionSpec = field(default_factory=DecisionSpec)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    training: TrainSpec = field(default_factory=TrainSpec)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    split: SplitSpec = field(default_factory=SplitSpec)
    endpointing: EndpointingConfig = field(default_factory=EndpointingConfig)
    others: OthersSpec = field(default_factory=OthersSpec)
    rejected: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise SpecError(f"seed: {self.seed} is not from 0 to {2**32 - 1}")

    def to_dict(self) -> dict[str, Any]:
        """Return the values that :func:`config_from` takes, with lists for tuples."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


def shipped() -> tuple[str, ...]:
    """List the names of the shipped configurations."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


def load_config(source: str | Path | Mapping[str, Any] | None = None, kind: Kind | None = None) -> Config:
    """Load a configuration.

    Args:
        source: name of a shipped configuration, path of a TOML file, or its values; None: the shipped one for ``kind``.
        kind: kind of the data; its shipped configuration is the base if the source names none.

    Raises:
        ConfigError: there is no such file, or a key or a value is unknown.
    """
    if source is None:
        return config_from(_layered({}, kind, "config"), "config")
    if isinstance(source, Mapping):
        return config_from(_layered(source, kind, "config"), "config")
    return config_from(_layered(_read(source), kind, str(source)), str(source))


def _read(source: str | Path) -> dict[str, Any]:
    path = SHIPPED / f"{source}.toml" if str(source) in shipped() else Path(source)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise ConfigError(
            f"{path}: cannot be read ({reason}): give a TOML file, or one of {', '.join(shipped())}"
        ) from error


def _layered(values: Mapping[str, Any], kind: Kind | None, where: str) -> dict[str, Any]:
    """Merge values into those of their base."""
    own = dict(values)
    base = own.pop("base", kind)
    if base is None or base == "":
        return own
    if base not in shipped():
        raise ConfigError(f"{where}: base: {base!r} is not one of {', '.join(shipped())}")
    return _merged(_layered(_read(base), None, where), own)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        # names stay together: the base's are of other classes
        if isinstance(value, Mapping) and isinstance(under, Mapping) and key != "names":
            value = _merged(under, value)
        merged[key] = value
    return merged


def config_of_checkpoint(values: Mapping[str, Any], where: str) -> Config:
    """Read a checkpoint's configuration, also an earlier version's."""
    kept = deepcopy(dict(values))
    for *sections, key in (name.split(".") for name in EARLIER):
        reduce(lambda section, name: section.get(name, {}), sections, kept).pop(key, None)
    return config_from(kept, where)


def config_from(values: Mapping[str, Any], where: str = "config") -> Config:
    """Make a configuration of nested mappings; fields that they leave out have their defaults.

    Raises:
        ConfigError: a key is unknown, or a value does not fit its field. The message begins with ``where``.
    """
    _check_keys(values, Config, where)
    try:
        return TypeAdapter(Config).validate_json(json.dumps(values), strict=True)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}: dates and times have no place here") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {key}: {first['msg'].removeprefix('Value error, ')}") from error


def _check_keys(values: Mapping[str, Any], of: Any, where: str, prefix: str = "") -> None:
    known = {each.name for each in fields(of)}
    types = get_type_hints(of)
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"the keys here are {', '.join(sorted(known))}"
            raise ConfigError(f"{where}: there is no {prefix}{key}: {hint}")
        numbers = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ConfigError(f"{where}: {prefix}{key}: {value} is not finite: give a number")
        # a section, or an optional one
        section = next((each for each in (types[key], *get_args(types[key])) if is_dataclass(each)), None)
        if section is not None and not (value is None and section is not types[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {prefix}{key} is a section: write [{prefix}{key}] and its keys below it")
            _check_keys(value, section, where, f"{prefix}{key}.")


def to_toml(config: Config) -> str:
    """Write the configuration with every value, for :func:`load_config`."""
    values = config.to_dict()
    return "\n".join(["# every hyperparameter of the run", 'base = ""', *_table(values, "")]) + "\n"


def _table(values: Mapping[str, Any], name: str) -> list[str]:
    # JSON writes texts, numbers, booleans and lists as TOML does
    lines = [
        f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
        if not isinstance(value, dict | None)
    ]
    lines = [f"\n[{name}]", *lines] if name and (lines or not values) else lines
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _table(value, f"{name}.{_key(key)}" if name else _key(key))
    return lines


def _key(text: str) -> str:
    return (
        text
        if text.replace("_", "").isascii() and text.replace("_", "").isalnum()
        else json.dumps(text, ensure_ascii=False)
    )
