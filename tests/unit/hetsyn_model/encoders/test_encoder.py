"""Audio to spikes: the same for any cut, and sensible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsyn_model.encoders.encoder import Encoder, EncoderSpec
from hetsyn_model.spec import SpecError

SPEC = EncoderSpec()


def sound(steps: int, seed: int = 0) -> torch.Tensor:
    """[2, samples]: a gliding tone in noise, and noise alone."""
    rng = np.random.default_rng(seed)
    n = np.arange(steps * SPEC.step_samples)
    glide = 0.3 * np.sin(2 * np.pi * (300 + 0.1 * n) * n / SPEC.sample_rate_hz) * np.hanning(n.size)
    audio = np.stack([glide, np.zeros(n.size)]) + 0.003 * rng.normal(size=(2, n.size))
    return torch.from_numpy(audio.astype(np.float32))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_any_cut_gives_the_same_spikes(cuts: list[int], seed: int) -> None:
    encoder = Encoder(SPEC)
    audio = sound(sum(cuts), seed)
    whole, _ = encoder.step(audio, encoder.initial_state(2))
    state, start = encoder.initial_state(2), 0
    for cut in cuts:
        spikes, state = encoder.step(audio[:, start * 80 : (start + cut) * 80], state)
        assert torch.equal(spikes, whole[:, start : start + cut])
        start += cut


def test_later_sound_changes_no_earlier_spikes() -> None:
    encoder = Encoder(SPEC)
    audio = sound(40)
    changed = audio.clone()
    changed[:, 20 * 80 :] = 0.9
    before = encoder.step(audio, encoder.initial_state(2))[0][:, :20]
    assert torch.equal(encoder.step(changed, encoder.initial_state(2))[0][:, :20], before)


def test_silence_is_silent_and_sound_is_not() -> None:
    encoder = Encoder(SPEC)
    assert int(encoder.step(torch.zeros(1, 8000), encoder.initial_state(1))[0][:, 5:].sum()) == 0
    assert int(encoder.step(sound(100), encoder.initial_state(2))[0][0].sum()) > 200


def test_spikes_do_not_depend_on_the_level_of_a_loud_recording() -> None:
    encoder = Encoder(EncoderSpec(floor_db=-200.0, quietest_db=-120.0))
    quiet = encoder.step(sound(50) * 0.05, encoder.initial_state(2))[0]
    loud = encoder.step(sound(50), encoder.initial_state(2))[0]
    # the first step's levels rise from silence, the same for both
    assert float((quiet != loud).double().mean()) < 1e-3


def test_a_band_crosses_up_before_it_crosses_down() -> None:
    encoder = Encoder(SPEC)
    spikes = encoder.step(sound(60), encoder.initial_state(2))[0]
    up, down = spikes.view(2, 60, 2, SPEC.bands, SPEC.levels).cumsum(1).unbind(2)
    assert bool((up >= down).all())
    assert bool((up - down <= 1).all())


def test_a_tone_lights_up_its_band() -> None:
    encoder = Encoder(SPEC)
    for hz in (200.0, 1000.0, 3000.0):
        tone = 0.5 * torch.sin(2 * torch.pi * hz * torch.arange(8000) / 8000)
        frames = tone.double().unfold(0, SPEC.window_samples, SPEC.step_samples)
        mel = np.linspace(2595 * np.log10(1 + 100 / 700), 2595 * np.log10(1 + 3800 / 700), SPEC.bands + 2)[1:-1]
        centre = 700 * (10 ** (mel / 2595) - 1)
        levels = encoder.levels_db(frames) - torch.from_numpy(SPEC.emphasis_db())
        assert abs(centre[int(levels[5].argmax())] - hz) < 0.15 * hz


def test_part_of_a_step_is_refused() -> None:
    encoder = Encoder(SPEC)
    with pytest.raises(ValueError, match="whole number of steps"):
        encoder.step(torch.zeros(1, 81), encoder.initial_state(1))


@pytest.mark.parametrize("wrong", [{"bands": 0}, {"window_samples": 40}, {"high_hz": 5000.0}, {"low_hz": 3900.0}])
def test_impossible_encoders_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecError, match=r"encoder\."):
        EncoderSpec(**wrong)  # type: ignore[arg-type]


def test_a_warped_filterbank_stays_whole() -> None:
    for warp in (0.8, 1.0, 1.25):
        bank = SPEC.mel_filters(SPEC.mel_edges_hz() * warp)
        assert bank.shape == (129, SPEC.bands)
        assert bool((bank >= 0).all())
        assert bool((bank.sum(0) > 0).all())
