"""Whole sound files: the samples are those of libsndfile, and what is broken gets a sentence."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest

from service.errors import InputError, TooLarge, UnsupportedInput
from service.wire.chunk import Samples
from service.wire.sound import MOST_SAMPLES, Sound, SoundLimit, TakesLong, decode_sound
from tests.support.data.signals import sound
from tests.support.data.sounds import FORMATS, encoding_of, frames, read_back, resealed, sound_file
from tests.support.data.wav import wav

FILES = {
    (name, channels): sound_file(name, frames(count, channels), 16_000)
    for name in FORMATS
    for channels, count in ((1, 9_000), (2, 5_000))
}


def decoded(encoding: str, content: bytes, limit: SoundLimit | None = None) -> Samples:
    return decode_sound(Sound(encoding), content, *([] if limit is None else [limit])).samples


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [1, 2, 15, 4_096, 4_097, 20_000, 70_000])
@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
def test_files_of_any_length(name: str, count: int, rate_hz: int) -> None:
    content = sound_file(name, frames(count), rate_hz)
    chunk = decode_sound(Sound(encoding_of(name)), content)
    assert chunk.rate_hz == rate_hz
    assert len(chunk.samples) == count
    np.testing.assert_array_equal(chunk.samples, read_back(content))


@pytest.mark.parametrize("name", FORMATS)
def test_channels_are_averaged(name: str) -> None:
    content = FILES[name, 2]
    np.testing.assert_array_equal(decoded(encoding_of(name), content), read_back(content))


@pytest.mark.parametrize("name", ["s16.wav", "s16.flac", "vorbis.ogg", "opus.ogg"])
def test_a_file_that_is_cut_off(name: str) -> None:
    content = FILES[name, 1]
    for length in (1, 4, 5, 12, 26, 30, 44, 200, len(content) // 2, len(content) - 1):
        with pytest.raises((InputError, UnsupportedInput), match=r"cut off|declares|this is no|neither Vorbis"):
            decoded(encoding_of(name), content[:length])


def test_a_flac_file_that_does_not_say_its_length() -> None:
    content = bytearray(FILES["s16.flac", 1])
    content[8 + 13] &= 0xF0
    content[8 + 14 : 8 + 18] = bytes(4)
    np.testing.assert_array_equal(decoded("flac", bytes(content)), read_back(FILES["s16.flac", 1]))
    with pytest.raises(InputError, match="cut off or damaged"):
        decoded("flac", bytes(content[:-1]))
    with pytest.raises(TooLarge, match=r"more than 0.5 s"):
        decoded("flac", bytes(content), SoundLimit(0.5))


@pytest.mark.parametrize("name", ["s16.flac", "vorbis.ogg", "opus.ogg"])
def test_a_byte_that_was_changed_on_the_way_is_noticed(name: str) -> None:
    """A frame of FLAC and a page of Ogg have checksums."""
    content = bytearray(sound_file(name, frames(300_000), 16_000))
    content[len(content) // 3] ^= 0x55
    with pytest.raises(InputError, match="cut off or damaged"):
        decoded(encoding_of(name), bytes(content))


@pytest.mark.parametrize(
    ("encoding", "content", "sentence"),
    [
        ("flac", b"RIFF" + bytes(100), "this is no FLAC file"),
        ("flac", b"fLaC\x81\0\0\x22" + bytes(100), "cut off or damaged"),
        ("flac", FILES["s16.flac", 1][:90] + bytes(1000), "cut off or damaged"),
        ("ogg", b"fLaC" + bytes(100), "this is no OGG file"),
        ("mp3", FILES["s16.wav", 1], "this is no MP3 file"),
        ("ogg", FILES["vorbis.ogg", 1] + b"OggS", "cut off or damaged"),
        ("mp3", b"ID3" + bytes(500), "cut off or damaged"),
        ("mp3", b"ID3\x04\0\0\0\0\0\0" + FILES["s16.flac", 1], "cut off or damaged"),
        ("mp3", FILES["layer3.mp3", 1][:100], "cut off or damaged"),
    ],
    ids=[  # an Ogg file has a random serial number
        "WAV as FLAC", "FLAC of zeros", "FLAC cut off", "FLAC as Ogg", "WAV as MP3", "Ogg with half a page",
        "MP3 of zeros", "FLAC with ID3 as MP3", "MP3 cut off",
    ],
)  # fmt: skip
def test_other_files_get_a_sentence(encoding: str, content: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        decoded(encoding, content)


def test_an_mp3_file_may_begin_with_tags_and_end_early() -> None:
    content = FILES["layer3.mp3", 1]
    tagged = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + content
    np.testing.assert_array_equal(decoded("mp3", tagged), read_back(content))
    cut = decoded("mp3", content[: len(content) // 2])  # nothing in it says how long it should be
    assert 0 < len(cut) < len(read_back(content))


def pages(content: bytes) -> list[bytearray]:
    found, at = [], 0
    while at < len(content):
        body = at + 27 + content[at + 26]
        end = body + sum(content[at + 27 : body])
        found.append(bytearray(content[at:end]))
        at = end
    return found


def page_of_another(flags: int, body: bytes) -> bytes:
    return resealed(struct.pack("<4sBBqIIIB", b"OggS", 0, flags, 0, 77, 0, 0, 1) + bytes([len(body)]) + body)


def test_an_ogg_file_of_something_else() -> None:
    with pytest.raises(UnsupportedInput, match="neither Vorbis nor Opus"):
        decoded("ogg", page_of_another(2, b"\x80theora") + page_of_another(4, b"x"))


def test_recordings_in_a_row_are_refused() -> None:
    other = sound_file("vorbis.ogg", frames(500), 16_000)
    with pytest.raises(InputError, match="several recordings in a row"):
        decoded("ogg", FILES["opus.ogg", 1] + other)


def test_opus_that_was_cut_out_of_a_longer_file() -> None:
    """Its positions do not begin with 0: a live stream that someone joined."""
    original = sound_file("opus.ogg", frames(80_000), 16_000)
    moved = pages(original)
    for page in moved[2:]:
        page[6:14] = struct.pack("<q", struct.unpack("<q", page[6:14])[0] + 48_000 * 100)
    np.testing.assert_array_equal(decoded("ogg", resealed(b"".join(moved))), read_back(original))


@pytest.mark.parametrize("name", ["vorbis.ogg", "opus.ogg"])
def test_an_ogg_file_that_says_more_than_it_has(name: str) -> None:
    content = pages(sound_file(name, frames(200_000), 16_000))
    content[-1][6:14] = struct.pack("<q", 1_000_000)
    with pytest.raises(InputError, match="cut off or damaged"):
        decoded("ogg", resealed(b"".join(content)))
    content[-1][6:14] = struct.pack("<q", 2**60)
    with pytest.raises(TooLarge, match="cut it into several chunks"):
        decoded("ogg", resealed(b"".join(content)))


@pytest.mark.parametrize("says_length", [True, False])
def test_a_small_file_of_hours_takes_no_memory(says_length: bool) -> None:
    content = bytearray(sound_file("s16.flac", np.zeros((2**24 + 5_000, 1), np.float32), 4_000))
    assert len(content) < 2**16
    if not says_length:
        content[8 + 13] &= 0xF0
        content[8 + 14 : 8 + 18] = bytes(4)
    with pytest.raises(TooLarge, match=rf"more than {MOST_SAMPLES / 4_000:g} s of sound: cut it into several"):
        decoded("flac", bytes(content))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match=r"more than 200 s of sound: cut it into several chunks"):
            decoded("flac", bytes(content), SoundLimit(200))
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20  # 64 MiB of samples
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["opus.ogg", "layer3.mp3"])
def test_more_than_a_chunk_may_have(name: str) -> None:
    content = sound_file(name, np.zeros((48_000 * 30, 1), np.float32), 48_000)
    with pytest.raises(TooLarge, match="more than 20 s of sound"):
        decoded(encoding_of(name), content, SoundLimit(20))
    assert len(decoded(encoding_of(name), content, SoundLimit(30))) == 48_000 * 30


@pytest.mark.parametrize("name", ["s16.flac", "opus.ogg", "layer3.mp3"])
def test_compressed_sound_waits_for_a_thread(name: str) -> None:
    with pytest.raises(TakesLong):
        decoded(encoding_of(name), FILES[name, 1], SoundLimit(may_take_long=False))
    decoded("wav", FILES["s16.wav", 1], SoundLimit(may_take_long=False))


def test_what_follows_the_samples_of_a_wav_file_is_no_sound() -> None:
    content = wav(sound(50).tobytes())
    assert len(decoded("wav", content + b"LIST" + bytes(50))) == 50
