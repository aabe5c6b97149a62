"""The rules of the endpointer, on activities that are easy to follow."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contract.endpointing import Endpointing
from service.engine.endpointer import Found, Hearing, Rules, scan

SETTINGS = Endpointing(threshold=10.0, onset_s=0.03, preroll_s=0.1, silence_s=0.2, no_speech_s=1.0, max_s=2.0)
QUIET, LOUD = -70.0, -20.0


def found(activity: list[float], settings: Endpointing = SETTINGS, *, is_sound: bool = True) -> list[tuple[int, Found]]:
    """After which steps of 10 ms something is found, and what; an utterance begins where it is found."""
    rules, hearing, at = Rules.of(settings, 0.01, is_sound=is_sound), Hearing(), 0
    all_found: list[tuple[int, Found]] = []
    while at < len(activity):
        hearing, used, what = scan(rules, hearing, activity[at:])
        at += used
        if what is not None:
            all_found.append((at, what))
            hearing = hearing._replace(is_speech=what == "start", steps=0, run=0)
    return all_found


def test_speech_begins_after_its_onset_and_ends_after_the_hang_over() -> None:
    (start, begins), (end, ends) = found([QUIET] * 50 + [LOUD] * 30 + [QUIET] * 40)
    assert (begins, ends) == ("start", "silence")
    assert 53 <= start <= 55  # three steps, and the smoothing
    assert 100 <= end <= 106  # twenty steps, and the smoothing


def test_a_click_is_no_speech() -> None:
    assert found([QUIET] * 50 + [LOUD] + [QUIET] * 40) == []


def test_a_gap_that_is_shorter_than_the_hang_over_ends_nothing() -> None:
    events = found([QUIET] * 50 + [LOUD] * 20 + [QUIET] * 15 + [LOUD] * 20 + [QUIET] * 40)
    assert [what for _, what in events] == ["start", "silence"]


def test_a_level_between_both_thresholds_goes_on() -> None:
    between = QUIET + 7.0  # above half of the threshold, and below it
    assert found([QUIET] * 50 + [between] * 40) == []
    assert [what for _, what in found([QUIET] * 50 + [LOUD] * 10 + [between] * 100)] == ["start"]


def test_silence_is_told_again_and_again() -> None:
    assert found([QUIET] * 350) == [(100, "nothing"), (200, "nothing"), (300, "nothing")]
    assert found([QUIET] * 350, SETTINGS.model_copy(update={"no_speech_s": 0.0})) == []


def test_an_utterance_has_a_greatest_length() -> None:
    speech = ([LOUD] * 20 + [QUIET + 4.0] * 10) * 30  # with gaps, as speech has them
    events = found([QUIET] * 50 + speech)
    assert events[1] == (events[0][0] + 200, "length")
    assert {what for _, what in events} == {"start", "length"}


@pytest.mark.parametrize("before", [0, 50, 300])
def test_a_noise_that_stays_is_no_speech(before: int) -> None:
    events = found([QUIET] * before + [-25.0, -26.0, -24.5, -25.5] * 200)
    heard = [what for _, what in events if what != "nothing"]
    assert heard == ["start", "noise"]
    assert events[1][0] <= events[0][0] + 200


def test_speech_in_a_noise_that_stays_is_heard() -> None:
    noise = [-25.0, -26.0, -24.5, -25.5] * 50
    events = found(noise + [-5.0] * 30 + noise)
    assert [what for _, what in events if what != "nothing"] == ["start", "noise", "start", "silence"]


def test_a_stream_may_begin_with_speech() -> None:
    assert [what for _, what in found([LOUD] * 30 + [QUIET] * 50)] == ["start", "silence"]


def test_a_background_that_rises_slowly_is_no_speech() -> None:
    assert "start" not in [what for _, what in found([QUIET + 0.015 * step for step in range(2_000)])]


def test_spikes_are_counted_above_their_background() -> None:
    settings = SETTINGS.model_copy(update={"threshold": 2.0})
    events = found([1.0] * 50 + [9.0] * 30 + [1.0] * 40, settings, is_sound=False)
    assert [what for _, what in events] == ["start", "silence"]


@given(
    activity=st.lists(st.floats(-90, 0), max_size=300),
    cuts=st.lists(st.integers(0, 300), max_size=20),
)
def test_the_result_does_not_hang_on_how_the_steps_are_cut(activity: list[float], cuts: list[int]) -> None:
    rules = Rules.of(SETTINGS, 0.01, is_sound=True)
    whole, used, what = scan(rules, Hearing(), activity)
    hearing, at = Hearing(), 0
    for first, last in pairwise(sorted({0, *(min(cut, len(activity)) for cut in cuts), len(activity)})):
        hearing, count, now = scan(rules, hearing, activity[first:last])
        at += count
        if now is not None:
            assert (hearing, at, now) == (whole, used, what)
            return
    assert (hearing, at, None) == (whole, used, what)


@pytest.mark.parametrize("step_s", [1e-6, 0.001, 0.25, 3600.0])
def test_rules_have_whole_steps_of_any_length(step_s: float) -> None:
    rules = Rules.of(SETTINGS, step_s, is_sound=True)
    assert min(rules.onset, rules.silence, rules.longest, rules.no_speech) >= 1
    assert 0.0 <= rules.memory < 1.0
