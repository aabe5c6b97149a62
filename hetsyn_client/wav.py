"""WAV files of 16-bit PCM.

The reader is our own because it reads what strangers send: it takes this one format, refuses the rest with a sentence
that says how to convert it, and runs no code of libsndfile on their bytes.

"RIFF" size "WAVE", then chunks: name, uint32 size, content, and a byte of padding after an odd size
"fmt "    uint16 format, channels; uint32 rate, bytes a second; uint16 bytes a frame, bits a sample;
          in the extensible format further uint16 length, valid bits; uint32 speakers; the subformat's GUID
"data"    the samples
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hetsyn_client.errors import InputError

PCM, EXTENSIBLE = 0x0001, 0xFFFE
# of a subformat's GUID; the two bytes before it are a format as above
GUID_TAIL = bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")
FORMATS = {0x0002: "ADPCM", 0x0003: "floating-point", 0x0006: "A-law", 0x0007: "mu-law", 0x0011: "ADPCM", 0x0055: "MP3"}
# sizes from here on are written by programs which do not know yet how much will follow; others write 0
STREAMED_BYTES = 0x7FFF_0000

CUT_OFF = "the WAV file is cut off within its header: send the whole file"
CONVERT = "convert it to 16-bit PCM, as with 'sox IN -b 16 OUT.wav'"


@dataclass(frozen=True)
class Pcm:
    """Sound of a WAV file.

    Attributes:
        channels: 1 or 2.
        rate_hz: samples a second of each channel.
        content: 16-bit little-endian samples, the channels interleaved.
    """

    channels: int
    rate_hz: int
    content: bytes


def read_wav(data: bytes) -> Pcm:
    """The sound of a whole WAV file. A program that streamed the file may have left its length open.

    Raises:
        InputError: another format, damaged, or cut off.
    """
    if not (b"RIFF".startswith(data[:4]) and b"WAVE".startswith(data[8:12])):
        raise InputError(f"this is not a WAV file (RIFF, WAVE): {CONVERT}")
    sound: tuple[int, int] | None = None
    offset = 12
    while offset + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, offset)
        offset += 8
        if name == b"data":
            if sound is None:
                raise InputError(f"the WAV file has samples before their format: {CONVERT}")
            return Pcm(*sound, _samples(data[offset:], size))
        if name == b"fmt ":
            sound = _format(data[offset : offset + size])
        offset += size + size % 2
    raise InputError(CUT_OFF)


def _samples(rest: bytes, size: int) -> bytes:
    """The samples at the beginning of ``rest``, of the declared size in bytes."""
    if size == 0 or (size > len(rest) and size >= STREAMED_BYTES):
        return rest
    if size > len(rest):
        raise InputError(
            f"the WAV file declares {size} bytes of samples, but contains {len(rest)}: send the whole file"
        )
    return rest[:size]


def _format(chunk: bytes) -> tuple[int, int]:
    """Channels, and rate in Hz, as a ``fmt`` chunk has them.

    Raises:
        InputError: not 16-bit PCM of one or two channels.
    """
    if len(chunk) < 16:
        raise InputError(CUT_OFF)
    kind, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if kind == EXTENSIBLE:
        if len(chunk) < 40:
            raise InputError(CUT_OFF)
        # a GUID of another family stays 'extensible', which is refused below
        kind = struct.unpack_from("<H", chunk, 24)[0] if chunk[26:40] == GUID_TAIL else kind
    if kind != PCM:
        raise InputError(f"the WAV file has {FORMATS.get(kind, f'format {kind:#06x}')} samples: {CONVERT}")
    if bits != 16:
        raise InputError(f"the WAV file has {bits}-bit samples: {CONVERT}")
    if channels not in (1, 2):
        raise InputError(f"the WAV file has {channels} channels: send one channel, or two, which are averaged")
    return channels, rate_hz
