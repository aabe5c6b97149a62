"""Ogg files with Vorbis or Opus, page by page (RFC 3533, RFC 7845; Vorbis I, section A.2).

libsndfile decodes one file from its beginning. It wants to know the length first, which no one knows of a stream. So
its file ends far away with a page that says so, and grows page by page before it. A page's granule position says how
many samples can be decoded up to its end. No more are asked for, so the decoder never comes to the end of what is
there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from service.errors import InputError, UnsupportedInput
from service.wire.containers import (
    MOST_PARTS,
    NO_SAMPLES,
    Bounded,
    mix_decoded,
    open_sound,
    read_frames,
)
from service.wire.pcm import Samples

CODECS = {b"OpusHead": 2, b"\x01vorbis": 3}
"""How the first packet begins, with the number of packets of the header."""
OPUS_RATE_HZ = 48_000  # of granule positions, whatever the rate of the samples
BEGINS, ENDS = 2, 4  # flags of a page
FILE_BYTES = 2**40
TAIL_BYTES = 2**17  # where the last page is looked for
LAST_GRANULE = 12 * 2**34  # divisible by the ratio of 48 kHz to each rate of Opus
READ_FRAMES = 2**16
KEPT_BYTES = 2**16
_HEAD = struct.Struct("<4sBBqIIIB")


class Page(NamedTuple):
    """A page.

    Attributes:
        flags: ``BEGINS``, ``ENDS``.
        granule: position at its end; -1 if no packet ends on it.
        serial: of its stream.
        packets: that end on it.
        content: with its header.
        body: without.
    """

    flags: int
    granule: int
    serial: int
    packets: int
    content: bytes
    body: bytes


class OggDecoder(Bounded):
    """An Ogg file. Streams beside that of the sound are skipped."""

    def __init__(self) -> None:
        super().__init__("Ogg")
        self._begun = bytearray()  # of the next page
        self._serial: int | None = None
        self._headers_left = 0
        self._pre_skip = 0
        self._granule_rate = 1  # granule positions a frame
        self._first_granule = 0  # of the frames that are decoded
        self._dropped = 0  # frames that come before those of the file
        self._input = _Growing()
        self._file: Any = None
        self._frames_done = 0
        self._ended = False
        self._has_rest = False

    def push(self, data: bytes) -> Samples:
        self._begun += data
        self.begin()
        parts = [self._page(page) for page in self._pages()]
        parts = [part for part in parts if len(part)]
        return parts[0] if len(parts) == 1 else np.concatenate([NO_SAMPLES, *parts])

    def finish(self) -> Samples:
        self._has_rest = bool(self._begun)
        return NO_SAMPLES

    @property
    def is_whole(self) -> bool:
        return self._ended and not self._has_rest

    def _pages(self) -> Iterator[Page]:
        """The pages that are complete."""
        at, count = 0, 0
        data = self._begun
        try:
            while len(data) - at >= _HEAD.size:
                magic, version, flags, granule, serial, _, _, segments = _HEAD.unpack_from(data, at)
                if magic != b"OggS" or version:
                    raise self.damaged("no page where one begins")
                lengths = data[at + _HEAD.size : at + _HEAD.size + segments]
                begin = at + _HEAD.size + segments
                end = begin + sum(lengths)
                if len(lengths) < segments or end > len(data):
                    break
                count += 1
                if count > MOST_PARTS:
                    raise InputError(f"more than {MOST_PARTS} pages of Ogg came at once: cut the file into chunks")
                packets = segments - lengths.count(255)
                page = Page(flags, granule, serial, packets, bytes(data[at:end]), bytes(data[begin:end]))
                at = end
                yield page
            if not b"OggS".startswith(data[at : at + 4]):
                raise self.damaged("no page where one begins")
        finally:
            del data[:at]

    def _page(self, page: Page) -> Samples:
        if page.flags & BEGINS and self._file is None:
            self._begin(page)
        if page.serial != self._serial:
            if page.flags & BEGINS and self._file is not None:
                raise InputError("the Ogg file has several recordings in a row: send each as a stream of its own")
            if self._serial is None and not page.flags & BEGINS:
                raise _no_codec()
            return NO_SAMPLES
        if self._ended:
            return NO_SAMPLES
        is_header = self._headers_left > 0
        self._input.append(page.content)
        if is_header:
            self._headers_left -= page.packets
        if self._file is None:
            self.check_kept("header", len(self._input))
            if is_header or page.granule < 0:
                return NO_SAMPLES
            self._open()
        self._ended = bool(page.flags & ENDS)
        return self._decode(page)

    def _begin(self, page: Page) -> None:
        """Take the first page of a stream, if it is one of sound."""
        codec = next((codec for codec in CODECS if page.body.startswith(codec)), None)
        if codec is None or self._serial is not None:
            return
        self._serial, self._headers_left = page.serial, CODECS[codec]
        if codec == b"OpusHead":
            if len(page.body) < 19:
                raise self.damaged("its header is cut off")
            self._pre_skip = int.from_bytes(page.body[10:12], "little")
            self._granule_rate = OPUS_RATE_HZ

    def _open(self) -> None:
        assert self._serial is not None
        last = LAST_GRANULE + self._pre_skip
        self._input.end_with(_last_page(self._serial, last))
        self._file = open_sound(self._input, self.name)
        self.set_format(self._file.samplerate, self._file.channels)
        if self._granule_rate == OPUS_RATE_HZ:
            # the file may have been cut out of a longer one: then its frames are fewer by those before it
            self._granule_rate = OPUS_RATE_HZ // self.rate_hz
            begin = LAST_GRANULE - self._file.frames * self._granule_rate
            self._first_granule = begin or self._pre_skip
            self._dropped = self._pre_skip // self._granule_rate if begin else 0  # of the whole it skips them itself
        self._input.is_opened = True

    def _decode(self, page: Page) -> Samples:
        """The samples up to the end of a page."""
        if page.granule < 0:
            return NO_SAMPLES
        until = (page.granule - self._first_granule) // self._granule_rate
        missing = until - self._frames_done
        parts = [NO_SAMPLES]
        if missing > 0:
            self.count(missing)
        while missing > 0:
            asked = min(missing, READ_FRAMES)
            frames = read_frames(self._file, asked)
            dropped = min(self._dropped, len(frames))
            self._dropped -= dropped
            parts.append(mix_decoded(frames[dropped:]))
            self._frames_done += len(frames)
            missing -= len(frames)
            if len(frames) < asked:
                if self._ended:  # the last page may say more than there is
                    break
                raise self.damaged("a page has fewer samples than it says, or the file's beginning is missing")
        return np.concatenate(parts)


class _Growing:
    """A file in memory, as libsndfile reads it: what has come, nothing for long, and the last page at its end."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._first = 0  # position of the content; what is read is dropped
        self._position = 0
        self._tail = b""
        self.is_opened = False

    def __len__(self) -> int:
        return len(self._content)

    def append(self, content: bytes) -> None:
        if self.is_opened and self._position - self._first > KEPT_BYTES:
            del self._content[: self._position - self._first]
            self._first = self._position
        self._content += content

    def end_with(self, page: bytes) -> None:
        self._tail = bytes(TAIL_BYTES - len(page)) + page

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = max(0, (0, self._position, FILE_BYTES)[whence] + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        begin = self._position - self._first
        if self._position >= FILE_BYTES - TAIL_BYTES:
            begin = self._position - (FILE_BYTES - TAIL_BYTES)
            content: bytes | bytearray = self._tail[begin : begin + len(buffer)]
        elif begin < 0:
            content = b""
        else:
            content = self._content[begin : begin + len(buffer)]
        buffer[: len(content)] = bytes(content)
        self._position += len(content)
        return len(content)


def _last_page(serial: int, granule: int) -> bytes:
    """An empty page that ends a stream."""
    page = bytearray(_HEAD.pack(b"OggS", 0, ENDS, granule, serial, 0x7FFF_FFFF, 0, 1) + b"\0")
    page[22:26] = struct.pack("<I", _crc(page))
    return bytes(page)


def _crc(page: bytes | bytearray) -> int:
    """The checksum of RFC 3533: polynomial 0x04c11db7, not reflected, from 0."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C1_1DB7 if value & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return value


def _no_codec() -> UnsupportedInput:
    return UnsupportedInput("the Ogg file has neither Vorbis nor Opus: convert it, as with 'sox IN OUT.ogg'")
