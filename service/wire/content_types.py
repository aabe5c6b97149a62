"""Content types of request bodies."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from hetsyn_client import carried_frame, events, values
from service.errors import InputError, UnsupportedInput

JSON_TYPE = "application/json"
CONTENT_TYPES = (
    JSON_TYPE, "audio/pcm;encoding=pcm_s16le;rate=8000", "audio/wav", "audio/flac", "audio/ogg", "audio/mpeg",
    "audio/L16;rate=8000;endianness=big-endian", "audio/L24;rate=8000", "audio/PCMU", "audio/PCMA", "audio/basic",
    events.MEDIA_TYPE, f"{values.MEDIA_TYPE};channels=3", carried_frame.MEDIA_TYPE,
)  # fmt: skip

_RECORDED = "a page sends PCM from an AudioWorklet, in place of a MediaRecorder's file"
_INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(("audio/webm", "video/webm", "audio/mp4", "video/mp4"), _RECORDED),
    "multipart/form-data": f"send the file itself as the body, with its content type; {_RECORDED}",
}
"""What the pages of browsers send, and what to do in place of each."""

LONGEST_TYPE = 256  # characters of a content type; accepted ones are cached
LONGEST = 100  # characters of what a client sent, in a message


@lru_cache(maxsize=256)  # errors are not cached
def parse_content_type(content_type: str) -> tuple[str, Mapping[str, str]]:
    """Parse the header ``Content-Type`` (RFC 9110, section 8.3).

    Returns:
        The media type in lower case, and the parameters: names in lower case, values unquoted.

    Raises:
        InputError: a parameter occurs twice.
        UnsupportedInput: it is longer than any that is accepted.
    """
    if len(content_type) > LONGEST_TYPE:
        raise unsupported(content_type)
    # not email.message: it follows RFC 2231, so "charset*" and "rate*0" would mean something that they do not in HTTP
    media_type, *rest = content_type.split(";")
    parameters: dict[str, str] = {}
    for part in rest:
        name, _, value = part.partition("=")
        name = name.strip().lower()
        if name in parameters:
            raise InputError(f"the content type's parameter {name[:LONGEST]!r} occurs twice: send it once")
        if name:
            parameters[name] = value.strip().strip('"')
    return media_type.strip().lower(), MappingProxyType(parameters)


def check_not_compressed(content_encoding: bytes) -> None:
    """Check the header ``Content-Encoding`` of a request.

    Raises:
        UnsupportedInput: the body is compressed.
    """
    encoding = content_encoding.strip().lower()
    if encoding and encoding != b"identity":
        shown = encoding[:LONGEST].decode("latin-1")
        raise UnsupportedInput(f"content encoding {shown!r} is not accepted: send the body uncompressed")


def unsupported(content_type: str) -> UnsupportedInput:
    """Make the error for a content type that ``POST /infer`` does not take."""
    shown = repr(content_type[:LONGEST])
    problem = f"content type {shown} is not accepted" if content_type else "the request has no content type"
    media_type = content_type.lower().partition(";")[0].strip()
    instead = f"; {_INSTEAD[media_type]}" if media_type in _INSTEAD else ""
    return UnsupportedInput(f"{problem}: send one of {', '.join(CONTENT_TYPES)}{instead}")
