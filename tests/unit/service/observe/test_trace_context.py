"""W3C Trace Context: what is taken, and what breaks its rules and is as good as nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.observe.context import CURRENT, RequestContext, described
from service.observe.trace_context import LONGEST_STATE, TraceContext, parse_trace

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("text", "flags"), [(VALID, 1), (f"00-{TRACE}-{PARENT}-00", 0), (f"cc-{TRACE}-{PARENT}-03-what-comes-later", 3)]
)
def test_valid_parents(text: str, flags: int) -> None:
    assert parse_trace([text], ["a=1", "b=2"]) == TraceContext(TRACE, PARENT, flags, "a=1,b=2")


@pytest.mark.parametrize(
    "text",
    [
        "", "00", VALID[:-1], VALID.upper(), f"ff-{TRACE}-{PARENT}-01", f"{VALID}-more", f"cc{VALID[2:]}more",
        f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[:-1]}g-{PARENT}-01",
    ],
)  # fmt: skip
def test_parents_that_break_a_rule(text: str) -> None:
    assert parse_trace([text]) is None


def test_two_parents_are_none() -> None:
    assert parse_trace([VALID, VALID]) is None


def test_a_long_state_is_left_out() -> None:
    trace = parse_trace([VALID], ["x" * (LONGEST_STATE + 1)])
    assert trace is not None
    assert trace.state == ""


@given(st.text())
def test_any_text_is_a_trace_or_none(text: str) -> None:
    trace = parse_trace([text])
    assert trace is None or trace.trace_id in text


def test_a_request_that_names_nothing_has_one_id_for_all_of_its_lines() -> None:
    request = RequestContext([(b"host", b"x")])
    lines = [request.context().run(described) for _ in range(2)]
    assert lines[0] == lines[1] == {"request_id": request.request_id}
    assert len(request.request_id) == 16
    assert CURRENT.get() is None


def test_metadata_and_headers_say_the_same() -> None:
    pairs = [("x-request-id", "7"), ("traceparent", VALID), ("tracestate", "a=1")]
    for headers in (pairs, [(name.encode(), value.encode()) for name, value in pairs]):
        request = RequestContext(headers)
        assert request.context().run(described) == {
            "request_id": "7", "trace_id": TRACE, "span_id": request.span_id,
        }  # fmt: skip
