"""Decodes whole files of FLAC, Ogg and MP3 from memory by libsndfile, no further than a chunk's limit."""

from __future__ import annotations

import io
import re
from math import inf
from typing import Any, NamedTuple

import numpy as np

from service.errors import InputError, TooLarge, UnsupportedInput
from service.wire.pcm import Samples, check_channels, check_rate, clipped, mixed

MOST_SAMPLES = 2**24  # over all channels; the default limit of bodies allows as many of mu-law
READ_FRAMES = 2**16
UNKNOWN_FRAMES = 2**62  # libsndfile reports more if a file does not tell its length

FIRST_PAGE = re.compile(rb"OggS\0[\2\3\6\7]")  # first page of a stream in an Ogg file (RFC 3533, section 6)
OTHER_PAGE = re.compile(rb"OggS\0[\0\1\4\5]")
PAGE_HEAD_BYTES, FLAGS_AT, SEGMENTS_AT, ENDS = 27, 5, 26, 4


class Format(NamedTuple):
    """A format of files.

    Attributes:
        name: libsndfile's name.
        magics: a file begins with one of them.
        has_length: a file tells its number of samples.
    """

    name: str
    magics: tuple[bytes, ...]
    has_length: bool


FORMATS = {
    "flac": Format("FLAC", (b"fLaC",), has_length=True),
    "ogg": Format("OGG", (b"OggS",), has_length=True),
    "mp3": Format("MP3", (b"ID3", b"\xff"), has_length=False),
}
"""By the name of the encoding."""


def decode_file(data: bytes, encoding: str, max_s: float = inf) -> tuple[Samples, int]:
    """Decode a file; several channels are averaged.

    Args:
        encoding: one of ``FORMATS``.
        max_s: limit of seconds to decode.

    Returns:
        The samples, [n], and their rate in Hz.

    Raises:
        InputError: the file has another format, is damaged or cut off.
        TooLarge: it has too many samples.
        UnsupportedInput: it is an Ogg file without Vorbis and Opus.
    """
    import soundfile  # a server without sound of these formats does not load it

    wanted = FORMATS[encoding]
    if not data.startswith(wanted.magics):
        raise InputError(f"this is no {wanted.name} file: send the whole file, with the content type that it has")
    if encoding == "ogg":
        _check_pages(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format != wanted.name:
                raise _broken(wanted)
            # without the seek, Opus cut out of a stream begins too early, and MP3 differs from what a client decodes
            file.seek(0)
            file.seekable = lambda: False  # else libsndfile seeks after each read, and decoders begin anew
            rate_hz = check_rate(file.samplerate)
            longest_s = min(max_s, MOST_SAMPLES / check_channels(file.channels) / rate_hz)
            samples = _read(file, int(longest_s * rate_hz), wanted)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OverflowError) as error:
        raise _broken(wanted) from error
    if samples is None:
        raise TooLarge(f"the {wanted.name} file has more than {longest_s:g} s of sound: cut it into several chunks")
    return samples, rate_hz


def _read(file: Any, most: int, wanted: Format) -> Samples | None:
    """Read the samples of an open file, [n]; None if there are more than ``most``.

    Raises:
        InputError: there are fewer than the file says, or some are not finite.
    """
    length = file.frames if wanted.has_length and file.frames < UNKNOWN_FRAMES else None
    if length is not None and length > most:
        return None
    parts, count, asked = [np.zeros(0, np.float32)], 0, READ_FRAMES
    while asked == READ_FRAMES:
        asked = READ_FRAMES if length is None else min(READ_FRAMES, length - count)
        frames = file.read(asked, dtype="float32", always_2d=True)
        count += len(frames)
        if count > most:
            return None
        if not np.isfinite(frames).all() or (length is not None and len(frames) < asked):
            raise _broken(wanted)
        parts.append(mixed(clipped(frames)))
        if len(frames) < asked:
            break
    return np.concatenate(parts)


def _check_pages(data: bytes) -> None:
    """Check that an Ogg file is one complete recording: libsndfile does not."""
    first = OTHER_PAGE.search(data)
    begin = data[: len(data) if first is None else first.start()]
    if b"\x01vorbis" not in begin and b"OpusHead" not in begin:
        raise UnsupportedInput("the Ogg file has neither Vorbis nor Opus: convert it, as with 'sox IN OUT.ogg'")
    if first is not None and FIRST_PAGE.search(data, first.end()):
        raise InputError("the Ogg file has several recordings in a row: send each by itself")
    last = data.rfind(b"OggS")
    lengths = last + PAGE_HEAD_BYTES
    segments = data[last + SEGMENTS_AT] if len(data) > last + SEGMENTS_AT else 0
    end = lengths + segments + sum(data[lengths : lengths + segments])
    if not data[last + FLAGS_AT] & ENDS or end != len(data):
        raise _broken(FORMATS["ogg"])


def _broken(wanted: Format) -> InputError:
    return InputError(
        f"the {wanted.name} file is cut off or damaged: send the whole file, or encode the recording again"
    )
