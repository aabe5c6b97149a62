"""All cases, area by area."""

from __future__ import annotations

from tests.long.hostile.attacks import (
    artifacts,
    decoding,
    framing,
    headers,
    imports,
    memory,
    messages,
    proxied,
    sessions,
    stores,
    valkey_stores,
    work,
)
from tests.long.hostile.case import Case

AREAS = (
    framing, headers, proxied, decoding, messages, memory, work, imports, sessions, stores, valkey_stores, artifacts,
)  # fmt: skip
CASES: tuple[Case, ...] = tuple(case for area in AREAS for case in area.CASES)
