"""Sound files, whole and in pieces: the samples are those of libsndfile, and what is broken gets a sentence."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import HetsynError, InputError, TooLarge, UnsupportedInput
from service.wire.containers import MOST_KEPT_BYTES, MOST_SAMPLES, STREAM_KEPT_BYTES
from service.wire.encodings import CONTAINERS, Sound, SoundFile, SoundLimit, TakesLong, decode_sound
from service.wire.pcm import Samples
from tests.support.seed import SEED
from tests.support.signals import sound
from tests.support.sounds import FORMATS, encoding_of, frames, read_back, resealed, sound_file
from tests.support.wav import wav

FILES = {
    (name, channels): sound_file(name, frames(count, channels), 16_000)
    for name in FORMATS
    for channels, count in ((1, 9_000), (2, 5_000))
}


def in_pieces(encoding: str, content: bytes, cuts: Sequence[int]) -> tuple[Samples, bool]:
    """The samples of a file that is cut, and whether it was whole."""
    container = CONTAINERS[encoding]()
    ends = [*sorted(cuts), len(content)]
    parts = [container.push(content[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    parts.append(container.finish())
    return np.concatenate(parts), container.is_whole


@settings(max_examples=150)
@given(
    file=st.sampled_from(sorted(FILES)),
    cuts=st.lists(st.floats(0, 1), max_size=12),
    is_tiny=st.booleans(),
)
def test_however_a_file_is_cut_its_samples_are_those_of_the_whole(
    file: tuple[str, int], cuts: list[float], is_tiny: bool
) -> None:
    content = FILES[file]
    places = [int(cut * len(content)) for cut in cuts]
    if is_tiny:  # one byte after the other around a place
        places += [min(len(content), int(sum(cuts) * 997) + n) for n in range(60)]
    samples, is_whole = in_pieces(encoding_of(file[0]), content, places)
    assert is_whole
    np.testing.assert_array_equal(samples, read_back(content))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [1, 2, 15, 4_096, 4_097, 20_000])
@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
def test_files_of_any_length(name: str, count: int, rate_hz: int) -> None:
    content = sound_file(name, frames(count), rate_hz)
    chunk = decode_sound(Sound(encoding_of(name)), content)
    assert chunk.rate_hz == rate_hz
    assert len(chunk.samples) == count
    np.testing.assert_array_equal(chunk.samples, read_back(content))


def test_frames_of_a_few_bytes() -> None:
    """Silence: several frames of FLAC are shorter than the longest header of one."""
    content = sound_file("s16.flac", np.zeros((50_000, 1), np.float32), 8_000)
    for step in (1, 7, 1_000):
        samples, is_whole = in_pieces("flac", content, range(0, len(content), step))
        assert is_whole
        assert len(samples) == 50_000
        assert not samples.any()


@pytest.mark.parametrize("name", ["s16.wav", "s16.flac", "vorbis.ogg", "opus.ogg"])
def test_a_file_that_is_cut_off(name: str) -> None:
    content = FILES[name, 1]
    whole = read_back(content)
    for length in (1, 4, 12, 30, 44, 200, len(content) // 2, len(content) - 1):
        with pytest.raises(InputError, match=r"cut off|declares"):
            decode_sound(Sound(encoding_of(name)), content[:length])
        samples, is_whole = in_pieces(encoding_of(name), content[:length], [length // 2])
        assert not is_whole
        np.testing.assert_array_equal(samples, whole[: len(samples)])


COMPRESSED = ("s16.flac", "s24.flac", "vorbis.ogg", "opus.ogg")
LONGEST_CPU_S = 1.0


@pytest.mark.parametrize("name", COMPRESSED)
def test_any_change_is_decoded_or_refused(name: str) -> None:
    assert 0 < len(refused(name, 300)) < 300


@pytest.mark.long
@pytest.mark.parametrize("name", COMPRESSED)
def test_many_changes_are_decoded_or_refused(name: str) -> None:
    refused(name, 5_000)


def refused(name: str, count: int) -> list[str]:
    """The sentences about changed files that are refused."""
    rng, sentences = random.Random(f"{name} {SEED}"), []
    seeds = [FILES[name, 1], FILES[name, 2], sound_file(name, frames(700), 8_000)]
    for _ in range(count):
        changed = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(changed)) if rng.random() < 0.5 else rng.randrange(min(300, len(changed)))
            extreme = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"OggS", b"\xff\xf8"])
            changed[at : at + rng.randrange(5)] = extreme if rng.random() < 0.3 else rng.randbytes(rng.randrange(5))
        broken = resealed(bytes(changed)) if name.endswith("ogg") and rng.random() < 0.9 else bytes(changed)
        began_s = time.thread_time()
        try:
            samples, _ = in_pieces(encoding_of(name), broken, [rng.randrange(len(broken) + 1)])
            assert np.isfinite(samples).all()
            assert np.abs(samples).max(initial=0) <= 1
        except HetsynError as error:
            sentences.append(str(error))
        assert time.thread_time() - began_s < LONGEST_CPU_S
    assert all(10 < len(sentence) < 300 for sentence in sentences)
    return sentences


@pytest.mark.parametrize(
    ("encoding", "content", "sentence"),
    [
        ("flac", b"RIFF" + bytes(100), "not a FLAC file"),
        ("flac", b"fLaC\x81\0\0\x22" + bytes(100), "does not begin with its format"),
        ("flac", FILES["s16.flac", 1][:90] + bytes(1000), "no frame where one begins"),
        ("ogg", b"fLaC" + bytes(100), "no page where one begins"),
        ("wav", b"RIFF\0\0\0\0WAVE" + b"JUNK\xff\xff\xff\x7f" + bytes(MOST_KEPT_BYTES), "a header .* is longer than"),
    ],
)
def test_other_files_get_a_sentence(encoding: str, content: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        in_pieces(encoding, content, [])


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


def test_streams_beside_that_of_the_sound_are_skipped() -> None:
    first, *rest = pages(FILES["opus.ogg", 1])
    content = page_of_another(2, b"fishead\0") + first + b"".join([*rest[:2], page_of_another(0, b"x"), *rest[2:]])
    np.testing.assert_array_equal(in_pieces("ogg", content, [])[0], read_back(FILES["opus.ogg", 1]))


def test_an_ogg_file_of_something_else() -> None:
    with pytest.raises(UnsupportedInput, match="neither Vorbis nor Opus"):
        in_pieces("ogg", page_of_another(2, b"\x80theora") + page_of_another(0, b"x"), [])


def test_recordings_in_a_row_are_refused() -> None:
    other = sound_file("vorbis.ogg", frames(500), 16_000)
    with pytest.raises(InputError, match="several recordings in a row"):
        in_pieces("ogg", FILES["opus.ogg", 1] + other, [])


@pytest.mark.parametrize("name", ["vorbis.ogg", "opus.ogg"])
def test_a_page_that_says_more_than_it_has(name: str) -> None:
    content = pages(sound_file(name, frames(200_000), 16_000))
    third = -3  # from the end; Opus takes the first one's position for where the file was cut out
    content[third][6:14] = struct.pack("<q", 500_000)
    with pytest.raises(InputError, match="a page has fewer samples than it says"):
        in_pieces("ogg", resealed(b"".join(content)), [])
    content[third][6:14] = struct.pack("<q", 2**60)
    with pytest.raises(TooLarge, match="cut the sound into several chunks"):
        in_pieces("ogg", resealed(b"".join(content)), [])


def test_opus_that_was_cut_out_of_a_longer_file() -> None:
    """Its positions do not begin with 0: a live stream that someone joined."""
    original = sound_file("opus.ogg", frames(80_000), 16_000)
    moved = pages(original)
    for page in moved[2:]:
        page[6:14] = struct.pack("<q", struct.unpack("<q", page[6:14])[0] + 48_000 * 100)
    content = resealed(b"".join(moved))
    samples, is_whole = in_pieces("ogg", content, [])
    assert is_whole
    np.testing.assert_array_equal(samples, read_back(original))


def test_a_small_file_of_hours_takes_no_memory() -> None:
    content = sound_file("s16.flac", np.zeros((2**24 + 5_000, 1), np.float32), 4_000)
    assert len(content) < 2**16
    tracemalloc.start()
    try:
        for limit, longest in ((SoundLimit(200), "200"), (SoundLimit(), f"{MOST_SAMPLES / 4_000:g}")):
            with pytest.raises(TooLarge, match=rf"more than {longest} s of sound: cut the sound into several chunks"):
                decode_sound(Sound("flac"), content, limit)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20  # 64 MiB of samples
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["s24.flac", "s16.wav", "opus.ogg"])
def test_a_stream_keeps_little_of_what_does_not_end(name: str) -> None:
    begin, filler = {
        "s24.flac": (FILES[name, 1][:100], bytes(10_000)),
        "s16.wav": (b"RIFF\0\0\0\0WAVEJUNK\xff\xff\xff\x7f", bytes(10_000)),
        "opus.ogg": (bytes(pages(FILES[name, 1])[0]), opus_comment()),
    }[name]
    file = SoundFile(encoding_of(name))
    file.decode(begin)
    for _ in range((STREAM_KEPT_BYTES - 2**11) // len(filler)):
        file.decode(filler)
    with pytest.raises(InputError, match=f"longer than {STREAM_KEPT_BYTES} bytes"):
        file.decode(filler * 2)


def opus_comment() -> bytes:
    """A page of a header packet that goes on."""
    serial = pages(FILES["opus.ogg", 1])[0][14:18]
    return resealed(b"OggS\0\0" + b"\xff" * 8 + serial + bytes(8) + b"\xff" + b"\xff" * 255 + bytes(255 * 255))


def test_ogg_of_more_than_a_chunk_may_have() -> None:
    content = sound_file("opus.ogg", np.zeros((48_000 * 30, 1), np.float32), 48_000)
    with pytest.raises(TooLarge, match="more than 20 s of sound"):
        decode_sound(Sound("ogg"), content, SoundLimit(20))
    container = CONTAINERS["ogg"]()
    container.max_sound_s = 20  # of each piece
    assert sum(len(container.push(content[at : at + 100])) for at in range(0, len(content), 100)) == 48_000 * 30


@pytest.mark.parametrize("name", ["s16.flac", "opus.ogg"])
def test_compressed_sound_waits_for_a_thread(name: str) -> None:
    with pytest.raises(TakesLong):
        decode_sound(Sound(encoding_of(name)), FILES[name, 1], SoundLimit(may_take_long=False))
    decode_sound(Sound("wav"), FILES["s16.wav", 1], SoundLimit(may_take_long=False))


def test_a_file_that_is_sent_again_is_skipped_up_to_what_the_session_has() -> None:
    content = FILES["opus.ogg", 1]
    whole = read_back(content)
    file = SoundFile("ogg", is_resent=True)
    for received in (0, 1, 4_000, len(whole)):
        file.begin(received)
        parts = [file.decode(content[at : at + 500]).samples for at in range(0, len(content), 500)]
        np.testing.assert_array_equal(np.concatenate(parts), whole[received:])
        assert file.rest() is None


def test_what_follows_the_samples_of_a_wav_file_is_no_sound() -> None:
    content = wav(sound(50).tobytes())
    for length in (1, 3, 50):
        samples, is_whole = in_pieces("wav", content + b"LIST" + bytes(50), range(0, 140, length))
        assert is_whole
        assert len(samples) == 50
