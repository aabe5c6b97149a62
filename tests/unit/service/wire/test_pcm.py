from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from service.errors import InputError
from service.wire.sound import FORMATS, decode_base64, decode_samples


@pytest.mark.parametrize(
    ("encoding", "subtype", "endian"),
    [
        ("pcm_s16le", "PCM_16", "LITTLE"),
        ("pcm_s16be", "PCM_16", "BIG"),
        ("pcm_s24le", "PCM_24", "LITTLE"),
        ("pcm_s24be", "PCM_24", "BIG"),
        ("pcm_s32le", "PCM_32", "LITTLE"),
        ("pcm_u8", "PCM_U8", "FILE"),
        ("pcm_f32le", "FLOAT", "LITTLE"),
        ("pcm_f64le", "DOUBLE", "LITTLE"),
        ("mulaw", "ULAW", "FILE"),
        ("alaw", "ALAW", "FILE"),
    ],
)
def test_every_format_is_that_of_libsndfile(encoding: str, subtype: str, endian: str) -> None:
    if encoding.startswith("pcm_f"):
        width = "<f4" if encoding == "pcm_f32le" else "<f8"
        data = np.random.default_rng(0).uniform(-1, 1, 999).astype(width).tobytes()
    else:
        data = bytes(range(256)) * 3 + np.random.default_rng(0).bytes(24 * 100)
    expected, _ = soundfile.read(
        io.BytesIO(data), dtype="float32", format="RAW", subtype=subtype, samplerate=8000, channels=1, endian=endian
    )
    decoded = decode_samples(data, encoding)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, expected)
    assert np.abs(decoded).max() <= 1


def test_floats_beyond_full_scale_are_clipped() -> None:
    data = np.array([-7, -1, 0.25, 1, 1.001], "<f4").tobytes()
    np.testing.assert_array_equal(decode_samples(data, "pcm_f32le"), np.array([-1, -1, 0.25, 1, 1], np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("encoding", ["pcm_f32le", "pcm_f64le"])
def test_floats_that_are_not_finite_are_refused(value: float, encoding: str) -> None:
    data = np.array([0.5, value], "<f4" if encoding == "pcm_f32le" else "<f8").tobytes()
    with pytest.raises(InputError, match="not finite: send numbers from -1 to 1"):
        decode_samples(data, encoding)


@pytest.mark.parametrize("encoding", FORMATS)
def test_channels_are_averaged(encoding: str) -> None:
    data = np.random.default_rng(1).integers(0, 60, 24 * 9, np.uint8).tobytes()
    each = decode_samples(data, encoding).reshape(-1, 3)
    np.testing.assert_array_equal(decode_samples(data, encoding, 3), each.mean(axis=1, dtype=np.float32))
    with pytest.raises(InputError, match=r"215 bytes are not a whole number of .* of 3 channel"):
        decode_samples(data[:-1], encoding, 3)


@pytest.mark.parametrize("text", ["AAA", "A", "AA A", "AA-_", "ä", "AAAAA==="])
def test_cut_off_or_foreign_base64_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="base64"):
        decode_base64(text)
