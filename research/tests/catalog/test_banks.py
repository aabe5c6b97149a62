"""The parts of a test that the exact form gets are the whole in other batches."""

from __future__ import annotations

import numpy as np
import pytest

from research.tasks.delayed_match import DelayedMatch, DelayedMatchSpec
from research.tasks.task import in_batches


@pytest.mark.parametrize("size", [1, 3, 50])
def test_streams_are_the_same_in_smaller_batches(size: int) -> None:
    whole = DelayedMatch(DelayedMatchSpec(delay_ms=100, test_trials=10)).test()
    parts = list(in_batches(whole, size))
    assert max(len(part.steps) for part in parts) == min(size, 10)
    assert np.array_equal(np.concatenate([part.dense() for part in parts]), whole[0].dense())
    assert np.concatenate([part.target for part in parts]).tolist() == whole[0].target.tolist()
    assert sum(len(part.steps) for part in parts) == 10
