"""Opens a file or standard input as pieces in one of the encodings of ``WS /stream``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from hetsyn_client.errors import InputError
from hetsyn_client.sources.bodies import Encoding, encoding_of
from hetsyn_client.sources.files import SUFFIXES, recording_chunks, step_chunks
from hetsyn_client.sources.wav import read_header
from hetsyn_client.terminal.standard_input import StandardInput

SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_s24le": 3, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
"""Encodings of WAV files that can be streamed, and the bytes of a sample."""
FOREIGN_HEADERS = {
    b"fLaC": "a FLAC file", b"OggS": "an Ogg file", b"ID3": "an MP3 file", b"FORM": "an AIFF file",
    b".snd": "an AU file", b"RIFX": "a RIFX file",
}  # fmt: skip
PIECE_BYTES = 4_096  # of a piece of values
LONGEST_HEADER_BYTES = 2**20

Kind = Literal["audio", "spikes", "values"]


class Source(NamedTuple):
    """The input of a stream.

    Attributes:
        rate_hz: sample rate; None for spikes and values.
        channels: channels of sound, or numbers of a row of values; None for spikes, and for one channel of sound.
        pieces: contents of binary frames of ``WS /stream``; None means that nothing has come for a while.
    """

    name: str
    encoding: Encoding
    rate_hz: int | None
    channels: int | None
    pieces: Iterator[bytes | None]

    @property
    def kind(self) -> Kind:
        if self.encoding == "events":
            return "spikes"
        return "values" if self.encoding == "values" else "audio"


def file_source(path: Path, chunk_s: float, described: Mapping[str, Any], example: int | None = None) -> Source:
    """Open a recording, or a file of spikes or values (``hetsyn_client.sources.files``).

    Args:
        described: the model, as ``GET /models/{name}`` describes it.
        example: number of an example of a .h5 file.

    Raises:
        InputError: the file cannot be used.
    """
    if path.suffix.lower() in SUFFIXES:
        takes_values, step_s = "values" in described["inputs"], described["input"]["step_s"]
        chunks = step_chunks(path, chunk_s, step_s, takes_values=takes_values, example=example)
    else:
        chunks = recording_chunks(path, chunk_s)
    first = next(chunks)
    stream = encoding_of(first.body.content_type)
    rate_hz, channels = (int(stream[name]) if name in stream else None for name in ("sample_rate", "channels"))
    pieces = (chunk.body.content for chunk in chain([first], chunks) if chunk.body.content)
    return Source(path.name, cast(Encoding, stream["encoding"]), rate_hz, channels, pieces)


def standard_input_source(
    incoming: StandardInput, chunk_s: float, rate_hz: int, channels: int, values: int | None = None
) -> Source:
    """Open standard input. The header of a WAV file overrides the arguments.

    Args:
        chunk_s: the longest piece of samples.
        rate_hz: sample rate of 16-bit samples without a header.
        values: numbers of a row of values; None for sound.

    Raises:
        InputError: another kind of file.
    """
    head = incoming.at_least(4)
    for magic, name in FOREIGN_HEADERS.items():
        if head.startswith(magic):
            raise InputError(f"standard input is {name}: name the file, or pipe 'ffmpeg -i FILE -f wav -' into hetsyn")
    if head.startswith(b"RIFF"):
        return _wav(incoming, head, chunk_s)
    if values is not None:
        row_bytes = 4 * values
        pieces = incoming.pieces(head, row_bytes * max(1, PIECE_BYTES // row_bytes), row_bytes)
        return Source("standard input", "values", None, values, pieces)
    return _samples(incoming, head, chunk_s, "pcm_s16le", rate_hz, channels, None)


def _wav(incoming: StandardInput, head: bytes, chunk_s: float) -> Source:
    while (header := read_header(head)) is None:
        more = incoming.at_least(1) if len(head) < LONGEST_HEADER_BYTES else b""
        if not more:
            raise InputError("standard input ends within the header of a WAV file: send the whole file")
        head += more
    if header.encoding not in SAMPLE_BYTES:
        raise InputError(
            f"standard input is a WAV file of {header.encoding}: name the file, or pipe 'ffmpeg -i FILE -f wav -' into "
            "hetsyn"
        )
    rest, encoding = head[header.offset :], header.encoding
    return _samples(incoming, rest, chunk_s, encoding, header.rate_hz, header.channels, header.size)


def _samples(
    incoming: StandardInput, head: bytes, chunk_s: float, encoding: str, rate_hz: int, channels: int, size: int | None
) -> Source:
    frame_bytes = SAMPLE_BYTES[encoding] * channels
    piece_bytes = frame_bytes * max(1, round(chunk_s * rate_hz))
    pieces = incoming.pieces(head, piece_bytes, frame_bytes, size)
    return Source("standard input", encoding, rate_hz, channels, pieces)  # type: ignore[arg-type]  # one of SAMPLE_BYTES
