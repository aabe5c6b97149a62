"""Sound: its encodings and media types, and the decoders: PCM, and whole files by libsndfile."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.sources.wav import MOST_CHANNELS, read_wav
from service.errors import InputError, TooLarge, UnsupportedInput
from service.wire.chunk import AudioChunk, Samples

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 192_000
FULL_SCALE = np.float32(32_768.0)


class SampleFormat(NamedTuple):
    """A format of samples.

    Attributes:
        text: names it in a message.
        width: bytes of a sample.
        dtype: of the numbers that the samples' bytes are.
        full_scale: divides numbers that are integers around 0.
        convert: makes float32 [n] of other numbers; None if they are such integers.
    """

    text: str
    width: int
    dtype: str
    full_scale: float = 1.0
    convert: Callable[[NDArray[Any]], Samples] | None = None


def _from_8_bits(numbers: NDArray[np.uint8]) -> Samples:
    samples: Samples = (numbers.astype(np.float32) - np.float32(128)) / np.float32(128)
    return samples


def _from_24_bits(numbers: NDArray[np.uint8], first: int, dtype: str) -> Samples:
    """Convert samples of three bytes as the upper three of four: exact in float32.

    Args:
        first: position of the first of the three bytes among the four.
    """
    padded = np.zeros((len(numbers) // 3, 4), np.uint8)
    padded[:, first : first + 3] = numbers.reshape(-1, 3)
    samples: Samples = padded.view(dtype)[:, 0].astype(np.float32) / np.float32(2.0**31)
    return samples


def _from_floats(numbers: NDArray[Any]) -> Samples:
    if not np.isfinite(numbers).all():
        raise InputError("the sound has samples that are not finite: send numbers from -1 to 1")
    return clipped(numbers)


def clipped(samples: NDArray[Any]) -> Samples:
    """Clip floats to full scale, as converters to integers do. Decoders of lossy formats overshoot a little."""
    within: Samples = np.clip(samples, -1.0, 1.0).astype(np.float32)
    return within


def _mulaw_table() -> Samples:
    """Make the table of ITU-T G.711, table 2a: from a byte to 14 bits, here the upper ones of 16."""
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << ((code & 0x70) >> 4).astype(np.int32)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.float32) / FULL_SCALE


def _alaw_table() -> Samples:
    """Make the table of ITU-T G.711, table 1a: from a byte to 13 bits, here the upper ones of 16."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    segment = ((code & 0x70) >> 4).astype(np.int32)
    magnitude = ((code & 0x0F).astype(np.int32) << 4) + 8
    magnitude = np.where(segment > 0, magnitude + 0x100 << np.maximum(segment - 1, 0), magnitude)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.float32) / FULL_SCALE


FORMATS = {
    "pcm_s16le": SampleFormat("16-bit", 2, "<i2", 2.0**15),
    "pcm_s16be": SampleFormat("16-bit", 2, ">i2", 2.0**15),
    "pcm_s24le": SampleFormat("24-bit", 3, "u1", convert=partial(_from_24_bits, first=1, dtype="<i4")),
    "pcm_s24be": SampleFormat("24-bit", 3, "u1", convert=partial(_from_24_bits, first=0, dtype=">i4")),
    "pcm_s32le": SampleFormat("32-bit", 4, "<i4", 2.0**31),
    "pcm_u8": SampleFormat("8-bit", 1, "u1", convert=_from_8_bits),
    "pcm_f32le": SampleFormat("32-bit float", 4, "<f4", convert=_from_floats),
    "pcm_f64le": SampleFormat("64-bit float", 8, "<f8", convert=_from_floats),
    "mulaw": SampleFormat("mu-law", 1, "u1", convert=_mulaw_table().take),
    "alaw": SampleFormat("A-law", 1, "u1", convert=_alaw_table().take),
}


def check_rate(rate_hz: int) -> int:
    """Return a sample rate; refuse one that is not within 1 and 192 kHz."""
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise InputError(f"sample rate {rate_hz} Hz is not within {LOWEST_RATE_HZ}-{HIGHEST_RATE_HZ} Hz")
    return rate_hz


def check_channels(channels: int) -> int:
    """Return a number of channels; refuse one that is not taken."""
    if not 1 <= channels <= MOST_CHANNELS:
        raise InputError(f"sound of {channels} channels: send 1 to {MOST_CHANNELS}, which are averaged")
    return channels


def decode_samples(data: bytes, encoding: str, channels: int = 1) -> Samples:
    """Decode interleaved samples to float32 [n].

    Args:
        data: whole samples of every channel.
        encoding: one of ``FORMATS``.
        channels: channels of the data; several are averaged.

    Raises:
        InputError: the data is cut off, or has floats that are not finite.
    """
    text, width, dtype, full_scale, convert = FORMATS[encoding]
    if len(data) % (width * channels):
        raise InputError(
            f"{len(data)} bytes are not a whole number of {text} samples of {channels} channel(s): send whole samples"
        )
    numbers = np.frombuffer(data, dtype)
    samples: Samples = numbers.astype(np.float32) / full_scale if convert is None else convert(numbers)
    return samples if channels == 1 else mixed(samples.reshape(-1, channels))


