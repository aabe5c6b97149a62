"""The encodings of sound, by the names that ``/stream`` and ``/infer`` share, and the media types that mean them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import NamedTuple

import numpy as np

from service.errors import InputError, UnsupportedInput
from service.wire.chunk import AudioChunk, Chunk
from service.wire.containers import NO_SAMPLES, STREAM_KEPT_BYTES, Container, WavDecoder
from service.wire.flac import FlacDecoder
from service.wire.ogg import OggDecoder
from service.wire.pcm import Samples, check_channels, check_rate, decode_samples, decode_wav

RAW = ("pcm_s16le", "pcm_s24le", "pcm_f32le", "mulaw", "alaw")
"""Samples without a header; they need their rate."""

CONTAINERS: Mapping[str, Callable[[], Container]] = {"wav": WavDecoder, "flac": FlacDecoder, "ogg": OggDecoder}
"""Files, which have their rate in a header."""

COMPRESSED = ("flac", "ogg")
"""Of those: a few bytes may take long to decode."""

L16 = "audio/l16"
PCM = "audio/pcm"
_RAW_TYPES = {
    L16: ("audio/L16", "pcm_s16be"),  # RFC 2586
    "audio/l24": ("audio/L24", "pcm_s24be"),  # RFC 3190
    "audio/pcmu": ("audio/PCMU", "mulaw"),  # RFC 4856
    "audio/pcma": ("audio/PCMA", "alaw"),
    "audio/basic": ("audio/basic", "mulaw"),  # RFC 2046
}
_CONTAINER_TYPES = {
    **dict.fromkeys(("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"), "wav"),
    **dict.fromkeys(("audio/flac", "audio/x-flac"), "flac"),
    **dict.fromkeys(("audio/ogg", "application/ogg"), "ogg"),
}
MEDIA_TYPES = (*_CONTAINER_TYPES, *_RAW_TYPES, PCM)
TELEPHONE_RATE_HZ = 8_000  # of G.711
MOST_GROWTH = 4  # bytes of samples, float32, for a byte of sound that is not compressed: that of mu-law


class Sound(NamedTuple):
    """How sound is encoded.

    Attributes:
        encoding: one of ``RAW`` or ``CONTAINERS``, or another one of ``pcm.FORMATS``.
        rate_hz: of the samples; 0 for a container.
        channels: of the samples; 0 for a container.
    """

    encoding: str
    rate_hz: int = 0
    channels: int = 0


class SoundLimit(NamedTuple):
    """How much sound is decoded at once.

    Attributes:
        max_s: seconds, at most.
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
    container = CONTAINERS[encoding]()
    container.max_sound_s = limit.max_s
    parts = [part for part in (container.push(data), container.finish()) if len(part)]
    if not container.is_whole:
        raise InputError(f"the {encoding} file is cut off: send the whole file")
    return AudioChunk(parts[0] if len(parts) == 1 else np.concatenate([NO_SAMPLES, *parts]), container.rate_hz)


def decoded_bytes(chunk: Chunk | None, encoded_bytes: int) -> int:
    """Bytes of compressed sound beyond those that came; 0 where it has not grown more than other sound does."""
    if not isinstance(chunk, AudioChunk) or chunk.samples.nbytes <= MOST_GROWTH * encoded_bytes:
        return 0
    return chunk.samples.nbytes - encoded_bytes


def sound_of_media_type(media_type: str, parameters: Mapping[str, str]) -> Sound | None:
    """How the body of a media type is encoded; None if it is no sound.

    Args:
        media_type: in lower case.
        parameters: names in lower case. ``rate`` and ``channels`` (default 1) are those of the RFCs. ``endianness`` is
            our own: ``big-endian``, the RFC's order and the default, or ``little-endian``; and so is ``encoding`` of
            ``audio/pcm``.

    Raises:
        InputError: a parameter is missing, unknown or impossible.
        UnsupportedInput: there is no such encoding.
    """
    if media_type in _CONTAINER_TYPES:
        return Sound(_CONTAINER_TYPES[media_type])
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
    endianness = parameters.get("endianness", "big-endian").lower()
    if endianness not in ("big-endian", "little-endian"):
        raise InputError(f"{name} with endianness {endianness!r}: send big-endian (the default) or little-endian")
    if endianness == "little-endian":
        encoding = encoding.removesuffix("be") + "le"
    return Sound(encoding, rate_hz, channels)


class SoundFile:
    """The file that the frames of a stream make up. It begins anew with each connection, and after each ``Reset``.

    Args:
        encoding: one of ``CONTAINERS``.
        is_resent: a session that has begun gets its file again from the beginning: what it has is skipped.

    Attributes:
        max_sound_s: seconds that are decoded of one frame, at most.
    """

    def __init__(self, encoding: str, *, is_resent: bool = False) -> None:
        self._encoding = encoding
        self._is_resent = is_resent
        self._skipped = 0
        self.max_sound_s = inf
        self._container = CONTAINERS[encoding]()

    def begin(self, received: int) -> None:
        """Begin a file.

        Args:
            received: samples of the session so far.
        """
        self._container = CONTAINERS[self._encoding]()
        self._skipped = received if self._is_resent else 0

    @property
    def takes_long(self) -> bool:
        """Whether a few bytes may take long to decode."""
        return self._encoding in COMPRESSED

    def decode(self, content: bytes) -> AudioChunk:
        """The next piece of the file, which may complete no sample.

        Raises:
            InputError: the file is damaged, or of another format.
            TooLarge: the piece is longer than the limit.
        """
        self._container.max_sound_s = self.max_sound_s
        self._container.max_kept_bytes = STREAM_KEPT_BYTES
        return self._chunk(self._container.push(content))

    def rest(self) -> AudioChunk | None:
        """The samples that only the end of the file completes; None without any."""
        chunk = self._chunk(self._container.finish())
        return chunk if len(chunk.samples) else None

    def _chunk(self, samples: Samples) -> AudioChunk:
        if self._skipped:
            skipped = min(self._skipped, len(samples))
            self._skipped -= skipped
            samples = samples[skipped:]
        return AudioChunk(samples, self._container.rate_hz)


def _example(media_type: str, encoding: str) -> str:
    return f"{PCM};encoding={encoding};rate=8000" if media_type == PCM else f"{_RAW_TYPES[media_type][0]};rate=8000"


def _whole(text: str, name: str, parameter: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InputError(f"{name}: {parameter}={text[:64]!r} is not a whole number")
    return int(text)
