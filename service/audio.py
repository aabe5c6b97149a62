"""Audio as it arrives: bytes to samples, and any sample rate to the model's.

Samples are float32 in [-1, 1), one channel.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, gcd

import numpy as np
import soxr
from numpy.typing import NDArray

from service.errors import InputError
from service.wav import read_wav

Samples = NDArray[np.float32]

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 192_000
FULL_SCALE = np.float32(32_768.0)


def check_rate(rate_hz: int) -> int:
    """
    Raises:
        InputError: no rate that audio has.
    """
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise InputError(f"sample rate {rate_hz} Hz is not within {LOWEST_RATE_HZ}-{HIGHEST_RATE_HZ} Hz")
    return rate_hz


def decode_base64_pcm(text: str) -> Samples:
    """Samples of base64 of 16-bit little-endian PCM, mono.

    Raises:
        InputError: not base64, cut off, or half a sample at the end.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(
            f"input.data is not complete base64 ({error}): encode the whole chunk, with its padding"
        ) from error
    return decode_pcm(data, "<i2")


def decode_pcm(data: bytes, dtype: str, channels: int = 1) -> Samples:
    """Samples of 16-bit PCM; several channels, interleaved, are averaged.

    Args:
        dtype: numpy's name of the sample, ``<i2`` or ``>i2``.

    Raises:
        InputError: not a whole number of samples of every channel.
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
    """Samples and rate of an ``audio/L16`` body (RFC 2586).

    Args:
        parameters: of the content type, names in lower case: ``rate``, ``channels`` (1),
            ``endianness`` (``big-endian``, as the RFC has it, or ``little-endian``).

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
        raise InputError(f"audio/L16 with {channels} channels: send one, or two to be averaged")
    endianness = parameters.get("endianness", "big-endian").lower()
    if endianness not in ("big-endian", "little-endian"):
        raise InputError(f"audio/L16 with endianness {endianness!r}: it is big-endian (the default) or little-endian")
    return decode_pcm(data, ">i2" if endianness == "big-endian" else "<i2", channels), rate_hz


def decode_wav(data: bytes) -> tuple[Samples, int]:
    """Samples and rate of a WAV file of 16-bit PCM; stereo is averaged.

    Raises:
        InputError: another format, damaged, or cut off.
    """
    pcm = read_wav(data)
    return decode_pcm(pcm.content, "<i2", pcm.channels), check_rate(pcm.rate_hz)


BLOCK_S = 0.02
CONTEXT_SAMPLES = 160  # of the lower rate; soxr's filter at quality HQ is shorter
SAMPLES_AT_ONCE = 1 << 20  # bounds the memory of a long recording


@dataclass(frozen=True)
class Resampler:
    """A stream's way from one sample rate to another, as a value: ``push`` leaves it as it was.

    A chunk that fails must not have moved the stream, so soxr's own stream object, which cannot be copied,
    does not serve. Instead soxr resamples blocks that lie at fixed places of the stream, each with context on
    either side, so any way of cutting the audio gives the same samples, bit for bit; after the first few they
    are within 1e-5 of what soxr makes of the whole recording. Blocks begin where input and output coincide.
    The price is a delay of a block and its context, about 40 ms at common rates and up to 2 s where the
    two rates have no large common divisor.

    rate_hz, target_hz: of input and output. received, emitted: samples so far. waiting: the last input
    samples, from one context before the next block on.
    """

    rate_hz: int
    target_hz: int
    waiting: Samples
    received: int = 0
    emitted: int = 0

    @staticmethod
    def between(rate_hz: int, target_hz: int) -> Resampler:
        """At the start of a stream, before which there was silence."""
        resampler = Resampler(rate_hz, target_hz, np.zeros(0, np.float32))
        return replace(resampler, waiting=np.zeros(resampler._context, np.float32))

    def push(self, samples: Samples) -> tuple[Resampler, Samples]:
        """Further input; the resampler after it, and the output that is certain by now."""
        received = self.received + len(samples)
        if self.rate_hz == self.target_hz:
            return replace(self, received=received, emitted=received), samples
        waiting = np.concatenate([self.waiting, samples])
        blocks = max(0, (len(waiting) - 2 * self._context) // self._block)
        output = self._resample(waiting, blocks)
        return replace(
            self,
            waiting=waiting[blocks * self._block :].copy(),
            received=received,
            emitted=self.emitted + len(output),
        ), output

    def flush(self) -> tuple[Resampler, Samples]:
        """The end of the stream, after which there is silence; the rest of the output."""
        missing = self._half_up(self.received * self.target_hz, self.rate_hz) - self.emitted
        ahead = np.zeros(self._block + self._context, np.float32)
        after, output = self.push(ahead)
        return replace(after, received=self.received, emitted=self.emitted + missing), output[:missing]

    @property
    def _period(self) -> int:
        """Input samples after which an input and an output sample coincide again."""
        return self.rate_hz // gcd(self.rate_hz, self.target_hz)

    @property
    def _block(self) -> int:
        return self._period * ceil(self.rate_hz * BLOCK_S / self._period)

    @property
    def _context(self) -> int:
        if self.rate_hz == self.target_hz:
            return 0
        context = CONTEXT_SAMPLES * self.rate_hz / min(self.rate_hz, self.target_hz)
        return self._period * ceil(context / self._period)

    def _resample(self, waiting: Samples, blocks: int) -> Samples:
        """Output of the first blocks of ``waiting``. Blocks are soxr's channels: it treats each alone."""
        first = self._context * self.target_hz // self.rate_hz
        count = self._block * self.target_hz // self.rate_hz
        window = self._block + 2 * self._context
        at_once = max(1, SAMPLES_AT_ONCE // window)
        parts = [np.zeros(0, np.float32)]
        for begin in range(0, blocks, at_once):
            starts = np.arange(begin, min(begin + at_once, blocks)) * self._block
            windows = waiting[np.arange(window)[:, None] + starts]
            resampled: Samples = soxr.resample(windows, self.rate_hz, self.target_hz)
            parts.append(resampled[first : first + count].T.ravel())
        return np.concatenate(parts)

    @staticmethod
    def _half_up(numerator: int, denominator: int) -> int:
        return (2 * numerator + denominator) // (2 * denominator)


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InputError(f"audio/L16: {name}={text!r} is not a whole number")
    return int(text)
