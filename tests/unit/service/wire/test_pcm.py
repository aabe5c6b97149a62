from __future__ import annotations

import base64
import io
import struct
import wave

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.resampler import Resampler
from service.errors import InputError
from service.wire.pcm import Samples, decode_base64_pcm, decode_l16, decode_pcm, decode_wav
from tests.support.signals import sound


def wav(frames: bytes, rate_hz: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate_hz)
        writer.writeframes(frames)
    return file.getvalue()


def test_pcm_is_scaled_to_one() -> None:
    data = struct.pack("<3h", -32_768, 0, 16_384)
    np.testing.assert_array_equal(decode_pcm(data, "<i2"), np.array([-1, 0, 0.5], np.float32))
    assert decode_pcm(data, "<i2").dtype == np.float32
    np.testing.assert_array_equal(decode_base64_pcm(base64.b64encode(data).decode()), decode_pcm(data, "<i2"))


@pytest.mark.parametrize("text", ["AAA", "A", "AA A", "AA-_", "ä", "AAAAA==="])
def test_cut_off_or_foreign_base64_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="base64"):
        decode_base64_pcm(text)


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(InputError, match="3 bytes are not a whole number of 16-bit samples"):
        decode_base64_pcm(base64.b64encode(b"123").decode())


def test_l16_is_in_network_order_unless_it_says_so() -> None:
    samples = np.array([1, -2, 300], np.int16)
    expected = samples.astype(np.float32) / 32_768
    for dtype, parameters in (
        (">i2", {"rate": "8000"}),
        (">i2", {"rate": "8000", "channels": "1", "endianness": "big-endian"}),
        ("<i2", {"rate": "8000", "endianness": "little-endian"}),
    ):
        decoded, rate_hz = decode_l16(samples.astype(dtype).tobytes(), parameters)
        assert rate_hz == 8000
        np.testing.assert_array_equal(decoded, expected)


def test_stereo_is_averaged() -> None:
    stereo = np.array([[100, 300], [-100, 100]], np.int16)
    expected = np.array([200, 0], np.float32) / 32_768
    np.testing.assert_array_equal(decode_wav(wav(stereo.tobytes(), channels=2))[0], expected)
    decoded, _ = decode_l16(stereo.astype(">i2").tobytes(), {"rate": "8000", "channels": "2"})
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({}, "needs its sample rate"),
        ({"rate": "fast"}, "rate='fast' is not a whole number"),
        ({"rate": "-8000"}, "not a whole number"),
        ({"rate": "1" * 5000}, "not a whole number"),
        ({"rate": "8"}, "not within 1000-192000 Hz"),
        ({"rate": "8000", "channels": "3"}, "3 channels"),
        ({"rate": "8000", "endianness": "middle"}, "endianness"),
        ({"rate": "8000", "codec": "x"}, "no parameter 'codec'"),
    ],
)
def test_bad_l16_parameters_are_refused(parameters: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        decode_l16(b"\0\0", parameters)


def test_wav_is_decoded() -> None:
    samples = sound(500)
    decoded, rate_hz = decode_wav(wav(samples.tobytes(), 16_000))
    assert rate_hz == 16_000
    np.testing.assert_array_equal(decoded, samples.astype(np.float32) / 32_768)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "cut off within its header"),
        (b"RIFF", "cut off within its header"),
        (b"OggS" + bytes(100), "not a WAV file"),
        (wav(bytes(200))[:100], "declares 200 bytes of samples and holds 56"),
        (wav(bytes(100), width=1), "8-bit"),
        (wav(bytes(300), width=3), "24-bit"),
        (wav(bytes(80), channels=4), "4 channels"),
        (wav(bytes(80), rate_hz=100), "100 Hz is not within"),
    ],
)
def test_other_wavs_are_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        decode_wav(data)


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
    rate_hz=st.sampled_from([4000, 8000, 11_025, 12_345, 16_000, 22_050, 44_100, 48_000]),
    length=st.integers(0, 6000),
    cuts=st.lists(st.integers(0, 6000), max_size=20),
)
def test_any_cutting_gives_the_same_samples(rate_hz: int, length: int, cuts: list[int]) -> None:
    samples = sound(length).astype(np.float32) / np.float32(32_768)
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
