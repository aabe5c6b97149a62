"""Decodes PCM audio to samples: float32 in [-1, 1], one channel."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.sources.wav import MOST_CHANNELS, read_wav
from service.errors import InputError

Samples = NDArray[np.float32]
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 192_000
FULL_SCALE = np.float32(32_768.0)


class SampleFormat(NamedTuple):
    """A format of samples.

    Attributes:
        width: bytes of a sample.
        decode: makes float32 [n] of whole samples.
        text: names it in a message.
    """

    width: int
    decode: Callable[[bytes], Samples]
    text: str


def _integers(dtype: str, scale: float, zero: int = 0) -> Callable[[bytes], Samples]:
    def decode(data: bytes) -> Samples:
        samples: Samples = (np.frombuffer(data, dtype).astype(np.float32) - np.float32(zero)) / np.float32(scale)
        return samples

    return decode


def _decode_s16le(data: bytes) -> Samples:
    samples: Samples = np.frombuffer(data, "<i2").astype(np.float32) / FULL_SCALE
    return samples


def _decode_s16be(data: bytes) -> Samples:
    samples: Samples = np.frombuffer(data, ">i2").astype(np.float32) / FULL_SCALE
    return samples


def _decode_24(data: bytes, first: int, dtype: str) -> Samples:
    """Decode samples of three bytes as the upper three of four: exact in float32.

    Args:
        first: position of the first of the three bytes among the four.
    """
    padded = np.zeros((len(data) // 3, 4), np.uint8)
    padded[:, first : first + 3] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    samples: Samples = padded.view(dtype)[:, 0].astype(np.float32) / np.float32(2.0**31)
    return samples


def _floats(dtype: str) -> Callable[[bytes], Samples]:
    def decode(data: bytes) -> Samples:
        samples = np.frombuffer(data, dtype)
        if not np.isfinite(samples).all():
            raise InputError("the sound has samples that are not finite: send numbers from -1 to 1")
        return clipped(samples)

    return decode


def clipped(samples: NDArray[Any]) -> Samples:
    """Clip floats to full scale, as converters to integers do. Decoders of lossy formats overshoot a little."""
    within: Samples = np.clip(samples, -1.0, 1.0).astype(np.float32)
    return within


def _mulaw_table() -> Samples:
    """Make the table of ITU-T G.711, table 2a: from a byte to 14 bits, here the upper ones of 16."""
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << ((code & 0x70) >> 4).astype(np.int32)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.float32) / FULL_SCALE


def _alaw_table() -> Samples:
    """Make the table of ITU-T G.711, table 1a: from a byte to 13 bits, here the upper ones of 16."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    segment = ((code & 0x70) >> 4).astype(np.int32)
    magnitude = ((code & 0x0F).astype(np.int32) << 4) + 8
    magnitude = np.where(segment > 0, magnitude + 0x100 << np.maximum(segment - 1, 0), magnitude)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.float32) / FULL_SCALE


def _looked_up(table: Samples) -> Callable[[bytes], Samples]:
    def decode(data: bytes) -> Samples:
        samples: Samples = table[np.frombuffer(data, np.uint8)]
        return samples

    return decode


FORMATS = {
    "pcm_s16le": SampleFormat(2, _decode_s16le, "16-bit"),
    "pcm_s16be": SampleFormat(2, _decode_s16be, "16-bit"),
    "pcm_s24le": SampleFormat(3, lambda data: _decode_24(data, 1, "<i4"), "24-bit"),
    "pcm_s24be": SampleFormat(3, lambda data: _decode_24(data, 0, ">i4"), "24-bit"),
    "pcm_s32le": SampleFormat(4, _integers("<i4", 2.0**31), "32-bit"),
    "pcm_u8": SampleFormat(1, _integers("u1", 128, 128), "8-bit"),
    "pcm_f32le": SampleFormat(4, _floats("<f4"), "32-bit float"),
    "pcm_f64le": SampleFormat(8, _floats("<f8"), "64-bit float"),
    "mulaw": SampleFormat(1, _looked_up(_mulaw_table()), "mu-law"),
    "alaw": SampleFormat(1, _looked_up(_alaw_table()), "A-law"),
}


def check_rate(rate_hz: int) -> int:
    """Return a sample rate if it is within 1 and 192 kHz.

    Raises:
        InputError: it is not.
    """
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise InputError(f"sample rate {rate_hz} Hz is not within {LOWEST_RATE_HZ}-{HIGHEST_RATE_HZ} Hz")
    return rate_hz


def check_channels(channels: int) -> int:
    """Return a number of channels if it is taken.

    Raises:
        InputError: it is not.
    """
    if not 1 <= channels <= MOST_CHANNELS:
        raise InputError(f"sound of {channels} channels: send 1 to {MOST_CHANNELS}, which are averaged")
    return channels


def decode_samples(data: bytes, encoding: str, channels: int = 1) -> Samples:
    """Decode interleaved samples.

    Args:
        data: whole samples of every channel.
        encoding: one of ``FORMATS``.
        channels: channels of the data; several are averaged.

    Returns:
        The samples, [n].

    Raises:
        InputError: the data is cut off, or has floats that are not finite.
    """
    width, decode, text = FORMATS[encoding]
    if len(data) % (width * channels):
        raise InputError(
            f"{len(data)} bytes are not a whole number of {text} samples of {channels} channel(s): send whole samples"
        )
    samples = decode(data)
    return samples if channels == 1 else mixed(samples.reshape(-1, channels))


def mixed(frames: Samples) -> Samples:
    """Average the channels of [n, channels] to [n]."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    samples: Samples = frames.mean(axis=1, dtype=np.float32)
    return samples


def decode_base64(text: str) -> bytes:
    """Decode the base64 of ``input.data``.

    Raises:
        InputError: it is not base64, or cut off.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(
            f"input.data is not complete base64 ({error}): encode the whole chunk, with its padding"
        ) from error


def decode_wav(data: bytes) -> tuple[Samples, int]:
    """Decode a WAV file; several channels are averaged.

    Returns:
        The samples, [n], and their rate in Hz.

    Raises:
        InputError: the file has another format, is damaged or cut off.
    """
    pcm = read_wav(data)
    return decode_samples(pcm.content, pcm.encoding, pcm.channels), check_rate(pcm.rate_hz)
