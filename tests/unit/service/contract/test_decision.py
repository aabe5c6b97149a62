from __future__ import annotations

import numpy as np
import pytest

from service.contract.decision import class_probabilities, is_decided, is_distribution, softmax
from service.contract.manifest import Decision

SCORE = np.array([1.0, 3.0], np.float32)


def test_probabilities_come_from_the_score() -> None:
    summed = Decision(rule="sum_softmax", skip_steps=2, tail_steps=0)
    np.testing.assert_allclose(class_probabilities(summed, SCORE, 6), [0.25, 0.75])
    np.testing.assert_allclose(class_probabilities(summed, SCORE, 2), [0.5, 0.5])
    late = Decision(rule="late_softmax", skip_steps=2, tail_steps=0)
    mean = np.array([0.25, 0.75], np.float32)
    np.testing.assert_array_equal(class_probabilities(late, mean, 6), mean)
    np.testing.assert_allclose(class_probabilities(late, mean, 2), [0.5, 0.5])
    last = Decision(rule="last", skip_steps=2, tail_steps=0)
    np.testing.assert_allclose(class_probabilities(last, SCORE, 0), np.exp(SCORE) / np.exp(SCORE).sum())


@pytest.mark.parametrize("offset", [0.0, 1000.0, -1000.0])
def test_a_softmax_of_large_values_is_finite(offset: float) -> None:
    np.testing.assert_allclose(softmax(SCORE + np.float32(offset)), np.exp(SCORE) / np.exp(SCORE).sum(), rtol=1e-6)


def test_the_first_step_after_the_skipped_ones_decides() -> None:
    decision = Decision(rule="last", skip_steps=2, tail_steps=0)
    assert [is_decided(decision, step) for step in (0, 2, 3)] == [False, False, True]


def test_a_score_that_stands_still_gives_probabilities() -> None:
    """One float32 of format 2: a share of 0.1 adds nothing from 2^21 on."""
    decision, steps = Decision(rule="sum_softmax", skip_steps=0, tail_steps=0), 10**12
    score = np.full(10, 2**21, np.float32)
    assert is_distribution(class_probabilities(decision, score, steps).tolist())
    assert not is_distribution([0.0, 0.0])
