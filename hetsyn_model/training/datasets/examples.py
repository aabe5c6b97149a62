"""Labelled examples of every kind of data: recordings, spikes and series of values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from hetsyn_model.training.datasets.data import DataError, Recording

Kind = Literal["audio", "spikes", "values"]
Part = Literal["train", "validation", "test"]


class Example(Protocol):
    """What training needs of an example."""

    @property
    def label(self) -> int: ...

    @property
    def group(self) -> str:
        """Return who or what it comes from, for example a speaker; empty if unknown."""
        ...

    @property
    def length(self) -> int:
        """Count its samples or steps."""
        ...

    def identity(self) -> tuple[str, tuple[NDArray[Any], ...]]:
        """Return a line and arrays that identify the example."""
        ...


T = TypeVar("T", bound=Example)
T_contra = TypeVar("T_contra", bound=Example, contravariant=True)


@dataclass(frozen=True)
class SpikeStream:
    """The spikes of an example, sorted by step, then unit, without repeats.

    Attributes:
        steps: int32 [events], step of each spike.
        units: int32 [events], channel of each spike.
        length: steps of the stream.
    """

    steps: NDArray[np.int32]
    units: NDArray[np.int32]
    length: int
    label: int
    group: str = ""

    def identity(self) -> tuple[str, tuple[NDArray[Any], ...]]:
        return f"{self.label} {self.group} {self.length} {self.steps.size}", (self.steps, self.units)

    @staticmethod
    def of(step: NDArray[Any], unit: NDArray[Any], length: int, label: int, group: str = "") -> SpikeStream:
        """Make a stream of spikes in any order; repeats become one."""
        width = int(unit.max()) + 1 if unit.size else 1
        cells = np.unique(step.astype(np.int64) * width + unit.astype(np.int64))
        return SpikeStream((cells // width).astype(np.int32), (cells % width).astype(np.int32), length, label, group)


@dataclass(frozen=True)
class Series:
    """A series of values, float32 [steps, channels]."""

    values: NDArray[np.float32]
    label: int
    group: str = ""

    @property
    def length(self) -> int:
        return len(self.values)

    def identity(self) -> tuple[str, tuple[NDArray[Any], ...]]:
        return f"{self.label} {self.group} {self.values.shape}", (self.values,)


Item: TypeAlias = Recording | SpikeStream | Series


@dataclass(frozen=True)
class Examples:
    """A data set in memory.

    Attributes:
        items: the examples, all of one type.
        labels: names of the classes; examples have their indices.
        source: name of the data, for people.
        channels: channels of spikes or values; 1 for audio.
        is_guess: the number of channels was derived from the highest unit.
        parts: use of each example if the data say it, else None.
    """

    kind: Kind
    items: tuple[Item, ...]
    labels: tuple[str, ...]
    source: str
    channels: int = 1
    parts: tuple[Part, ...] | None = None
    is_guess: bool = False

    def check_classes(self) -> None:
        """Check that a classifier can be trained: two classes or more, with different names, none empty."""
        if len(self.labels) < 2:
            every = f"all {len(self.items)} examples are of class {self.labels[0]!r}" if self.labels else "no examples"
            raise DataError(f"{self.source}: {every}: a classifier needs two classes or more")
        twice = [label for label in self.labels if self.labels.count(label) > 1]
        if twice:
            raise DataError(f"{self.source}: two classes are named {twice[0]!r}: give each a name of its own")
        empty = sorted(set(range(len(self.labels))) - {item.label for item in self.items})
        if empty:
            raise DataError(
                f"{self.source}: class {self.labels[empty[0]]!r} has no examples: add some, or leave the class out"
            )

    def as_of(self, other: Examples) -> Examples:
        """Return the examples with the classes of another data set.

        Raises:
            DataError: the other lacks a class or a channel, or has another kind of data.
        """
        if self.kind != other.kind:
            raise DataError(f"{self.source}: contains {self.kind}, but {other.source} contains {other.kind}")
        unknown = [label for label in self.labels if label not in other.labels]
        if unknown:
            raise DataError(
                f"{self.source}: label {unknown[0]!r} is not one of {other.source}: {', '.join(other.labels)}"
            )
        fits = self.channels <= other.channels if self.kind == "spikes" else self.channels == other.channels
        if not fits:
            raise DataError(
                f"{self.source}: has {self.channels} channels, but {other.source} has {other.channels}: "
                "give both the same channels"
            )
        index = [other.labels.index(label) for label in self.labels]
        items = tuple(replace(item, label=index[item.label]) for item in self.items)
        return Examples(self.kind, items, other.labels, self.source, other.channels)


def indexed(labels: Sequence[object], names: Sequence[str] | None = None) -> tuple[list[int], tuple[str, ...]]:
    """Convert labels to indices of classes. Returns these and the classes' names, sorted, numbers by value.

    With ``names``, the labels are their indices.
    """
    if names is not None:
        return [int(str(label)) for label in labels], tuple(names)
    texts = [str(label) for label in labels]
    distinct = sorted(set(texts), key=lambda text: (0, int(text), text) if text.isdecimal() else (1, 0, text))
    index = {text: number for number, text in enumerate(distinct)}
    return [index[text] for text in texts], tuple(distinct)


def digest_of(items: Iterable[Example]) -> str:
    """Return the count and a digest of examples, over every sample or spike."""
    digest, count = hashlib.blake2b(digest_size=8), 0
    for item in items:
        line, arrays = item.identity()
        digest.update(f"{line}\n".encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        count += 1
    return f"{count} recordings, {digest.hexdigest()}"
