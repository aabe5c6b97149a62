"""The query of a request is parsed as Python's library does, faster."""

from __future__ import annotations

from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st

from service.api.infer import parse_query


@given(st.text("ab=&;%4+ \n\xe9", max_size=12))
def test_a_query_has_the_pairs_that_the_library_finds(text: str) -> None:
    assert parse_query(text.encode("latin-1")) == parse_qsl(text, keep_blank_values=True)