def mixed(frames: Samples) -> Samples:
    """Average the channels of [n, channels] to [n]."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    samples: Samples = frames.mean(axis=1, dtype=np.float32)
    return samples


def decode_base64(text: str) -> bytes:
    """Decode the base64 of ``input.data``.

    Raises:
        InputError: it is not base64, or cut off.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        if text[:5].lower() == "data:":
            raise InputError("input.data is a data URL: send what follows its comma") from error
        if "-" in text or "_" in text:
            remedy = "send base64, with + for -, / for _, and its padding"
            raise InputError(f"input.data is base64url: {remedy}") from error
        raise InputError(
            f"input.data is not complete base64 ({error}): encode the whole chunk, with its padding"
        ) from error


def decode_wav(data: bytes) -> tuple[Samples, int]:
    """Decode a WAV file; several channels are averaged.

    Returns:
        The samples, [n], and their rate in Hz.

    Raises:
        InputError: the file has another format, is damaged or cut off.
    """
    header, content = read_wav(data)
    return decode_samples(content, header.encoding, header.channels), check_rate(header.rate_hz)


MOST_SAMPLES = 2**24  # over all channels; the default limit of bodies allows as many of mu-law
READ_FRAMES = 2**16
UNKNOWN_FRAMES = 2**62  # libsndfile reports more if a file does not tell its length

FIRST_PAGE = re.compile(rb"OggS\0[\2\3\6\7]")  # first page of a stream in an Ogg file (RFC 3533, section 6)
OTHER_PAGE = re.compile(rb"OggS\0[\0\1\4\5]")
PAGE_HEAD_BYTES, FLAGS_AT, SEGMENTS_AT, ENDS = 27, 5, 26, 4


class FileFormat(NamedTuple):
    """A format of files.

    Attributes:
        name: libsndfile's name.
        magics: a file begins with one of them.
        has_length: a file tells its number of samples.
    """

    name: str
    magics: tuple[bytes, ...]
    has_length: bool


FILE_FORMATS = {
    "flac": FileFormat("FLAC", (b"fLaC",), has_length=True),
    "ogg": FileFormat("OGG", (b"OggS",), has_length=True),
    "mp3": FileFormat("MP3", (b"ID3", b"\xff"), has_length=False),
}


def decode_file(data: bytes, encoding: str, max_s: float = inf) -> tuple[Samples, int]:
    """Decode a file; several channels are averaged.

    Args:
        encoding: one of ``FILE_FORMATS``.
        max_s: limit of seconds to decode.

    Returns:
        The samples, [n], and their rate in Hz.

    Raises:
        InputError: the file has another format, is damaged or cut off.
        TooLarge: it has too many samples.
        UnsupportedInput: it is an Ogg file without Vorbis and Opus.
    """
    import soundfile  # a server without sound of these formats does not load it

    wanted = FILE_FORMATS[encoding]
    if not data.startswith(wanted.magics):
        raise InputError(f"this is no {wanted.name} file: send the whole file, with the content type that it has")
    if encoding == "ogg":
        _check_pages(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format != wanted.name:
                raise _broken_file(wanted)
            # without the seek, Opus cut out of a stream begins too early, and MP3 differs from what a client decodes
            file.seek(0)
            file.seekable = lambda: False  # else libsndfile seeks after each read, and decoders begin anew
            rate_hz = check_rate(file.samplerate)
            longest_s = min(max_s, MOST_SAMPLES / check_channels(file.channels) / rate_hz)
            samples = _read_file(file, int(longest_s * rate_hz), wanted)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OverflowError) as error:
        raise _broken_file(wanted) from error
    if samples is None:
        raise TooLarge(f"the {wanted.name} file has more than {longest_s:g} s of sound: cut it into several chunks")
    return samples, rate_hz


def _read_file(file: Any, most: int, wanted: FileFormat) -> Samples | None:
    """Read the samples of an open file, [n]; None if there are more than ``most``."""
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
            raise _broken_file(wanted)
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
    if len(data) < lengths:
        raise _broken_file(FILE_FORMATS["ogg"])
    segments = data[last + SEGMENTS_AT]
    end = lengths + segments + sum(data[lengths : lengths + segments])
    if not data[last + FLAGS_AT] & ENDS or end != len(data):
        raise _broken_file(FILE_FORMATS["ogg"])


def _broken_file(wanted: FileFormat) -> InputError:
    return InputError(
        f"the {wanted.name} file is cut off or damaged: send the whole file, or encode the recording again"
    )


RAW = ("pcm_s16le", "pcm_s24le", "pcm_f32le", "mulaw", "alaw")
"""Samples without a header; they need their rate."""

COMPRESSED = tuple(FILE_FORMATS)
"""Whole files that may take long to decode, however short they are."""

FILES = ("wav", *COMPRESSED)
"""Whole files, which have their rate in a header."""

