"""Lists and replaces the tensors in nested dataclasses, by their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

Value = TypeVar("Value")


def tensors_of(value: Any, place: str = "") -> dict[str, Tensor]:
    """List the tensors of a value by their place: ``PLACE.field.field``."""
    if isinstance(value, Tensor):
        return {place: value}
    found: dict[str, Tensor] = {}
    for field in fields(value) if is_dataclass(value) else ():
        found |= tensors_of(getattr(value, field.name), f"{place}.{field.name}" if place else field.name)
    return found


def with_tensors(value: Value, tensors: Mapping[str, Tensor], place: str = "") -> Value:
    """Return a copy with other tensors, by the places of :func:`tensors_of`."""
    if isinstance(value, Tensor):
        return tensors[place]  # type: ignore[return-value]
    if not is_dataclass(value) or isinstance(value, type):
        return value
    kept = {field.name: getattr(value, field.name) for field in fields(value)}
    new = {name: with_tensors(part, tensors, f"{place}.{name}" if place else name) for name, part in kept.items()}
    return replace(value, **new) if any(new[name] is not kept[name] for name in kept) else value


def detached(value: Value) -> Value:
    """Return a copy with constants for tensors, without gradients."""
    return with_tensors(value, {place: tensor.detach() for place, tensor in tensors_of(value).items()})
