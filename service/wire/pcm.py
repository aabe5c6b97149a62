"""Decodes PCM audio to samples: float32 in [-1, 1), one channel."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.wav import read_wav
from service.errors import InputError

Samples = NDArray[np.float32]
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 192_000
FULL_SCALE = np.float32(32_768.0)


def check_rate(rate_hz: int) -> int:
    """Return a sample rate if it is within 1 and 192 kHz.

    Raises:
        InputError: it is not.
    """
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise InputError(f"sample rate {rate_hz} Hz is not within {LOWEST_RATE_HZ}-{HIGHEST_RATE_HZ} Hz")
    return rate_hz


def decode_base64_pcm(text: str) -> Samples:
    """Decode base64 of 16-bit little-endian PCM, mono.

    Returns:
        The samples, [n].

    Raises:
        InputError: the text is not base64 or cut off, or ends with half a sample.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(
            f"input.data is not complete base64 ({error}): encode the whole chunk, with its padding"
        ) from error
    return decode_pcm(data, "<i2")


def decode_pcm(data: bytes, dtype: str, channels: int = 1) -> Samples:
    """Decode 16-bit PCM.

    Args:
        data: interleaved samples.
        dtype: numpy's name of the sample format, ``<i2`` or ``>i2``.
        channels: of the data; several are averaged.

    Returns:
        The samples, [n].

    Raises:
        InputError: the data is not a whole number of samples of every channel.
    """
    if len(data) % (2 * channels):
        raise InputError(
            f"{len(data)} bytes are not a whole number of 16-bit samples of {channels} channel(s): send whole samples"
        )
    samples: Samples = np.frombuffer(data, dtype=dtype).astype(np.float32) / FULL_SCALE
    if channels > 1:
        samples = samples.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return samples


def decode_l16(data: bytes, parameters: Mapping[str, str]) -> tuple[Samples, int]:
    """Decode an ``audio/L16`` body (RFC 2586).

    Args:
        data: the body.
        parameters: of the content type, names in lower case. ``rate`` and ``channels`` (default 1) are the RFC's.
            ``endianness`` is our own: ``big-endian``, the RFC's order and the default, or ``little-endian``.

    Returns:
        The samples, [n], and their rate in Hz.

    Raises:
        InputError: a parameter is missing, unknown or impossible, or the body is cut off.
    """
    for name in parameters:
        if name not in ("rate", "channels", "endianness"):
            raise InputError(f"audio/L16 has no parameter {name!r}: it takes rate, channels and endianness")
    if "rate" not in parameters:
        raise InputError("audio/L16 needs its sample rate: send content type 'audio/L16;rate=8000'")
    rate_hz = check_rate(_whole(parameters["rate"], "rate"))
    channels = _whole(parameters.get("channels", "1"), "channels")
    if channels not in (1, 2):
        raise InputError(f"audio/L16 with {channels} channels: send one channel, or two, which are averaged")
    endianness = parameters.get("endianness", "big-endian").lower()
    if endianness not in ("big-endian", "little-endian"):
        raise InputError(f"audio/L16 with endianness {endianness!r}: send big-endian (the default) or little-endian")
    return decode_pcm(data, ">i2" if endianness == "big-endian" else "<i2", channels), rate_hz


def decode_wav(data: bytes) -> tuple[Samples, int]:
    """Decode a WAV file of 16-bit PCM; stereo is averaged.

    Returns:
        The samples, [n], and their rate in Hz.

    Raises:
        InputError: the file has another format, is damaged or cut off.
    """
    pcm = read_wav(data)
    return decode_pcm(pcm.content, "<i2", pcm.channels), check_rate(pcm.rate_hz)


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InputError(f"audio/L16: {name}={text!r} is not a whole number")
    return int(text)
