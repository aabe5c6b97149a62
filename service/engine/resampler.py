"""Resamples sound from any rate to the model's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, gcd

import numpy as np
import soxr

from service.errors import InputError
from service.wire.chunk import Samples

BLOCK_S = 0.02
CONTEXT_SAMPLES = 160  # at the lower rate; soxr's filter at quality HQ is shorter
SAMPLES_AT_ONCE = 1 << 17  # input or output samples; bounds the memory of a long recording
SLOW_PERIOD = 512  # input samples; from 44,100 to 8,000 Hz it is 441
LEAST_COMMON_HZ = 25  # the common divisor of 11,025 and 8,000 Hz: up to 0.12 s of sound waits
COMMON_RATES_HZ = (8_000, 16_000, 44_100, 48_000)


@dataclass(frozen=True)
class Resampler:
    """Converts a stream from one sample rate to another. It is a value: ``push`` returns the next one.

    A failed chunk must leave the stream unchanged, and soxr's stream object cannot be copied. So soxr resamples blocks
    at fixed positions of the stream, each with context on either side. Any way of cutting the audio gives the same
    samples, bit for bit; after the first few they are within 1e-5 of soxr's result for the whole recording. Blocks
    begin where an input and an output sample coincide. The price is a delay of a block and its context: about 40 ms at
    common rates. Rates without a large common divisor would need up to 2 s, so ``check_rates`` refuses them.

    Of the silence before a stream, only the length is stored, as ``silence``.

    Attributes:
        waiting: the last input samples, beginning one context before the next block, without the silence before the
            stream.
        received: input samples so far.
        emitted: output samples so far.
    """

    rate_hz: int
    target_hz: int
    waiting: Samples
    received: int = 0
    emitted: int = 0

    @staticmethod
    def between(rate_hz: int, target_hz: int) -> Resampler:
        """Make a resampler for the start of a stream, after silence."""
        return Resampler(rate_hz, target_hz, np.zeros(0, np.float32))

    @property
    def silence(self) -> int:
        """Count the samples of silence before ``waiting``, from the context before the stream."""
        return max(0, self._context - self.emitted * self.rate_hz // self.target_hz)

    @staticmethod
    def from_record(rate_hz: int, target_hz: int, window: Samples, received: int, emitted: int) -> Resampler:
        """Make a resampler from a record's numbers; ``window`` is the result of ``with_silence``."""
        empty = Resampler(rate_hz, target_hz, window[:0], received, emitted)
        return replace(empty, waiting=window[empty.silence :].copy() if empty.silence else window)

    def with_silence(self) -> Samples:
        """Return ``waiting`` with the silence before it."""
        return np.concatenate([np.zeros(self.silence, np.float32), self.waiting])

    def push(self, samples: Samples) -> tuple[Resampler, Samples]:
        """Take samples [n]. Returns the resampler after them, and the output [m] that later input cannot change."""
        received = self.received + len(samples)
        if self.rate_hz == self.target_hz:
            return Resampler(self.rate_hz, self.target_hz, self.waiting, received, emitted=received), samples
        silence = self.silence
        blocks = (silence + len(self.waiting) + len(samples) - 2 * self._context) // self._block
        if blocks <= 0:
            waiting = np.concatenate([self.waiting, samples])
            return replace(self, waiting=waiting, received=received), np.zeros(0, np.float32)
        waiting = np.concatenate([np.zeros(silence, np.float32), self.waiting, samples])
        output = self._resample(waiting, blocks)
        after = replace(self, received=received, emitted=self.emitted + len(output))
        return replace(after, waiting=waiting[blocks * self._block + after.silence :].copy()), output

    def flush(self) -> tuple[Resampler, Samples]:
        """End the stream, with silence after it. Returns the resampler after it, and the rest of the output [m]."""
        missing = self._half_up(self.received * self.target_hz, self.rate_hz) - self.emitted
        ahead = np.zeros(self._block + self._context, np.float32)
        after, output = self.push(ahead)
        return replace(after, received=self.received, emitted=self.emitted + missing), output[:missing]

    def emitted_after(self, received: int) -> int:
        """Count the output samples of ``push`` after ``received`` input samples of the stream."""
        if self.rate_hz == self.target_hz:
            return received
        return max(0, (received - self._context) // self._block) * self._block * self.target_hz // self.rate_hz

    def needed_for(self, emitted: int) -> int:
        """Count the input samples of the stream that ``push`` needs for ``emitted`` output samples."""
        if self.rate_hz == self.target_hz or not emitted:
            return emitted
        return -(-emitted * self.rate_hz // (self._block * self.target_hz)) * self._block + self._context

    @property
    def longest_delay(self) -> int:
        """Count the input samples that may wait in the resampler."""
        return 0 if self.rate_hz == self.target_hz else self._block + self._context

    @property
    def _period(self) -> int:
        """Count the input samples after which an input and an output sample coincide again."""
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
        """Resample the first blocks of ``waiting``. Blocks are soxr's channels, which are independent."""
        first = self._context * self.target_hz // self.rate_hz
        count = self._block * self.target_hz // self.rate_hz
        window = self._block + 2 * self._context
        longest = max(window, window * self.target_hz // self.rate_hz)
        at_once = max(1, SAMPLES_AT_ONCE // longest)
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


@lru_cache(maxsize=256)  # clients choose the rates
def is_slow(rate_hz: int, target_hz: int) -> bool:
    """Return whether a block takes milliseconds to resample, because the rates have no large common divisor."""
    return rate_hz // gcd(rate_hz, target_hz) > SLOW_PERIOD


def check_rates(rate_hz: int, target_hz: int) -> None:
    """Raise InputError if much sound would wait, because the rates have no large common divisor."""
    if gcd(rate_hz, target_hz) < LEAST_COMMON_HZ:
        common = [rate for rate in COMMON_RATES_HZ if gcd(rate, target_hz) >= LEAST_COMMON_HZ] or [target_hz]
        raise InputError(
            f"sample rate {rate_hz} Hz is not taken: with the model's {target_hz} Hz it has no common divisor of "
            f"{LEAST_COMMON_HZ} or more. Resample to {', '.join(map(str, common))} Hz, for example"
        )
