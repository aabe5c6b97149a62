"""The error of a description."""

from __future__ import annotations


class SpecError(ValueError):
    """A description that no network can have; the message names the field and what it may be."""


def require(condition: bool, message: str) -> None:
    """Refuse a description unless a condition holds.

    Raises:
        SpecError: the condition does not hold.
    """
    if not condition:
        raise SpecError(message)
