"""Standard input: cut anywhere by whoever writes, and sent in whole samples, whatever it is."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsyn_client.errors import InputError
from hetsyn_client.terminal.source import Source, file_source, standard_input_source
from hetsyn_client.terminal.standard_input import READ_BYTES, StandardInput
from tests.support.data.wav import wav


@contextmanager
def pipe(*writes: bytes) -> Iterator[StandardInput]:
    """A pipe into which somebody writes."""
    read, write = os.pipe()

    def writer() -> None:
        with os.fdopen(write, "wb", buffering=0) as file:
            for content in writes:
                file.write(content)

    thread = threading.Thread(target=writer)
    thread.start()
    incoming = StandardInput(read)
    try:
        yield incoming
    finally:
        incoming.at_least(2**30)  # to its end: a reader that is left would read from the next file of this number
        thread.join()
        os.close(read)


def came(source: Source) -> list[bytes]:
    return [piece for piece in source.pieces if piece is not None]


def source_of(
    *writes: bytes, rate_hz: int = 8000, channels: int = 1, values: int | None = None
) -> tuple[Source, list[bytes]]:
    with pipe(*writes) as incoming:
        source = standard_input_source(incoming, 0.01, rate_hz, channels, values)
        return source, came(source)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=700), min_size=1, max_size=8), st.sampled_from([1, 2, 3]))
def test_pieces_are_whole_samples_and_nothing_is_lost(writes: list[bytes], channels: int) -> None:
    content = b"\0\0\0\0" + b"".join(writes)  # no header
    source, pieces = source_of(b"\0\0\0\0", *writes, channels=channels)
    frame_bytes = 2 * channels
    assert (source.encoding, source.rate_hz, source.channels) == ("pcm_s16le", 8000, channels)
    assert b"".join(pieces) == content[: len(content) // frame_bytes * frame_bytes]
    assert all(0 < len(piece) <= 80 * frame_bytes and len(piece) % frame_bytes == 0 for piece in pieces)


def test_a_wav_header_gives_the_samples_after_it() -> None:
    samples = np.arange(500, dtype="<i2").tobytes()
    content = wav(samples, rate_hz=11_025)
    for cut in (1, 3, 20, 44, 700):
        source, pieces = source_of(content[:cut], content[cut:] + b"LIST and more", rate_hz=7000, channels=7)
        assert (source.encoding, source.rate_hz, source.channels) == ("pcm_s16le", 11_025, 1)
        assert b"".join(pieces) == samples


def test_the_samples_of_a_wav_file_that_is_streamed_never_end() -> None:
    header = bytearray(wav(b""))
    header[40:44] = struct.pack("<I", 0x7FFF_FF00)  # as arecord writes it
    source, pieces = source_of(bytes(header), *[bytes(READ_BYTES)] * 5)
    assert source.encoding == "pcm_s16le"
    assert sum(map(len, pieces)) == 5 * READ_BYTES


def test_rows_of_values() -> None:
    rows = np.arange(30, dtype="<f4").reshape(10, 3).tobytes()
    source, pieces = source_of(rows[:17], rows[17:] + b"\0", values=3)
    assert (source.encoding, source.rate_hz, source.channels, source.kind) == ("values", None, 3, "values")
    assert b"".join(pieces) == rows
    assert all(len(piece) % 12 == 0 for piece in pieces)


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"ID3\x04 and more", "standard input is an MP3 file: name the file, or pipe 'ffmpeg"),
        (b"FORM and more", "AIFF"),
        (b"fLaC and more", "standard input is a FLAC file: name the file, or pipe 'ffmpeg"),
        (b"OggS and more", "standard input is an Ogg file: name the file"),
        (wav(bytes(8), width=1), "a WAV file of pcm_u8: name the file, or pipe 'ffmpeg"),
        (b"RIFF\0\0\0\0WAVEfmt ", "send the whole file"),
        (b"RIFF\0\0\0\0AVI and so on", "not a WAV file"),
    ],
)
def test_what_cannot_be_streamed_is_explained(content: bytes, advice: str) -> None:
    with pytest.raises(InputError, match=advice):
        source_of(content)


def test_nothing_is_waited_for_once_the_user_has_had_enough() -> None:
    read, write = os.pipe()
    stopped = threading.Event()
    incoming = StandardInput(read, stopped.is_set)
    os.write(write, bytes(100))
    source = standard_input_source(incoming, 0.01, 8000, 1)
    pieces = iter(source.pieces)
    assert next(pieces) is not None
    assert next(pieces) is None  # nothing has come
    stopped.set()
    assert list(pieces) == []
    os.close(write)


def test_a_recording_of_no_length_has_no_pieces(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(b""))
    assert came(file_source(tmp_path / "a.wav", 0.1, {})) == []
