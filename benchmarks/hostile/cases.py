"""All cases, area by area."""

from __future__ import annotations

from benchmarks.hostile import decoding, framing, headers, memory, proxied, work
from benchmarks.hostile.case import Case

CASES: tuple[Case, ...] = (
    *framing.CASES, *headers.CASES, *proxied.CASES, *decoding.CASES, *memory.CASES, *work.CASES,
)  # fmt: skip
