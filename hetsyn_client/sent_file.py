"""A sound file on its way to a server, piece by piece."""

from __future__ import annotations

from typing import Literal

from hetsyn_client.errors import ServiceUnreachable

Encoding = Literal["pcm_s16le", "pcm_s24le", "pcm_f32le", "mulaw", "alaw", "wav", "flac", "ogg", "events", "values"]
FILES = ("wav", "flac", "ogg")


class SentFile:
    """What was sent of a file, to be sent again.

    Args:
        max_bytes: that are kept.

    Attributes:
        pieces: as they were sent, each with the settings that went before it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.pieces: list[tuple[bytes, dict[str, float]]] = []
        self._bytes = 0
        self._why_not = ""

    def append(self, content: bytes, settings: dict[str, float]) -> None:
        """Keep a piece, and the settings that go before it."""
        if self._why_not:
            return
        self.pieces.append((content, settings))
        self._bytes += len(content)
        if self._bytes > self._max_bytes:
            self.pieces.clear()
            self._why_not = f"more than max_kept_bytes={self._max_bytes} of the file were sent"

    def forget(self) -> None:
        """The session had begun before the file: it has samples that are not of it."""
        self._why_not = "the session had begun before the file"

    def check(self, error: Exception) -> None:
        """Check that the file can be sent again.

        Raises:
            ServiceUnreachable: it cannot.
        """
        if self._why_not:
            raise ServiceUnreachable(
                f"the stream broke ({error}), and the file cannot be sent again, because {self._why_not}: send the "
                "recording in another session, or as samples"
            ) from error
