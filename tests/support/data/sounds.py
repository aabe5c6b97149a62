"""Sound files as libsndfile writes them."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile
from numpy.typing import NDArray

FORMATS = {
    "s16.wav": ("WAV", "PCM_16"),
    "s24.wav": ("WAV", "PCM_24"),
    "s32.wav": ("WAV", "PCM_32"),
    "u8.wav": ("WAV", "PCM_U8"),
    "f32.wav": ("WAV", "FLOAT"),
    "f64.wav": ("WAV", "DOUBLE"),
    "mulaw.wav": ("WAV", "ULAW"),
    "alaw.wav": ("WAV", "ALAW"),
    "s24.extensible.wav": ("WAVEX", "PCM_24"),
    "s16.flac": ("FLAC", "PCM_16"),
    "s24.flac": ("FLAC", "PCM_24"),
    "s8.flac": ("FLAC", "PCM_S8"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.ogg": ("OGG", "OPUS"),
    "layer3.mp3": ("MP3", "MPEG_LAYER_III"),
}
"""By a name that ends in the encoding's: container and samples, as libsndfile names them."""


def encoding_of(name: str) -> str:
    """The encoding of ``/stream`` and ``/infer`` for one of ``FORMATS``."""
    return name.rpartition(".")[2]


def frames(count: int, channels: int = 1) -> NDArray[np.float32]:
    """Coloured noise, float32 [count, channels], within 1."""
    steps = np.random.default_rng(count).normal(size=(count, channels))
    return np.clip(0.7 * np.tanh(np.cumsum(steps, axis=0) / 20), -1, 0.99).astype(np.float32)


def sound_file(name: str, samples: NDArray[np.float32], rate_hz: int) -> bytes:
    """A file of one of ``FORMATS``."""
    container, subtype = FORMATS[name]
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate_hz, samples.shape[1], format=container, subtype=subtype) as writer:
        for begin in range(0, len(samples), 4000):  # its Vorbis encoder overflows its stack on a long piece
            writer.write(samples[begin : begin + 4000])
    return file.getvalue()


def read_back(content: bytes) -> NDArray[np.float32]:
    """The samples of a file, [n], as libsndfile decodes it as a whole; the channels averaged."""
    decoded = np.clip(soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0], -1, 1)
    samples: NDArray[np.float32] = decoded[:, 0] if decoded.shape[1] == 1 else decoded.mean(axis=1, dtype=np.float32)
    return samples


def resealed(content: bytes) -> bytes:
    """An Ogg file after changes, with the checksums of its pages, so that its meaning is what is wrong."""
    pages, at = bytearray(content), 0
    while at + 27 <= len(pages) and pages[at : at + 4] == b"OggS":
        body = at + 27 + pages[at + 26]
        end = body + sum(pages[at + 27 : body])
        pages[at + 22 : at + 26] = bytes(4)
        pages[at + 22 : at + 26] = struct.pack("<I", _crc(bytes(pages[at:end])))
        at = end
    return bytes(pages)


def _crc(page: bytes) -> int:
    """The checksum of RFC 3533: polynomial 0x04c11db7, not reflected, from 0."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C1_1DB7 if value & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return value
