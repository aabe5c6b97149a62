"""A share of the training through a telephone's band."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.training.encoding.augment import AugmentSpec, augment_levels, telephone_line
from tests.support.data.words import words

STILL = AugmentSpec(
    speed=1.0,
    tempo=1.0,
    level_db=(-6.0, -6.0),
    noise_db=(-20.0, -20.0),  # noise fills every band
    tilt_db=0.0,
    ripple_db=0.0,
    warp=1.0,
    lead_steps=0,
)


@pytest.mark.parametrize("slope_db", [12.0, 48.0, 96.0])
def test_the_edges_are_3_db_down_and_the_slopes_are_as_given(slope_db: float) -> None:
    rate_hz = 16_000
    t = np.arange(rate_hz) / rate_hz

    def gain_db(hz: float) -> float:
        tone = np.sin(2 * np.pi * hz * t).astype(np.float32)
        passed = telephone_line(tone, rate_hz, np.array([slope_db, slope_db]))
        return float(10 * np.log10(np.square(passed).mean() / np.square(tone).mean()))

    assert gain_db(1_000) == pytest.approx(0.0, abs=0.4)
    assert gain_db(300) == pytest.approx(-3.0, abs=0.1)
    assert gain_db(3_400) == pytest.approx(-3.0, abs=0.1)
    assert gain_db(150) == pytest.approx(-slope_db, abs=0.4)  # an octave beyond the edges
    assert gain_db(6_800) == pytest.approx(-slope_db, abs=0.4)


def test_a_share_of_the_recordings_has_a_telephones_band() -> None:
    spec, some = EncoderSpec(), words(60, 0)

    def below_300_hz(share: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Noise in the lowest band less that in a middle one, [60]."""
        levels, _ = augment_levels(spec, some, 5, replace(STILL, telephone=share), np.random.default_rng(0))
        return np.asarray(np.median(levels[:, :, 0], 1) - np.median(levels[:, :, 12], 1))

    open_line, telephone, mixed = (below_300_hz(share) for share in (0.0, 1.0, 0.5))
    assert [int((of < -12.0).sum()) for of in (open_line, telephone)] == pytest.approx([0, 60], abs=3)
    assert 20 <= int((mixed < -12.0).sum()) <= 40
    assert telephone.std() > 1.2 * open_line.std()  # the slopes differ