L16 = "audio/l16"
PCM = "audio/pcm"
_RAW_TYPES = {
    L16: ("audio/L16", "pcm_s16be"),  # RFC 2586
    "audio/l24": ("audio/L24", "pcm_s24be"),  # RFC 3190
    "audio/pcmu": ("audio/PCMU", "mulaw"),  # RFC 4856
    "audio/pcma": ("audio/PCMA", "alaw"),
    "audio/basic": ("audio/basic", "mulaw"),  # RFC 2046
}
_FILE_TYPES = {
    **dict.fromkeys(("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"), "wav"),
    **dict.fromkeys(("audio/flac", "audio/x-flac"), "flac"),
    **dict.fromkeys(("audio/ogg", "application/ogg"), "ogg"),
    **dict.fromkeys(("audio/mpeg", "audio/mp3"), "mp3"),
}
MEDIA_TYPES = (*_FILE_TYPES, *_RAW_TYPES, PCM)
TELEPHONE_RATE_HZ = 8_000  # the rate of G.711


class Sound(NamedTuple):
    """An encoding of sound.

    Attributes:
        encoding: one of ``RAW`` or ``FILES``, or another one of ``FORMATS``.
        rate_hz: sample rate; 0 for a file, which tells it.
        channels: number of channels; 0 for a file, which tells it.
    """

    encoding: str
    rate_hz: int = 0
    channels: int = 0


class SoundLimit(NamedTuple):
    """Limits for decoding a sound.

    Attributes:
        max_s: seconds of sound.
        may_take_long: this thread may decode compressed sound.
    """

    max_s: float = inf
    may_take_long: bool = True


NO_LIMIT = SoundLimit()


class TakesLong(Exception):
    """The input is compressed sound: decode it on another thread."""


def decode_sound(sound: Sound, data: bytes, limit: SoundLimit = NO_LIMIT) -> AudioChunk:
    """Decode a whole sound.

    Raises:
        InputError: it is damaged, cut off, or of another format.
        TooLarge: it is longer than the limit.
        TakesLong: it must be decoded on another thread.
    """
    encoding, rate_hz, channels = sound
    if rate_hz:
        return AudioChunk(decode_samples(data, encoding, channels), rate_hz)
    if encoding in COMPRESSED and not limit.may_take_long:
        raise TakesLong
    if encoding == "wav":
        return AudioChunk(*decode_wav(data))
    return AudioChunk(*decode_file(data, encoding, limit.max_s))


def sound_of_media_type(media_type: str, parameters: Mapping[str, str]) -> Sound | None:
    """Find the encoding of a media type; None if it is no sound.

    Args:
        media_type: in lower case.
        parameters: names in lower case. ``rate`` and ``channels`` (default 1) are the RFCs'. ``endianness``
            (``big-endian`` as in the RFCs, or ``little-endian``) and ``encoding`` of ``audio/pcm`` are our own.

    Raises:
        InputError: a parameter is missing, unknown or impossible.
        UnsupportedInput: there is no such encoding.
    """
    if media_type in _FILE_TYPES:
        return Sound(_FILE_TYPES[media_type])
    if media_type == PCM:
        known: tuple[str, ...] = ("encoding", "rate", "channels")
        name, encoding = PCM, parameters.get("encoding", "")
        if encoding not in RAW:
            raise UnsupportedInput(f"{PCM} with encoding {encoding[:64]!r}: send one of {', '.join(RAW)}")
    elif media_type in _RAW_TYPES:
        name, encoding = _RAW_TYPES[media_type]
        known = ("rate", "channels", "endianness") if encoding.endswith("be") else ("rate", "channels")
    else:
        return None
    for parameter in parameters:
        if parameter not in known:
            raise InputError(f"{name} has no parameter {parameter!r}: it takes {', '.join(known[:-1])} and {known[-1]}")
    if "rate" not in parameters and (media_type == PCM or encoding not in ("mulaw", "alaw")):
        raise InputError(f"{name} needs its sample rate: send content type '{_example(media_type, encoding)}'")
    rate_hz = check_rate(_whole(parameters.get("rate", str(TELEPHONE_RATE_HZ)), name, "rate"))
    channels = check_channels(_whole(parameters.get("channels", "1"), name, "channels"))
    if media_type == L16 and "endianness" not in parameters:  # big-endian in RFC 2586, little-endian in most programs
        raise InputError(
            f"{name} does not say which byte of a sample comes first: send '{PCM};encoding=pcm_s16le;rate={rate_hz}' "
            f"for the low one, as most programs write it, or '{name};rate={rate_hz};endianness=big-endian'"
        )
    endianness = parameters.get("endianness", "big-endian").lower()
    if endianness not in ("big-endian", "little-endian"):
        raise InputError(f"{name} with endianness {endianness[:64]!r}: send big-endian or little-endian")
    if endianness == "little-endian":
        encoding = encoding.removesuffix("be") + "le"
    return Sound(encoding, rate_hz, channels)


def _example(media_type: str, encoding: str) -> str:
    if media_type in (PCM, L16):
        return f"{PCM};encoding={'pcm_s16le' if media_type == L16 else encoding};rate=8000"
    return f"{_RAW_TYPES[media_type][0]};rate=8000"


def _whole(text: str, name: str, parameter: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InputError(f"{name}: {parameter}={text[:64]!r} is not a whole number")
    return int(text)
