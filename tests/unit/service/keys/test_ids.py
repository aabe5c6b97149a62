from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from service.keys.ids import client_id, inner_id, owner_of
from service.wire.schema import SESSION_ID

KEYS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
IDS = st.from_regex(re.compile(SESSION_ID.removesuffix("$") + r"\Z", re.ASCII), fullmatch=True)


@given(KEYS | st.just(""), IDS)
def test_both_parts_come_back(key: str, session: str) -> None:
    inner = inner_id(key, session)
    assert (owner_of(inner), client_id(inner)) == (key, session)


@given(KEYS | st.just(""), IDS, KEYS | st.just(""), IDS)
def test_two_sessions_never_meet(key: str, session: str, other: str, second: str) -> None:
    assert (inner_id(key, session) == inner_id(other, second)) is ((key, session) == (other, second))
