"""The encodings of sound: names for ``/stream`` and ``/infer``, media types, and the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from service.errors import InputError, UnsupportedInput
from service.wire.chunk import AudioChunk
from service.wire.pcm import check_channels, check_rate, decode_samples, decode_wav
from service.wire.sound_files import FORMATS, decode_file

RAW = ("pcm_s16le", "pcm_s24le", "pcm_f32le", "mulaw", "alaw")
"""Samples without a header; they need their rate."""

COMPRESSED = tuple(FORMATS)
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
        encoding: one of ``RAW`` or ``FILES``, or another one of ``pcm.FORMATS``.
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
