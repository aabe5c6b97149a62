from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client import carried_frame, columns, events
from hetsyn_client.carried_frame import Frame, pack_frame, unpack_frame
from hetsyn_client.errors import InputError
from service.carried import token
from service.store import record


@given(st.binary(max_size=50), st.text("abc/;=", max_size=20), st.binary(max_size=50))
def test_a_frame_is_what_was_framed(token: bytes, content_type: str, body: bytes) -> None:
    assert unpack_frame(pack_frame(token, content_type, body)) == Frame(token, content_type, body)


def test_a_frame_that_is_cut_off_is_refused() -> None:
    whole = pack_frame(b"token", "audio/wav", b"")
    for length in range(len(whole)):
        with pytest.raises(InputError):
            unpack_frame(whole[:length])


@given(st.binary(max_size=40))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        unpack_frame(data if not data.startswith(b"HSF1") else b"x" + data)


def test_a_content_type_is_ascii() -> None:
    with pytest.raises(InputError, match="not ASCII"):
        unpack_frame(pack_frame(b"", "ab", b"").replace(b"ab", b"\xff\xff"))


def test_each_binary_format_has_a_name_of_its_own() -> None:
    names = [*columns.NAMES, events.MAGIC, carried_frame.MAGIC, record.MAGIC, token.MAGIC]
    assert len(set(names)) == len(names)
