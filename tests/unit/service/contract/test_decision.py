from __future__ import annotations

import numpy as np
import pytest

from service.contract.decision import class_probabilities, is_decided, is_distribution, is_possible_score, softmax
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


@pytest.mark.parametrize(
    ("rule", "score", "low", "is_possible"),
    [
        ("sum_softmax", (1.0, 3.0), (-1e-8, 1e-7), True),
        ("sum_softmax", (1.0, 3.0), (0.0, 1e11), False),
        ("sum_softmax", (1.0, 3.0), (0.0, float("nan")), False),
        ("sum_softmax", (1.0, 30.0), (0.0, 0.0), False),
        ("late_softmax", (0.25, 0.75), (-1e-8, 1e-8), True),
        ("late_softmax", (0.25, 0.75), (0.0, 1e-3), False),
        ("late_softmax", (1.0, 3.0), (0.0, 0.0), False),
        ("late_softmax", (0.25, float("nan")), (0.0, 0.0), False),
        ("spike_count", (0.0, 4.0), (0.0, 0.0), True),
        ("spike_count", (0.0, 5.0), (0.0, 0.0), False),
    ],
)
def test_a_score_follows_from_its_steps(
    rule: str, score: tuple[float, float], low: tuple[float, float], is_possible: bool
) -> None:
    decision = Decision.model_validate({"rule": rule, "skip_steps": 2, "tail_steps": 0})
    assert is_possible_score(decision, np.array(score, np.float32), np.array(low, np.float32), 6) is is_possible


def test_a_count_may_be_rounded_up_to_more_than_its_steps() -> None:
    decision = Decision(rule="spike_count", skip_steps=0, tail_steps=0)
    steps = 2**24 + 3
    assert is_possible_score(decision, np.array([0, steps], np.float32), np.array([0, -1], np.float32), steps)


def test_a_score_that_stands_still_stays_possible() -> None:
    """One float32 of format 2: a share of 0.1 adds nothing from 2^21 on."""
    decision, steps = Decision(rule="sum_softmax", skip_steps=0, tail_steps=0), 10**12
    score = np.full(10, 2**21, np.float32)
    assert is_possible_score(decision, score, None, steps)
    assert is_distribution(class_probabilities(decision, score, steps).tolist())
    assert not is_distribution([0.0, 0.0])


def test_what_a_cell_of_somebody_else_adds_up_may_be_any_number() -> None:
    decision = Decision(rule="spike_count", skip_steps=0, tail_steps=0)
    score, low = np.array([-2, 50], np.float32), np.zeros(2, np.float32)
    assert not is_possible_score(decision, score, low, 6)
    assert is_possible_score(decision, score, low, 6, counts_spikes=False)
