"""Content types of request bodies."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message
from functools import lru_cache
from types import MappingProxyType

from hetsyn_client import events, frames
from service.errors import InputError, UnsupportedInput

JSON_TYPE = "application/json"
L16_TYPE = "audio/l16"
WAV_TYPES = ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave")
CONTENT_TYPES = (
    JSON_TYPE, WAV_TYPES[0], "audio/L16;rate=8000", events.MEDIA_TYPE, frames.MEDIA_TYPE,
)  # fmt: skip

LONGEST = 100  # characters of a client's in a message


@lru_cache(maxsize=256)
def parse_content_type(content_type: str) -> tuple[str, Mapping[str, str]]:
    """Parse the header ``Content-Type`` (RFC 9110, section 8.3).

    Returns:
        The media type in lower case, and the parameters: names in lower case, values unquoted.

    Raises:
        InputError: a parameter occurs twice, or is encoded as in mail (RFC 2231).
    """
    message = Message()
    message["Content-Type"] = content_type
    (media_type, _), *rest = message.get_params(failobj=[("", "")], unquote=True)
    parameters: dict[str, str] = {}
    for name, value in rest:
        name = name.strip().lower()
        if isinstance(value, tuple):
            raise InputError(f"the content type's parameter {name[:LONGEST]!r} is encoded: send it as it is")
        if name in parameters:
            raise InputError(f"the content type's parameter {name[:LONGEST]!r} is there twice: send it once")
        if name:
            parameters[name] = value.strip()
    return media_type.strip().lower(), MappingProxyType(parameters)


def unsupported(content_type: str) -> UnsupportedInput:
    """The error for a content type that ``POST /infer`` does not take."""
    problem = (
        f"content type {content_type[:LONGEST]!r} is not taken" if content_type else "the request has no content type"
    )
    return UnsupportedInput(f"{problem}: send one of {', '.join(CONTENT_TYPES)}")
