"""The configuration of a training run: every hyperparameter, in one TOML file.

A file gives what differs from a base: another shipped configuration that it names (``base = "speech-digits"``), else
the shipped one of the kind of data: ``audio``, ``spikes`` or ``values``. ``config.toml`` in the folder of a run has
every value.
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

from hetsyn_model.encoder import EncoderSpec
from hetsyn_model.quiet import quiet_steps
from hetsyn_model.spec import DecisionSpec, NeuronSpec, PathSpec, SpecError, SurrogateSpec
from hetsyn_model.training.augment import AugmentSpec
from hetsyn_model.training.endpointing import EndpointingConfig
from hetsyn_model.training.examples import Kind
from hetsyn_model.training.front import SpikesAugmentSpec, ValuesAugmentSpec
from hetsyn_model.training.others import OthersSpec
from hetsyn_model.training.schedule import DelayTraining
from hetsyn_model.training.split import SplitSpec

# keys of earlier versions, without effect on the network that a run kept
REMOVED = ("phonemes", "kernel", "training.distillation")
MOVED = {"encoder.spikes.channels": "network.channels"}
SHIPPED = Path(__file__).with_name("configs")


class ConfigError(ValueError):
    """A configuration that cannot be read or used; the message names the file and the field."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network; see :class:`hetsyn_model.spec.NetworkSpec`. The data give outputs and step.

    Attributes:
        channels: 0 for what the data say; of times of spikes, for the highest unit and one.
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
        training: how delays are learned.
    """

    input: PathSpec = field(default_factory=PathSpec)
    recurrent: PathSpec = field(default_factory=PathSpec)
    training: DelayTraining = field(default_factory=DelayTraining)


@dataclass(frozen=True)
class SpikesConfig:
    """How times of spikes become steps.

    Attributes:
        step_s: duration of a step, in seconds.
        longest_s: streams are cut here; 0 cuts none.
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
        levels: of each channel.
        step_s: time from one row to the next, in seconds.
        quantile: share of a channel's values that may lie below its levels, and the same above them.
        scan: of images: a ``row`` or a ``pixel`` a step.
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
    """What makes the network's spikes; the section of the data's kind counts."""

    audio: EncoderSpec = field(default_factory=EncoderSpec)
    spikes: SpikesConfig = field(default_factory=SpikesConfig)
    values: ValuesConfig = field(default_factory=ValuesConfig)


@dataclass(frozen=True)
class AugmentationConfig:
    """How examples are varied in training; the section of the data's kind counts."""

    audio: AugmentSpec = field(default_factory=AugmentSpec)
    spikes: SpikesAugmentSpec = field(default_factory=SpikesAugmentSpec)
    values: ValuesAugmentSpec = field(default_factory=ValuesAugmentSpec)


