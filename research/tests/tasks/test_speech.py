"""The speech experiment's settings, which its kept results depend on."""

from __future__ import annotations

from dataclasses import asdict

from hetsyn_model.encoder import EncoderSpec
from hetsyn_model.training.augment import AugmentSpec
from research.tasks.speech import ROOM_AND_LINE, SERVED_TAIL_STEPS, SHARPNESS, SMOOTHING, TAIL_STEPS, Speech


def test_encoder_and_variation_are_those_of_the_kept_results() -> None:
    """They belong to the shipped model's training: who changes them there pins them here, or runs the experiment."""
    assert EncoderSpec(emphasis_db_per_octave=4.0, contrast=0.5, top_db=-9.0, spacing_db=2.0) == Speech().encoder
    assert asdict(ROOM_AND_LINE) == asdict(AugmentSpec()) | {
        "tempo": 1.35,
        "noise_db": (-60.0, -18.0),
        "tilt_db": 8.0,
        "ripple_db": 4.0,
        "brighten_db_per_octave": 2.0,
        "delete": 0.05,
        "mask_bands": 2,
        "mask_steps": 2,
    }
    assert (TAIL_STEPS, SERVED_TAIL_STEPS, SMOOTHING, SHARPNESS) == (15, 10, 0.05, 10.0)
