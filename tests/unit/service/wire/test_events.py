from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client.events import pack_events
from service.errors import InputError
from service.wire.chunk import spike_chunk
from service.wire.events import unpack_events


def test_the_layout_is_the_documented_one() -> None:
    assert pack_events(7, [3, 1], [258, 2]) == b"HSE1" + struct.pack("<II4H", 7, 2, 1, 3, 2, 258)


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 65_535)), max_size=50))
def test_what_is_packed_is_unpacked(pairs: list[tuple[int, int]]) -> None:
    times, units = [step for step, _ in pairs], [unit for _, unit in pairs]
    found, expected = unpack_events(pack_events(1000, times, units)), spike_chunk(1000, times, units)
    assert found.steps == 1000
    np.testing.assert_array_equal(found.step, expected.step)
    np.testing.assert_array_equal(found.unit, expected.unit)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"HSE2" + bytes(8), "does not begin with HSE1"),
        (b"HSE1" + bytes(7), "does not begin with HSE1"),
        (pack_events(5, [1], [1])[:-1], "1 packed events take 16 bytes, the body has 15"),
        (pack_events(5, [1], [1]) + b"x", "the body has 17"),
        (b"HSE1" + struct.pack("<II", 5, 2**32 - 1), "the body has 12"),
        (b"HSE1" + struct.pack("<II2H", 5, 1, 5, 0), r"times\[0\] is 5"),
    ],
)
def test_other_bytes_are_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        unpack_events(data)


def test_what_does_not_fit_is_not_packed() -> None:
    with pytest.raises(InputError, match="unit 65536 is beyond 16 bits"):
        pack_events(5, [1], [65_536])
    with pytest.raises(InputError, match="time 65536 is beyond 16 bits"):
        pack_events(80_000, [65_536], [1])
