from __future__ import annotations

import base64
import struct

import numpy as np
import pytest

from service.errors import InputError
from service.wire.pcm import decode_base64_pcm, decode_l16, decode_pcm, decode_wav
from tests.support.signals import sound
from tests.support.wav import wav


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
        (wav(bytes(200))[:100], "declares 200 bytes of samples, but contains 56"),
        (wav(bytes(100), width=1), "8-bit"),
        (wav(bytes(300), width=3), "24-bit"),
        (wav(bytes(80), channels=4), "4 channels"),
        (wav(bytes(80), rate_hz=100), "100 Hz is not within"),
    ],
)
def test_other_wavs_are_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        decode_wav(data)
