"""Session records that are altered and then sealed again, so that only their meaning is wrong."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

HEAD = struct.Struct("<4sHBBQ32sddQQIIQQ8I")
CHECKSUM_BYTES = 32
STEPS_BYTES = 8  # behind the network's row
# where a field stands in the head
TOTAL_BYTES, CREATED_S, USED_S, EXPECTED_SEQ, TOTAL_STEPS, RECEIVED = 4, 6, 7, 8, 9, 12
SIZES = 14
DIGEST, REPLY, NETWORK = 2, 3, 4  # sections


@dataclass(frozen=True)
class SessionRecord:
    """A record in its parts, as ``service/store/record.py`` describes them.

    Attributes:
        head: fields of the head, without the sizes of the sections.
        sections: the eight sections.
    """

    head: tuple[Any, ...]
    sections: tuple[bytes, ...]

    @classmethod
    def parse(cls, content: bytes) -> SessionRecord:
        fields = HEAD.unpack_from(content)
        sections, begin = [], HEAD.size
        for size in fields[SIZES:]:
            sections.append(content[begin : begin + size])
            begin += size
        return cls(fields[:SIZES], tuple(sections))

    def sealed(self) -> bytes:
        """The bytes, with the right lengths and checksum."""
        sizes = [len(section) for section in self.sections]
        head = list(self.head)
        head[TOTAL_BYTES] = HEAD.size + sum(sizes) + CHECKSUM_BYTES
        content = HEAD.pack(*head, *sizes) + b"".join(self.sections)
        return content + hashlib.sha256(content).digest()

    def with_head(self, fields: Mapping[int, Any]) -> SessionRecord:
        return replace(self, head=tuple(fields.get(index, value) for index, value in enumerate(self.head)))

    def with_section(self, index: int, content: bytes) -> SessionRecord:
        return replace(self, sections=(*self.sections[:index], content, *self.sections[index + 1 :]))

    def with_reply(self, **members: Any) -> SessionRecord:
        reply = json.loads(self.sections[REPLY]) | members
        return self.with_section(REPLY, json.dumps(reply, separators=(",", ":")).encode())

    def with_readout(self, readout: str) -> SessionRecord:
        """With a readout as JSON text, which need not be right."""
        reply = json.loads(self.sections[REPLY])
        reply.pop("readout", None)
        text = json.dumps(reply, separators=(",", ":"))
        return self.with_section(REPLY, f'{text[:-1]},"readout":{readout}}}'.encode())

    def with_network(self, value: float) -> SessionRecord:
        """With one value in all of the network's row."""
        network = self.sections[NETWORK]
        words = (len(network) - STEPS_BYTES) // 4
        return self.with_section(NETWORK, np.full(words, value, "<f4").tobytes() + network[-STEPS_BYTES:])