@dataclass(frozen=True)
class TrainSpec:
    """How a network is trained.

    Attributes:
        epochs: passes over the training examples.
        batch: examples of an optimiser step.
        learning_rate: highest, of the weights.
        decay_rate_factor: learning rate of the decays over that of the weights.
        weight_decay: of the weights.
        clip: largest norm of the gradient.
        warmup: share of the steps with a rising rate.
        final: share of the steps with a constant last rate; cosine between.
        extra_per_real: extra examples (synthesised voices) for each other one, redrawn every epoch.
        tail_steps: silence after an example in training.
        served_tail_steps: silence after an example in validation, and at the end of a session.
        quiet_s: a stream, also a served one, begins in the state that so much silence leaves behind, in seconds.
        bank_size: decays of each bank in training.
        refit_every: updates between two fits of the banks to the decays, which move on; 0: they are fitted every epoch.
        smoothing: of the labels.
        average: decay of the running mean of the weights that is evaluated.
        sharpness: factor on the mean of softmax before the cross entropy.
        late: weight of a second cross entropy, on each step's potentials, that counts the later steps of a stream most.
        tied: a neuron of the first layer learns one weight and one decay for all synapses from a band of audio
            (``hetsyn_model/training/tied_layer.py``).
        choose: what the chosen epoch is best in on the validation examples: ``accuracy`` (of equal ones the lower
            loss), or ``loss``.
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
    quiet_s: float = 0.0

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
        quiet_steps(self.quiet_s, 1.0)
        if self.warmup + self.final >= 1:
            raise SpecError(f"warmup {self.warmup} and final {self.final} leave no steps between them")


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on besides its data.

    Attributes:
        description: of the model, one line for people; empty for one that names the data.
        names: of classes for people, by their labels in the data; a label without one is its own name.
        seed: of weights, batches and variation; ``split`` has its own.
        network: sizes.
        neuron: the neuron model.
        delays: of the spikes.
        surrogate: derivative of the threshold in training.
        decision: how the readout becomes a decision.
        encoder: what makes the spikes.
        training: optimiser, schedule and loss.
        augmentation: how examples are varied.
        split: how examples are divided.
        endpointing: how a server finds utterances.
        others: classes that are added to the data, for what is none of their words.
        rejected: classes, by their labels in the data, that a server answers with null instead of their name; those
            that the data do not have are ignored.
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
        """As :func:`config_from` takes it, with lists for tuples."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


def shipped() -> tuple[str, ...]:
    """Names of the configurations that come with hetsyn."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


def load_config(source: str | Path | Mapping[str, Any] | None = None, kind: Kind | None = None) -> Config:
    """A configuration.

    Args:
        source: name of a shipped one, path of a TOML file, or what such a file would hold; None for that of the kind.
        kind: of the data, whose shipped configuration is the base where the source names none.

    Raises:
        ConfigError: there is no such file, or it has a key or a value that no configuration has.
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
    """Lay the values over those of their base."""
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
        # these belong together: those of another vocabulary are of no use
        if isinstance(value, Mapping) and isinstance(under, Mapping) and key != "names":
            value = _merged(under, value)
        merged[key] = value
    return merged


def config_of_checkpoint(values: Mapping[str, Any], where: str) -> Config:
    """A configuration as a checkpoint has it, also one of an earlier version.

    Raises:
        ConfigError: as :func:`config_from`.
    """
    kept = deepcopy(dict(values))
    for *sections, key in (name.split(".") for name in (*REMOVED, *MOVED)):
        reduce(lambda section, name: section.get(name, {}), sections, kept).pop(key, None)
    return config_from(kept, where)


def config_from(values: Mapping[str, Any], where: str = "config") -> Config:
    """A configuration from nested mappings; what they leave out has its default.

    Args:
        values: by the names of the fields.
        where: they come from, for messages.

    Raises:
        ConfigError: a key is unknown, or a value is not what its field takes.
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
        if prefix + key in REMOVED:
            raise ConfigError(f"{where}: there is no {prefix}{key} any more, because it gave nothing: delete it")
        if prefix + key in MOVED:
            raise ConfigError(f"{where}: {prefix}{key} is {MOVED[prefix + key]} now: move it there")
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"the keys here are {', '.join(sorted(known))}"
            raise ConfigError(f"{where}: there is no {prefix}{key}: {hint}")
        numbers = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ConfigError(f"{where}: {prefix}{key}: {value} is not finite: give a number")
        # a section, or one that may be left out
        section = next((each for each in (types[key], *get_args(types[key])) if is_dataclass(each)), None)
        if section is not None and not (value is None and section is not types[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {prefix}{key} is a section: write [{prefix}{key}] and its keys below it")
            _check_keys(value, section, where, f"{prefix}{key}.")


def to_toml(config: Config) -> str:
    """The configuration with every value, as :func:`load_config` reads it."""
    values = config.to_dict()
    return "\n".join(["# every hyperparameter of the run", 'base = ""', *_table(values, "")]) + "\n"


def _table(values: Mapping[str, Any], name: str) -> list[str]:
    # JSON's texts, numbers, booleans and lists are TOML's
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
