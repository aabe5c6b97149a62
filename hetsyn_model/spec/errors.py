"""The error of a description."""

from __future__ import annotations


class SpecError(ValueError):
    """A description that no network can have; the message names the field and what it may be."""


def require(condition: bool, message: str) -> None:
    """Raise a SpecError unless a condition holds."""
    if not condition:
        raise SpecError(message)
