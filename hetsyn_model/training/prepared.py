"""Prepares data for a run: divides them, and fits the encoder and the network's description to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from hetsyn_model.encoders.level_crossing import LevelCrossingSpec
from hetsyn_model.spec import NetworkSpec
from hetsyn_model.training.config import Config, ConfigError
from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.examples import Examples, Item, Kind, Series
from hetsyn_model.training.datasets.others import with_others
from hetsyn_model.training.datasets.split import By, split
from hetsyn_model.training.encoding.front import AudioFront, Front, SpikesFront, ValuesFront
from hetsyn_model.training.labelled import LabelledSplit


@dataclass(frozen=True)
class Prepared:
    """Divided data, and the encoder for them.

    Attributes:
        data: training and validation examples.
        test: examples that judge the network; may be empty.
        labels: the data's names of the classes.
        by: rule by which the examples were divided.
        is_guess: the number of channels was derived from the highest unit.
    """

    config: Config
    front: Front[Any]
    spec: NetworkSpec
    data: LabelledSplit[Any]
    test: list[Item]
    labels: tuple[str, ...]
    by: By
    kind: Kind
    source: str
    is_guess: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Return the classes' names for people."""
        return tuple(self.config.names.get(label, label) for label in self.labels)

    @property
    def description(self) -> str:
        return self.config.description or f"{len(self.labels)} classes, trained on {Path(self.source).name}"


def prepare(
    examples: Examples,
    config: Config,
    *,
    test: Examples | None = None,
    extra: Examples | None = None,
    leave_out: Sequence[str] = (),
    spec: NetworkSpec | None = None,
) -> Prepared:
    """Divide examples, and fit encoder and network description to them.

    Args:
        examples: to train on; the classes of ``config.others`` are added.
        test: examples that judge the network, instead of a part of the others.
        extra: examples for training alone, a share of them in each epoch. Examples of groups that are left out or that
            judge are dropped.
        leave_out: groups that judge the network and are not trained on.
        spec: your own network's; None: as the configuration says.

    Raises:
        DataError: the examples do not suffice, or do not fit together.
        ConfigError: the configuration does not fit the data.
        SpecError: no network can have this description.
    """
    examples = with_others(examples, config.others, config.encoder.audio.sample_rate_hz, config.split)
    examples.check_classes()
    if set(examples.labels) <= set(config.rejected):
        raise ConfigError("rejected: names every class, so that a server would answer none: name fewer")
    if test is not None and leave_out:
        raise DataError("test data and left-out groups: give one of the two")
    named = [config.names.get(label, label) for label in examples.labels]
    twice = [name for name in named if named.count(name) > 1]
    if twice:
        raise ConfigError(f"names: two classes become {twice[0]!r}: give each a name of its own")
    groups = sorted({item.group for item in examples.items if item.group})
    unknown = sorted(set(leave_out) - set(groups))
    if unknown:
        raise DataError(f"group {unknown[0]!r} is not in {examples.source}: it has {', '.join(groups) or 'no groups'}")
    kept = [index for index, item in enumerate(examples.items) if item.group not in leave_out]
    known = [examples.items[index] for index in kept]
    own = None if examples.parts is None else [examples.parts[index] for index in kept]
    parts = split(known, examples.labels, config.split, with_test=test is None and not leave_out, own=own)
    judged = [item for item in examples.items if item.group in leave_out] if leave_out else parts.test
    if test is not None:
        judged = list(test.as_of(examples).items)
    front = _front(examples, config, parts.train)
    spec = _spec(examples, config, front, spec)
    judging = set(leave_out)
    if parts.by in ("group", "own"):
        judging |= {item.group for item in (*parts.validation, *judged)} - {""}
    pool = [] if extra is None else [item for item in extra.as_of(examples).items if item.group not in judging]
    return Prepared(
        config,
        front,
        spec,
        LabelledSplit(parts.train, pool, parts.validation),
        judged,
        examples.labels,
        parts.by,
        examples.kind,
        examples.source,
        examples.is_guess,
    )


def _front(examples: Examples, config: Config, train: Sequence[Item]) -> Front[Any]:
    encoder, augment = config.encoder, config.augmentation
    if examples.kind == "audio":
        return AudioFront(encoder.audio, augment.audio)
    if examples.kind == "spikes":
        return SpikesFront(examples.channels, encoder.spikes.step_s, augment.spikes)
    if config.training.tail_steps or config.training.served_tail_steps:
        raise ConfigError(
            "training.tail_steps and served_tail_steps: no silence follows a series of values: set both to 0"
        )
    spec = LevelCrossingSpec.learn(
        [cast(Series, item).values for item in train],
        levels=encoder.values.levels,
        step_s=encoder.values.step_s,
        quantile=encoder.values.quantile,
    )
    return ValuesFront(spec, augment.values)


def _spec(examples: Examples, config: Config, front: Front[Any], own: NetworkSpec | None) -> NetworkSpec:
    if own is None:
        sizes = asdict(config.network)
        own = NetworkSpec(
            channels=sizes.pop("channels") or front.channels,
            outputs=len(examples.labels),
            step_s=front.step_s,
            neuron=config.neuron,
            surrogate=config.surrogate,
            decision=config.decision,
            input_path=config.delays.input,
            recurrent_path=config.delays.recurrent,
            **sizes,
        )
    if own.decision.rule == "trace":
        raise ConfigError("decision.rule: a trace gives no class: use sum_softmax, late_softmax, spike_count or last")
    if config.training.tied and own.input_path.is_delayed:
        raise ConfigError("training.tied: the synapses of a tied layer have no delays: leave delays.input out")
    if config.training.tied and (own.bias or not own.neuron.per_synapse):
        raise ConfigError(
            "training.tied: the synapses of a tied layer have a decay each and no bias: set training.tied to false, or "
            "network.bias to false and neuron.decays to synapse, with a decay_range above 0"
        )
    if own.channels != front.channels:
        raise ConfigError(f"the network takes {own.channels} channels, but {examples.source} gives {front.channels}")
    if own.outputs != len(examples.labels):
        raise ConfigError(
            f"the network has {own.outputs} outputs, but {examples.source} has {len(examples.labels)} classes"
        )
    return own
