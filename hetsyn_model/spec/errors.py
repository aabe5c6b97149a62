"""The errors of descriptions, and the base of those of networks, training and export."""

from __future__ import annotations

from hetsyn_client.errors import HetsynError as HetsynError
from hetsyn_client.errors import InputError as InputError


class ModelError(InputError, ValueError):
    """What a network, a training or an export was given cannot be used. It is a ValueError, too."""

    code = "bad-value"


class SpecError(ModelError):
    """A description that no network can have; the message names the field and what it may be."""

    code = "bad-spec"


def require(condition: bool, message: str) -> None:
    """Raise a SpecError unless a condition holds."""
    if not condition:
        raise SpecError(message)
