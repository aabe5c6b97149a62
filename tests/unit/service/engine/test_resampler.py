from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.resampler import COMMON_RATES_HZ, SAMPLES_AT_ONCE, Resampler, check_rates
from service.errors import InputError
from service.wire.chunk import Samples
from tests.support.data.signals import audio_chunk, sound

MICROPHONES_HZ = (
    8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000
)  # fmt: skip


def resampled(samples: Samples, rate_hz: int, cuts: list[int]) -> Samples:
    resampler = Resampler.between(rate_hz, 8000)
    outputs = []
    for piece in np.split(samples, sorted(cuts)):
        resampler, output = resampler.push(piece)
        outputs.append(output)
    resampler, output = resampler.flush()
    whole = np.concatenate([*outputs, output])
    assert (resampler.received, resampler.emitted) == (len(samples), len(whole))
    return whole


@settings(max_examples=40)
@given(
    rate_hz=st.sampled_from([4000, 12_345, *MICROPHONES_HZ]),
    length=st.integers(0, 6000),
    cuts=st.lists(st.integers(0, 6000), max_size=20),
)
def test_any_cutting_gives_the_same_samples(rate_hz: int, length: int, cuts: list[int]) -> None:
    samples = audio_chunk(sound(length)).samples
    np.testing.assert_array_equal(resampled(samples, rate_hz, cuts), resampled(samples, rate_hz, []))


@pytest.mark.parametrize("rate_hz", [4000, 11_025, 12_345, 16_000, 44_100, 48_000])
def test_it_is_what_soxr_makes_of_the_whole(rate_hz: int) -> None:
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, rate_hz).astype(np.float32)
    expected = soxr.resample(samples, rate_hz, 8000)
    found = resampled(samples, rate_hz, [100, 1000])
    assert len(found) == len(expected)
    # soxr's own first samples depend on how it was started
    np.testing.assert_allclose(found[100:], expected[100:], atol=1e-5)


def test_the_models_own_rate_passes_as_it_is() -> None:
    samples = sound(100).astype(np.float32)
    resampler, output = Resampler.between(8000, 8000).push(samples)
    np.testing.assert_array_equal(output, samples)
    assert len(resampler.flush()[1]) == 0


def test_push_leaves_the_resampler_as_it_was() -> None:
    resampler, _ = Resampler.between(16_000, 8000).push(sound(1000).astype(np.float32))
    before = resampler.waiting.copy()
    first = resampler.push(np.ones(1000, np.float32))[1]
    np.testing.assert_array_equal(resampler.waiting, before)
    np.testing.assert_array_equal(resampler.push(np.ones(1000, np.float32))[1], first)


def test_what_waits_is_bounded() -> None:
    resampler = Resampler.between(44_100, 8000)
    for _ in range(50):
        resampler, _ = resampler.push(np.zeros(4410, np.float32))
        assert len(resampler.waiting) < 0.1 * 44_100


@pytest.mark.parametrize("rate_hz", [1_000, 191_975, *MICROPHONES_HZ])
def test_little_sound_waits_and_no_silence(rate_hz: int) -> None:
    check_rates(rate_hz, 8000)
    resampler, _ = Resampler.between(rate_hz, 8000).push(np.zeros(1, np.float32))
    assert len(resampler.waiting) <= 1
    for _ in range(50):
        resampler, _ = resampler.push(np.zeros(rate_hz // 100, np.float32))
        assert resampler.waiting.nbytes <= 100_000


@pytest.mark.parametrize("rate_hz", [1_001, 11_127, 12_345, 44_101, 191_999])
def test_a_rate_without_a_common_divisor_is_refused(rate_hz: int) -> None:
    with pytest.raises(InputError, match=r"is not taken.*Resample to 8000, 16000, 44100, 48000 Hz"):
        check_rates(rate_hz, 8000)


def test_common_rates_are_taken_by_each_other() -> None:
    for one in (*COMMON_RATES_HZ, *MICROPHONES_HZ):
        for other in (*COMMON_RATES_HZ, *MICROPHONES_HZ):
            check_rates(one, other)


@settings(max_examples=40)
@given(
    rate_hz=st.sampled_from([4000, 12_345, *MICROPHONES_HZ]),
    length=st.integers(0, 6000),
    cut=st.integers(0, 6000),
)
def test_it_goes_on_from_its_numbers_with_the_silence(rate_hz: int, length: int, cut: int) -> None:
    """Stored sessions have the silence before the stream among the waiting samples."""
    samples = audio_chunk(sound(length)).samples
    before, first = Resampler.between(rate_hz, 8000).push(samples[:cut])
    stored = before.with_silence()
    loaded = Resampler.from_record(rate_hz, 8000, stored, before.received, before.emitted)
    np.testing.assert_array_equal(loaded.waiting, before.waiting)
    after, second = loaded.push(samples[cut:])
    rest = after.flush()[1]
    np.testing.assert_array_equal(np.concatenate([first, second, rest]), resampled(samples, rate_hz, []))


def test_a_low_rate_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    resample, samples_at_once = soxr.resample, []

    def counting(windows: Samples, *rates: int) -> Samples:
        output: Samples = resample(windows, *rates)
        samples_at_once.append(max(windows.size, output.size))
        return output

    monkeypatch.setattr(soxr, "resample", counting)
    _, output = Resampler.between(1_000, 8_000).push(np.zeros(200_000, np.float32))
    assert len(output) > 1_500_000
    assert max(samples_at_once) <= SAMPLES_AT_ONCE
