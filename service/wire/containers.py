"""Sound files that come whole or piece by piece: WAV, FLAC, Ogg.

A decoder gives the same samples however its file is cut. It decodes no more at once than ``most_frames`` allow, so that
a small file which decodes to hours takes no memory. FLAC and Ogg are decoded by libsndfile, from memory.
"""

from __future__ import annotations

from math import inf
from typing import Any, Protocol

import numpy as np

from hetsyn_client.wav import Header, read_header
from service.errors import InputError, TooLarge
from service.wire.pcm import Samples, check_channels, check_rate, clipped, decode_samples, mixed

NO_SAMPLES: Samples = np.zeros(0, np.float32)
MOST_SAMPLES = 2**24  # of all channels, decoded at once: as many as a body of mu-law may have by default
MOST_KEPT_BYTES = 2**20  # of a header or a frame that is not complete
STREAM_KEPT_BYTES = 2**18  # likewise, of a stream: each connection may keep as many
MOST_PARTS = 2**16  # pages or frames at once: each takes some microseconds, whatever it contains


class Container(Protocol):
    """The decoder of one file.

    Attributes:
        rate_hz: of the samples; 0 until the header has come.
        max_sound_s: seconds that are decoded at once, at most.
        max_kept_bytes: of a header or a frame that is not complete, at most.
    """

    rate_hz: int
    max_sound_s: float
    max_kept_bytes: int

    def push(self, data: bytes) -> Samples:
        """Decode the next piece of the file.

        Returns:
            The samples that it completes, [n].

        Raises:
            InputError: the file has another format, or is damaged.
            TooLarge: the piece has too many samples.
        """

    def finish(self) -> Samples:
        """End the file; as ``push``, with the rest of the samples."""

    @property
    def is_whole(self) -> bool:
        """Whether the file that has ended was complete."""


class Bounded:
    """Counts what is decoded at once.

    Args:
        name: of the format.

    Attributes:
        rate_hz: as of ``Container``.
        channels: of the file; 0 until the header has come.
        max_sound_s: as of ``Container``.
        max_kept_bytes: as of ``Container``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.rate_hz = 0
        self.channels = 0
        self.max_sound_s = inf
        self.max_kept_bytes = MOST_KEPT_BYTES
        self._counted = 0

    def set_format(self, rate_hz: int, channels: int) -> None:
        """Take what the header says.

        Raises:
            InputError: it is not taken.
        """
        check_rate(rate_hz)
        self.channels = check_channels(channels)
        self.rate_hz = rate_hz

    def begin(self) -> None:
        """Count anew."""
        self._counted = 0

    def count(self, frames: int) -> None:
        """Count frames that are about to be decoded.

        Raises:
            TooLarge: they are too many.
        """
        self._counted += frames
        longest_s = min(self.max_sound_s, MOST_SAMPLES / self.channels / self.rate_hz)
        if self._counted > longest_s * self.rate_hz:
            raise TooLarge(
                f"the piece of {self.name} has more than {longest_s:g} s of sound: cut the sound into several chunks"
            )

    def damaged(self, detail: str = "") -> InputError:
        """The error for a file that cannot be decoded."""
        reason = f" ({detail:.100})" if detail else ""
        return InputError(f"the {self.name} file is damaged{reason}: encode the recording again")

    def check_kept(self, part: str, count: int) -> None:
        """Check how much is kept of a part that is not complete.

        Raises:
            InputError: it is too long.
        """
        if count > self.max_kept_bytes:
            raise InputError(
                f"a {part} of the {self.name} file is longer than {self.max_kept_bytes} bytes: remove pictures and "
                "comments, or encode the recording again"
            )


class WavDecoder(Bounded):
    """A WAV file."""

    def __init__(self) -> None:
        super().__init__("WAV")
        self._header: Header | None = None
        self._begun = bytearray()  # of the header, then of the next sample
        self._left: int | None = None  # bytes of samples that follow; None for all
        self._is_whole = False

    def push(self, data: bytes) -> Samples:
        self._begun += data
        if self._header is None:
            self._header = read_header(self._begun)
            if self._header is None:
                self.check_kept("header", len(self._begun))
                return NO_SAMPLES
            self.set_format(self._header.rate_hz, self._header.channels)
            self._left = self._header.size
            del self._begun[: self._header.offset]
        header, count = self._header, len(self._begun)
        if self._left is not None:
            count = min(count, self._left)
        count -= count % header.frame_bytes
        content = bytes(self._begun[:count])
        del self._begun[:count]
        if self._left is not None:
            self._left -= count
            if self._left < header.frame_bytes:
                self._begun.clear()  # what comes after the samples
        return decode_samples(content, header.encoding, header.channels)

    def finish(self) -> Samples:
        self._is_whole = self._header is not None and not self._left and not self._begun
        return NO_SAMPLES

    @property
    def is_whole(self) -> bool:
        return self._is_whole


def open_sound(content: Any, name: str) -> Any:
    """Open a file of libsndfile that is read forwards alone.

    Args:
        content: a file object in memory.
        name: of the format.

    Returns:
        A ``soundfile.SoundFile``.

    Raises:
        InputError: it cannot be opened.
    """
    import soundfile  # a server without sound of these formats does not load it

    try:
        file = soundfile.SoundFile(content)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OverflowError) as error:
        reason = getattr(error, "error_string", "it cannot be opened").strip(" .")
        raise InputError(f"the {name} file is damaged ({reason:.100}): encode the recording again") from error
    file.seekable = lambda: False  # else it seeks after each read, and decoders begin anew
    return file


def read_frames(file: Any, frames: int) -> Samples:
    """The next frames of a file, [frames, channels]; fewer where it ends, or cannot be decoded."""
    import soundfile

    try:
        decoded: Samples = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError):
        return np.zeros((0, file.channels), np.float32)
    return decoded


def mix_decoded(frames: Samples) -> Samples:
    """One channel, [n], of decoded frames [n, channels]."""
    if not np.isfinite(frames).all():  # only from a damaged file
        raise InputError("the sound has samples that are not finite: encode the recording again")
    return mixed(clipped(frames))
