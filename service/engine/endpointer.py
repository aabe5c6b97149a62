"""Finds where utterances begin and end: a state machine over one number a step, without input, output or clock.

The number is the step's activity: the level of sound in dB, or the number of spikes of other input. It is smoothed, and
compared with a background that follows it: quickly down, slowly up, and hardly up during speech. The background is at
least the lowest recent activity, since speech has gaps: so a lasting noise becomes background.

    phase     after each step                                              found
    -------   ----------------------------------------------------------   -------
    silence   ``threshold`` above the background for ``onset``             start
    silence   no speech for ``no_speech`` (rule 1)                         nothing
    speech    below ``release * threshold`` for ``silence`` (rule 2)       silence
    speech    the utterance has ``longest`` steps (rule 3)                 length
    speech    as before, but nothing rose above the present background     noise

``scan`` stops at the first step at which something is found. The result is the same however the input is cut. It does
not use the encoder's spikes of sound: the encoder normalises the level, so noise gives as many spikes as speech (44 and
40 a step at 20 dB, 1 and 31 without noise).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Literal, NamedTuple

from service.contract.endpointing import SHORTEST_S, Endpointing

Found = Literal["start", "nothing", "silence", "length", "noise"]

SMOOTHING_S = 0.02
FALL = 0.3  # share of the distance down to the activity by which the background falls in a step
RISE_IN_SILENCE, RISE_IN_SPEECH = 0.2, 0.05  # shares of the threshold that the background rises in a second
GAP_S = 0.75  # speech falls nearly to its background within this time, at most within twice of it
FIRST_BACKGROUND_DB = -40.0  # highest first background: a stream may begin with speech
LOWEST = -1e9  # below every activity
QUIETEST = 1e-9  # power of a step with the level -90 dB


class Rules(NamedTuple):
    """Settings in steps; ``Endpointing`` describes the first seven.

    Attributes:
        release: rise below which speech is silence.
        no_speech: 0 for never.
        memory: share of the smoothed activity that is left after a step.
        rise_in_silence: largest rise of the background in a step of silence.
        rise_in_speech: largest rise of the background in a step of speech.
        first_background: highest background of a stream's first step.
        gap: steps within which speech falls nearly to its background.
    """

    threshold: float
    release: float
    onset: int
    preroll: int
    silence: int
    no_speech: int
    longest: int
    memory: float
    rise_in_silence: float
    rise_in_speech: float
    first_background: float
    gap: int

    @staticmethod
    def of(settings: Endpointing, step_s: float, *, is_sound: bool) -> Rules:
        def steps(duration_s: float) -> int:
            return max(1, round(duration_s / step_s))

        rise = settings.threshold * step_s
        return Rules(
            settings.threshold,
            settings.threshold * settings.release,
            steps(settings.onset_s),
            round(settings.preroll_s / step_s),
            steps(settings.silence_s),
            steps(max(settings.no_speech_s, SHORTEST_S)) if settings.no_speech_s else 0,
            steps(settings.max_s),
            exp(-step_s / SMOOTHING_S),
            RISE_IN_SILENCE * rise,
            RISE_IN_SPEECH * rise,
            FIRST_BACKGROUND_DB if is_sound else 0.0,
            steps(GAP_S),
        )


class Hearing(NamedTuple):
    """The state of an endpointer.

    Attributes:
        is_speech: an utterance is under way.
        steps: steps of the utterance, or since the last one.
        run: how many steps in a row, up to now, point to the other phase: quiet ones in speech, loud ones in silence.
        skip: steps at the beginning of an utterance that were heard already.
        activity: smoothed activity.
        peak: the highest activity of the utterance.
        low: the lowest activity of the last ``low_steps`` steps.
        last_low: the lowest activity of the ``gap`` steps before them.
    """

    is_speech: bool = False
    steps: int = 0
    run: int = 0
    skip: int = 0
    activity: float = 0.0
    background: float = 0.0
    has_begun: bool = False
    peak: float = 0.0
    low: float = 0.0
    last_low: float = LOWEST
    low_steps: int = 0


def scan(rules: Rules, hearing: Hearing, activity: Sequence[float]) -> tuple[Hearing, int, Found | None]:
    """Scan steps up to the first one at which something is found.

    Returns:
        The state after, the number of scanned steps, and what was found at the last of them.
    """
    is_speech, steps, run, skip, smooth, background, has_begun, peak, low, last_low, low_steps = hearing
    found: Found | None = None
    used = 0
    for now in activity:
        used += 1
        steps += 1
        if skip:
            skip -= 1
            continue
        if has_begun:
            smooth = rules.memory * smooth + (1.0 - rules.memory) * now
        else:
            smooth, background, has_begun = now, min(now, rules.first_background), True
            peak = low = now
        low, low_steps = min(low, smooth), low_steps + 1
        if low_steps == rules.gap:
            low, last_low, low_steps = smooth, low, 0
        rise = smooth - background
        if rise < 0.0:
            background += FALL * rise
        else:
            background += rules.rise_in_speech if is_speech else rules.rise_in_silence
        background = max(background, min(low, last_low))
        rise = smooth - background
        if is_speech:
            peak = max(peak, smooth)
            run = run + 1 if rise < rules.release else 0
            found = "silence" if run >= rules.silence else "length" if steps >= rules.longest else None
            if found is not None and peak - background < rules.threshold:
                found = "noise"
            elif found == "length":
                background = max(
                    background, smooth
                )  # input as loud as the utterance's end does not begin the next utterance at once
        else:
            peak = smooth
            run = run + 1 if rise >= rules.threshold else 0
            if run >= rules.onset:
                found = "start"
            elif rules.no_speech and not run and steps >= rules.no_speech:
                found = "nothing"
        if found is not None:
            break
    after = Hearing(is_speech, steps, run, skip, smooth, background, has_begun, peak, low, last_low, low_steps)
    return after, used, found
