"""FLAC files, frame by frame (RFC 9639).

A frame does not depend on those before it. So the frames that are complete are decoded as a file of their own, with a
header that counts their samples. A frame is complete when the next one begins: that has the next number, and a header
like the first one's, with a valid checksum. The last frame is complete when it can be decoded, if the header of the
file says how many samples there are. Else it is decoded when the file ends.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

import numpy as np

from service.errors import InputError
from service.wire.containers import (
    MOST_PARTS,
    NO_SAMPLES,
    Bounded,
    mix_decoded,
    open_sound,
    read_frames,
)
from service.wire.pcm import Samples

MAGIC = b"fLaC"
STREAM_INFO_BYTES = 34
MOST_HEAD_BYTES = 16  # of a frame
BLOCK_SIZES = {1: 192, **{code: 144 << code for code in range(2, 6)}, **{code: 1 << code for code in range(8, 16)}}
"""Samples of a frame, by their code; 6 and 7 say it further on."""


class Frame(NamedTuple):
    """The header of a frame.

    Attributes:
        offset: of the frame.
        number: of the frame, or of its first sample if frames differ in length.
        samples: of each channel.
    """

    offset: int
    number: int
    samples: int


class FlacDecoder(Bounded):
    """A FLAC file."""

    def __init__(self) -> None:
        super().__init__("FLAC")
        self._begun = bytearray()  # of the metadata, then of the frame that is not complete
        self._skipped = 0  # bytes of metadata that are still to be skipped
        self._info = b""
        self._total = 0  # frames that the header declares; 0 for unknown
        self._is_in_metadata = True
        self._alike: _Alike | None = None
        self._searched = 0  # the next frame begins at or after this
        self._decoded = 0
        self._is_whole = False

    def push(self, data: bytes) -> Samples:
        self._begun += data
        self.begin()
        if (self._is_in_metadata or self._skipped) and not self._skip_metadata():
            return NO_SAMPLES
        if self._is_whole:  # what follows is no sound
            self._begun.clear()
            return NO_SAMPLES
        frames = self._find_frames()
        samples = self._decode_complete(frames)
        if frames and self._decoded + frames[-1].samples == self._total:
            last = self._decode_last(frames[-1])
            return np.concatenate([samples, last]) if len(samples) else last
        return samples

    def finish(self) -> Samples:
        self.begin()
        if self._is_in_metadata or self._skipped or self._is_whole:
            return NO_SAMPLES
        frames = self._find_frames(is_end=True)
        parts = [self._decode_complete(frames)]
        if frames:
            parts.append(self._decode_last(frames[-1]))
        self._begun.clear()
        return np.concatenate(parts)

    @property
    def is_whole(self) -> bool:
        return self._is_whole

    def _skip_metadata(self) -> bool:
        """Read the blocks before the frames; False if they go on."""
        data = self._begun
        if not self._info:
            if not MAGIC.startswith(data[:4]):
                raise InputError("this is not a FLAC file (fLaC): convert it, as with 'sox IN OUT.flac'")
            if len(data) < 8 + STREAM_INFO_BYTES:
                return False
            if data[4] & 0x7F or int.from_bytes(data[5:8], "big") != STREAM_INFO_BYTES:
                raise self.damaged("it does not begin with its format")
            self._read_info(bytes(data[8 : 8 + STREAM_INFO_BYTES]))
            self._is_in_metadata = not data[4] & 0x80
            del data[: 8 + STREAM_INFO_BYTES]
        while True:
            skipped = min(self._skipped, len(data))
            del data[:skipped]
            self._skipped -= skipped
            if not self._is_in_metadata and not self._skipped:
                return True
            if self._skipped or len(data) < 4:
                return False
            self._is_in_metadata = not data[0] & 0x80
            self._skipped = 4 + int.from_bytes(data[1:4], "big")

    def _read_info(self, info: bytes) -> None:
        packed = int.from_bytes(info[10:18], "big")
        self._total = packed & (1 << 36) - 1
        self._info = info
        self.set_format(packed >> 44, (packed >> 41 & 7) + 1)

    def _find_frames(self, *, is_end: bool = False) -> list[Frame]:
        """The frames that begin in what has come, the first of them at its beginning.

        Args:
            is_end: nothing follows.
        """
        data = self._begun
        longest = 0 if is_end else MOST_HEAD_BYTES
        if self._alike is None and len(data) > 4:
            self._alike = _Alike.of(data)
        first = None if self._alike is None else self._alike.read(data, 0)
        if self._alike is None or first is None:
            if len(data) <= longest:
                return []
            raise self.damaged("no frame where one begins")
        frames, candidates = [first], 0
        self._searched = max(self._searched, 1)
        while True:
            expected = frames[-1].number + (frames[-1].samples if self._alike.varies else 1)
            found = self._alike.pattern(expected).search(data, self._searched)
            if found is None:
                self._searched = max(self._searched, len(data) - MOST_HEAD_BYTES)  # a header may be cut off
                break
            candidates += 1
            if candidates > MOST_PARTS:
                raise InputError(f"more than {MOST_PARTS} frames of FLAC came at once: cut the file into chunks")
            frame = self._alike.read(data, found.start())
            if frame is None and len(data) - found.start() < longest:
                self._searched = found.start()  # it may be cut off
                break
            self._searched = found.start() + 1
            if frame is not None and frame.number == expected:
                self.count(frames[-1].samples)
                frames.append(frame)
        self.check_kept("frame", len(data) - frames[-1].offset)
        return frames

    def _decode_complete(self, frames: list[Frame]) -> Samples:
        """The samples of all frames but the last, which may not be complete."""
        if len(frames) < 2:
            return NO_SAMPLES
        end = frames[-1].offset
        samples = self._decode(bytes(self._begun[:end]), sum(frame.samples for frame in frames[:-1]))
        del self._begun[:end]
        self._searched -= end
        return samples

    def _decode_last(self, frame: Frame) -> Samples:
        """The samples of what may be the last frame; none if it is not complete."""
        self.count(frame.samples)
        samples = self._decode(bytes(self._begun), frame.samples, is_last=True)
        self._is_whole = len(samples) > 0 and self._total in (0, self._decoded)
        return samples

    def _decode(self, content: bytes, count: int, *, is_last: bool = False) -> Samples:
        """The samples of frames.

        Args:
            content: the frames.
            count: of their samples.
            is_last: the content may be cut off, or more may follow: then there are none.
        """
        info = bytearray(self._info)
        info[4:10] = bytes(6)  # sizes of frames: unknown
        info[10:18] = (int.from_bytes(info[10:18], "big") >> 36 << 36 | count).to_bytes(8, "big")
        info[18:34] = bytes(16)  # of the samples' checksum
        head = MAGIC + bytes([0x80, 0, 0, STREAM_INFO_BYTES])
        with open_sound(io.BytesIO(head + info + content), self.name) as file:
            frames = read_frames(file, count)
        if len(frames) == count:
            self._decoded += count
            return mix_decoded(frames)
        if not is_last:
            raise self.damaged("a frame cannot be decoded")
        return NO_SAMPLES


class _Alike(NamedTuple):
    """What the headers of all frames of a file have in common.

    Attributes:
        varies: frames differ in length, so they have the number of a sample.
        sync: the first two bytes.
        rate: code of the sample rate, and of where it stands.
        bits: code of the bits of a sample.
    """

    varies: bool
    sync: bytes
    rate: int
    bits: int

    @classmethod
    def of(cls, data: bytes | bytearray) -> _Alike | None:
        """As of the frame at the beginning; None if there is none."""
        alike = cls(bool(data[1] & 1), bytes(data[:2]), data[2] & 0x0F, data[3] & 0x0E)
        return alike if alike.sync in (b"\xff\xf8", b"\xff\xf9") and alike.read(data, 0) is not None else None

    def pattern(self, number: int) -> re.Pattern[bytes]:
        """Finds the header of the frame of a number."""
        thirds = bytes(code << 4 | self.rate for code in range(1, 16))
        fourths = bytes(code << 4 | self.bits for code in range(11))
        return re.compile(
            re.escape(self.sync) + b"[" + _class(thirds) + b"][" + _class(fourths) + b"]" + re.escape(_coded(number)),
            re.DOTALL,
        )

    def read(self, data: bytes | bytearray, offset: int) -> Frame | None:
        """The header at an offset; None if there is none like that of the others."""
        head = data[offset : offset + MOST_HEAD_BYTES]
        if len(head) < 6 or head[:2] != self.sync or head[2] & 0x0F != self.rate or head[3] & 0x0F != self.bits:
            return None
        code, at = head[2] >> 4, 4
        length = _coded_length(head[4])
        if length is None or self.rate == 15 or head[3] >> 4 > 10 or len(head) < at + length:
            return None
        number = head[4] if length == 1 else head[4] & (1 << 7 - length) - 1
        for byte in head[5 : 4 + length]:
            number = number << 6 | byte & 0x3F
        at += length
        samples = BLOCK_SIZES.get(code)
        if code in (6, 7):
            width = code - 5
            samples = int.from_bytes(head[at : at + width], "big") + 1
            at += width
        at += {12: 1, 13: 2, 14: 2}.get(self.rate, 0)
        if samples is None or len(head) <= at or _crc8(head[: at + 1]):
            return None
        return Frame(offset, number, samples)


def _coded(number: int) -> bytes:
    """A number as UTF-8 would write it, up to 36 bits."""
    if number < 0x80:
        return bytes([number])
    length = 2
    while number >> 5 * length + 1:
        length += 1
    rest = [number >> 6 * place & 0x3F | 0x80 for place in range(length - 1)]
    return bytes([(0xFF00 >> length & 0xFF) | number >> 6 * (length - 1), *reversed(rest)])


def _coded_length(first: int) -> int | None:
    """Bytes of a number of which this is the first."""
    ones = 8 - (~first & 0xFF).bit_length()
    return 1 if ones == 0 else ones if 2 <= ones <= 7 else None


def _class(codes: bytes) -> bytes:
    """Bytes within the brackets of a pattern."""
    return b"".join(b"\\x%02x" % code for code in codes)


def _crc8_table() -> bytes:
    table = bytearray()
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF
        table.append(value)
    return bytes(table)


_CRC8 = _crc8_table()


def _crc8(data: bytes | bytearray) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value
