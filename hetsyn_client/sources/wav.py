"""Reads WAV files of strangers, whole or piece by piece.

It takes uncompressed samples, and refuses others with a sentence that says how to convert them.

"RIFF" size "WAVE", then chunks: name, uint32 size, content, and a byte of padding after an odd size
"fmt "    uint16 format, channels; uint32 rate, bytes a second; uint16 bytes a frame, bits a sample;
          in the extensible format further uint16 length, valid bits; uint32 speakers; the subformat's GUID
"data"    the samples
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hetsyn_client.errors import InputError

PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 0x0001, 0x0003, 0x0006, 0x0007, 0xFFFE
# the end of a subformat's GUID; the two bytes before it are a format as above
GUID_TAIL = bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")
FORMATS = {PCM: "PCM", FLOAT: "floating-point", 0x0002: "ADPCM", 0x0011: "ADPCM", 0x0031: "GSM", 0x0055: "MP3"}
ENCODINGS = {
    (PCM, 8): "pcm_u8", (PCM, 16): "pcm_s16le", (PCM, 24): "pcm_s24le", (PCM, 32): "pcm_s32le",
    (FLOAT, 32): "pcm_f32le", (FLOAT, 64): "pcm_f64le", (ALAW, 8): "alaw", (MULAW, 8): "mulaw",
}  # fmt: skip
"""By format and bits of a sample."""
MOST_CHANNELS = 32
# programs that do not know the length yet write a size from here on, or 0
STREAMED_BYTES = 0x7FFF_0000

CUT_OFF = "the WAV file is cut off within its header: send the whole file"
CONVERT = "convert it to 16-bit PCM, as with 'ffmpeg -i IN -c:a pcm_s16le OUT.wav'"


class Header(NamedTuple):
    """The header of a WAV file.

    Attributes:
        encoding: one of ``ENCODINGS``.
        channels: up to ``MOST_CHANNELS``; their samples are interleaved.
        rate_hz: samples a second of each channel.
        offset: offset of the samples in the file, in bytes.
        size: bytes of the samples; None if they go up to the end of the file.
    """

    encoding: str
    channels: int
    rate_hz: int
    offset: int
    size: int | None


def read_wav(data: bytes) -> tuple[Header, bytes]:
    """Read the header and the samples of a whole WAV file. A program that streamed it may have left its length open.

    Raises:
        InputError: another format, damaged, or cut off.
    """
    header = read_header(data)
    if header is None:
        raise InputError(CUT_OFF)
    content = data[header.offset :]
    if header.size is not None:
        if header.size > len(content):
            raise InputError(
                f"the WAV file declares {header.size} bytes of samples, but contains {len(content)}: send the whole "
                "file"
            )
        content = content[: header.size]
    return header, content


def read_header(data: bytes | bytearray) -> Header | None:
    """Read the header of a WAV file that begins with ``data``; None if the header goes on after it.

    Raises:
        InputError: another format, or damaged.
    """
    if not (b"RIFF".startswith(data[:4]) and b"WAVE".startswith(data[8:12])):
        raise InputError(f"this is not a WAV file (RIFF, WAVE): {CONVERT}")
    sound: tuple[str, int, int] | None = None
    offset = 12
    while offset + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, offset)
        offset += 8
        if name == b"data":
            if sound is None:
                raise InputError(f"the WAV file has samples before their format: {CONVERT}")
            return Header(*sound, offset, None if size == 0 or size >= STREAMED_BYTES else size)
        if name == b"fmt " and offset + size <= len(data):
            sound = _format(data[offset : offset + size])
        offset += size + size % 2
    return None


def _format(chunk: bytes | bytearray) -> tuple[str, int, int]:
    """Read encoding, channels, and rate in Hz from a ``fmt`` chunk.

    Raises:
        InputError: compressed samples, too many channels, or a rate of 0.
    """
    if len(chunk) < 16:
        raise InputError(CUT_OFF)
    kind, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if kind == EXTENSIBLE:
        if len(chunk) < 40:
            raise InputError(CUT_OFF)
        # a GUID of another family stays 'extensible', which is refused below
        kind = struct.unpack_from("<H", chunk, 24)[0] if chunk[26:40] == GUID_TAIL else kind
    encoding = ENCODINGS.get((kind, bits))
    if encoding is None:
        named = FORMATS.get(kind, f"format {kind:#06x}")
        if kind in (PCM, FLOAT):
            raise InputError(f"the WAV file has {bits}-bit {named} samples: {CONVERT}")
        raise InputError(f"the WAV file has {named} samples: {CONVERT}")
    if not 1 <= channels <= MOST_CHANNELS:
        raise InputError(f"the WAV file has {channels} channels: send 1 to {MOST_CHANNELS}, which are averaged")
    if not rate_hz:
        raise InputError("the WAV file has a rate of 0 Hz: its header is damaged, so write the file again")
    return encoding, channels, rate_hz
