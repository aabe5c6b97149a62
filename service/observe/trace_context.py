"""Reads a request's trace (W3C Trace Context, https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

LONGEST_STATE = 512  # characters of ``tracestate`` that are kept; the standard asks for no more
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceContext(NamedTuple):
    """Where a request stands in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        parent_id: 16 hexadecimal digits: the span that sent the request.
        flags: bit 0 says that the trace is recorded.
        state: ``tracestate``, unchanged.
    """

    trace_id: str
    parent_id: str
    flags: int = 0
    state: str = ""


def parse_trace(parents: Sequence[str], states: Sequence[str] = ()) -> TraceContext | None:
    """Parse the trace of a request; None if it names none, or breaks the rules of the standard.

    Args:
        parents: all values of ``traceparent``; the standard allows one.
        states: all values of ``tracestate``, in order.
    """
    found = _PARENT.fullmatch(parents[0].strip()) if len(parents) == 1 else None
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not (trace_id.strip("0") and parent_id.strip("0")):
        return None
    state = ",".join(states)
    return TraceContext(trace_id, parent_id, int(flags, 16), state if len(state) <= LONGEST_STATE else "")


def new_span_id() -> str:
    """Make a random id of 16 hexadecimal digits."""
    return secrets.token_hex(8)


def new_trace_id() -> str:
    """Make a random id of 32 hexadecimal digits."""
    return secrets.token_hex(16)
