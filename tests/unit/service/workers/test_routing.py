"""Which worker has a session, and what the first bytes of a connection say."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.workers.routing import Routing, hint, session_of

IDS = st.from_regex(r"[A-Za-z0-9._~:-]{1,128}", fullmatch=True)


@given(IDS, st.integers(1, 64), st.integers(0, 2**63 - 1))
def test_all_workers_agree_on_who_has_a_session(session: str, count: int, seed: int) -> None:
    owners = {Routing(index, count, seed).worker_of(session) for index in range(count)}
    assert len(owners) == 1
    assert 0 <= owners.pop() < count


def test_sessions_are_spread_evenly() -> None:
    counted = Counter(Routing(0, 4, 7).worker_of(f"session-{n}") for n in range(4_000))
    assert set(counted) == {0, 1, 2, 3}
    assert max(counted.values()) < 1.2 * min(counted.values())


@pytest.mark.parametrize("index", range(3))
def test_an_id_that_a_worker_makes_is_its_own(index: int) -> None:
    routing = Routing(index, 3, 99)
    made = {routing.new_id() for _ in range(50)}
    assert len(made) == 50
    assert {routing.worker_of(one) for one in made} == {index}


@given(IDS, st.sampled_from(["POST /infer", "GET /stream"]), st.integers(0, 9))
def test_the_first_line_says_the_session(session: str, request: str, seq: int) -> None:
    # ids need no escapes in a query
    query = f"seq={seq}&session={session}&end=true"
    said = hint(f"{request}?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert said is not None
    assert said.session == session
    assert session_of([("seq", "1"), ("session", session)]) == session


@given(IDS)
def test_other_requests_say_the_session_too(session: str) -> None:
    for method, more in (("GET", ""), ("DELETE", ""), ("GET", "/state"), ("PUT", "/state?replace=true")):
        said = hint(f"{method} /sessions/{session}{more} HTTP/1.1\r\n\r\n".encode())
        assert said is not None
        assert said.session == session
    body = f'{{"model": "m", "session" : "{session}", "seq": 0}}'
    said = hint(f"POST /infer HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{body}".encode())
    assert said is not None
    assert said.session == session


@pytest.mark.parametrize(
    ("head", "places"),
    [
        ("POST /infer HTTP/1.1\r\n\r\n", True),
        ("POST /infer?model=m&end=true HTTP/1.1\r\n\r\n", True),
        ("GET /stream?encoding=events HTTP/1.1\r\n\r\n", True),
        ("GET /health/ready HTTP/1.1\r\n\r\n", False),
        ("GET /metrics HTTP/1.1\r\n\r\n", False),
        ("POST /infer?session=half", False),
        ("POST /inferno?session=a HTTP/1.1\r\n\r\n", False),
        ("\x16\x03\x01", False),
        ("", False),
    ],
)
def test_a_request_without_a_session_has_any_worker_or_stays(head: str, places: bool) -> None:
    said = hint(head.encode("latin-1"))
    assert (said is not None) is places
    assert said is None or said.session is None


def test_a_session_that_its_client_carries_has_no_worker() -> None:
    assert session_of([("session", "a"), ("carry", "true")]) is None
    assert session_of([]) is None


@given(st.binary(max_size=300))
def test_no_bytes_are_an_error(data: bytes) -> None:
    hint(data)
    hint(b"POST /infer?" + data)
    hint(b"POST /infer?" + urlencode({"session": data}).encode() + b" HTTP/1.1\r\n" + data)
