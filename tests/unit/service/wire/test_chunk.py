from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client.events import pack_events
from service.errors import InputError
from service.wire.chunk import AudioChunk, SpikeChunk, dense_chunk, digest, joined_chunks, part_of_chunk, spike_chunk
from service.wire.events import unpack_events


def test_events_are_sorted_and_a_pair_counts_once() -> None:
    chunk = spike_chunk(5, [3, 0, 3, 0, 3], [1, 9, 1, 2, 0])
    assert chunk.steps == 5
    assert list(zip(chunk.step.tolist(), chunk.unit.tolist(), strict=True)) == [(0, 2), (0, 9), (3, 0), (3, 1)]


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 9)), max_size=60))
def test_dense_and_events_are_the_same_chunk(pairs: list[tuple[int, int]]) -> None:
    rows = np.zeros((20, 10))
    for step, unit in pairs:
        rows[step, unit] = 1
    dense = dense_chunk(rows.tolist())
    events = spike_chunk(20, [step for step, _ in pairs], [unit for _, unit in pairs])
    np.testing.assert_array_equal(dense.step, events.step)
    np.testing.assert_array_equal(dense.unit, events.unit)
    assert digest(dense, False) == digest(events, False)


@pytest.mark.parametrize(
    ("steps", "times", "units", "sentence"),
    [
        (5, [0, 1], [0], "2 times and 1 units"),
        (5, [0, 5], [0, 0], r"times\[1\] is 5, outside the chunk's 5 steps"),
        (5, [-1], [0], r"times\[0\] is -1"),
        (5, [0], [-2], r"units\[0\] is -2"),
        (5, [0], [2**40], r"units\[0\]"),
        (5, [2**70], [0], r"times\[0\] is 1.18059e\+21, which is not a whole number of at most 53 bits"),
        (-1, [], [], "steps is -1"),
        (0, [0], [0], "outside the chunk's 0 steps"),
    ],
)
def test_bad_events_are_refused(steps: int, times: list[int], units: list[int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        spike_chunk(steps, times, units)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([[0, 1], [0, 2]], r"spikes\[1\]\[1\] is 2"),
        ([[0.5]], r"spikes\[0\]\[0\] is 0.5"),
        ([[0, float("nan")]], r"spikes\[0\]\[1\] is nan"),
        ([[float("inf")]], r"spikes\[0\]\[0\] is inf"),
        ([[0, 1], [0]], r"spikes\[1\] has 1 values, but spikes\[0\] has 2"),
        ([[]], r"spikes\[0\] is empty"),
    ],
)
def test_bad_dense_rows_are_refused(rows: list[list[float]], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        dense_chunk(rows)


def test_steps_beyond_all_limits_do_not_overflow() -> None:
    assert spike_chunk(10**30, [], []).steps == 2**31 - 1


def test_the_digest_covers_content_and_end() -> None:
    audio = AudioChunk(np.zeros(3, np.float32), 8000)
    different = [
        digest(audio, False),
        digest(audio, True),
        digest(AudioChunk(np.zeros(4, np.float32), 8000), False),
        digest(AudioChunk(np.ones(3, np.float32), 8000), False),
        digest(AudioChunk(np.zeros(3, np.float32), 16_000), False),
        digest(spike_chunk(3, [], []), False),
        digest(spike_chunk(4, [], []), False),
        digest(spike_chunk(3, [1], [2]), False),
        digest(spike_chunk(3, [2], [1]), False),
        digest(None, True),
    ]
    assert len(set(different)) == len(different)
    assert digest(audio, False) == digest(AudioChunk(np.zeros(3, np.float32), 8000), False)


def test_packed_events_are_cut_and_joined_beyond_16_bits() -> None:
    steps, events = 2**16, ([0, 40_000, 2**16 - 1], [2**16 - 1, 7, 0])
    packed, wide = unpack_events(pack_events(steps, *events)), spike_chunk(steps, *events)
    assert packed.step.nbytes == 6  # as they came
    pairs = [(joined_chunks(packed, packed), joined_chunks(wide, wide))]
    bounds = [(0, steps), (39_999, 40_001), (40_001, steps - 1), (steps - 1, steps), (steps, steps), (1, steps + 30)]
    pairs += [(part_of_chunk(packed, *cut), part_of_chunk(wide, *cut)) for cut in bounds]
    for one, other in pairs:
        assert isinstance(one, SpikeChunk)
        assert isinstance(other, SpikeChunk)
        assert one.steps == other.steps
        assert one.step.tolist() == other.step.tolist()
        assert one.unit.tolist() == other.unit.tolist()
        assert digest(one, False) == digest(other, False)
    assert digest(packed._replace(positions=None), False) == digest(packed, False) == digest(wide, False)
