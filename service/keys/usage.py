"""What a key takes of the server, and when it has to wait."""

from __future__ import annotations

from math import ceil, inf

from service.errors import KeyLimitReached
from service.keys.document import KeyLimits

BURST_S = 1.0  # so much of a rate may come at once, after a pause


class Bucket:
    """A token bucket. It goes below zero by one request at most, so that one beyond a second's worth passes.

    Args:
        rate: per second; infinite where there is no limit.
    """

    __slots__ = ("_at_s", "_level", "_rate")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._level = self._most
        self._at_s = -inf

    @property
    def _most(self) -> float:
        return max(1.0, self._rate * BURST_S)

    def change(self, rate: float) -> None:
        """Have another rate from now on."""
        self._rate = rate
        self._level = min(self._level, self._most)

    def wait_s(self, now_s: float) -> float:
        """How long until something may be taken."""
        if self._rate == inf:
            return 0.0
        if self._at_s > -inf:
            self._level = min(self._most, self._level + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return 0.0 if self._level > 0 else (1e-3 - self._level) / self._rate

    def take(self, amount: float) -> None:
        """Take something, after ``wait_s`` was 0."""
        if self._rate != inf:
            self._level -= amount


class Usage:
    """What one key takes of this process. Used from one event loop.

    Args:
        key: its name.
        limits: of the key, for this process.

    Attributes:
        limits: see above.
        streams: that are open.
    """

    __slots__ = ("_bytes", "_key", "_requests", "limits", "streams")

    def __init__(self, key: str, limits: KeyLimits) -> None:
        self._key = key
        self.limits = limits
        self._requests = Bucket(limits.requests_per_s or inf)
        self._bytes = Bucket(limits.bytes_per_s or inf)
        self.streams = 0

    def change(self, limits: KeyLimits) -> None:
        """Have other limits from now on."""
        self.limits = limits
        self._requests.change(limits.requests_per_s or inf)
        self._bytes.change(limits.bytes_per_s or inf)

    def wait_s(self, now_s: float) -> float:
        """How long until the next request may come."""
        requests_s, bytes_s = self._requests.wait_s(now_s), self._bytes.wait_s(now_s)
        return requests_s if requests_s > bytes_s else bytes_s

    def take(self, count: int) -> None:
        """Count a request or a message.

        Args:
            count: bytes of its content.
        """
        self._requests.take(1)
        self._bytes.take(count)

    def take_bytes(self, count: int) -> None:
        """Count more bytes of a request."""
        self._bytes.take(count)

    def request(self, count: int, now_s: float) -> None:
        """Count a request.

        Args:
            count: bytes of its body.
            now_s: time, monotonic.

        Raises:
            KeyLimitReached: the key has to wait. The request does not count.
        """
        if (wait_s := self.wait_s(now_s)) > 0:
            which = "requests" if self._requests.wait_s(now_s) > 0 else "bytes"
            limit = self.limits.requests_per_s if which == "requests" else self.limits.bytes_per_s
            raise KeyLimitReached(
                f"key {self._key!r} may send {limit:g} {which} a second: try again in {max(1, ceil(wait_s))} s", wait_s
            )
        self.take(count)

    def open_stream(self) -> None:
        """Count another open stream; ``close_stream`` ends it.

        Raises:
            KeyLimitReached: the key has too many.
        """
        if self.limits.max_streams is not None and self.streams >= self.limits.max_streams:
            raise KeyLimitReached(f"key {self._key!r} has {self.streams} streams open, as many as it may: end some")
        self.streams += 1

    def close_stream(self) -> None:
        """Count a stream no more."""
        self.streams -= 1
