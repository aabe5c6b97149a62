"""Records with other content and a right checksum, as somebody writes them who knows the format."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from service.store.record import checksum

HEAD = struct.Struct("<4sHBB32sddQQIIQQ10I")
FIXED, SECTIONS = 13, 10


class Head(IntEnum):
    """Fields of a record's head."""

    status, flags, _hash, created, used, expected, steps, rate, target, received, emitted = range(2, FIXED)


class Section(IntEnum):
    """Sections of a record."""

    session, names, digest, reply, network, encoder, waiting, pending, utterances, recent = range(SECTIONS)


def sections(record: bytes) -> list[bytes]:
    """The sections of a record."""
    parts, offset = [], HEAD.size
    for size in HEAD.unpack_from(record)[FIXED:]:
        parts.append(record[offset : offset + size])
        offset += size
    return parts


def rewritten(
    record: bytes,
    head: Mapping[Head, Any] | None = None,
    parts: Mapping[Section, bytes] | None = None,
    **reply: Any,
) -> bytes:
    """A record with other fields in its head, other sections, or other fields in its last reply."""
    fields, content = list(HEAD.unpack_from(record)), sections(record)
    for field, value in (head or {}).items():
        fields[field] = value
    if reply:
        fields_of_reply = json.loads(content[Section.reply]) | reply
        content[Section.reply] = json.dumps(fields_of_reply, separators=(",", ":")).encode()
    for section, value in (parts or {}).items():
        content[section] = value
    fields[FIXED:] = [len(part) for part in content]
    body = HEAD.pack(*fields) + b"".join(content)
    return body + checksum(body)
