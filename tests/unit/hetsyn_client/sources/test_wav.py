from __future__ import annotations

import io
import struct
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client.errors import InputError
from hetsyn_client.sources.wav import GUID_TAIL, read_wav
from service.wire.sound import decode_wav
from tests.support.data.signals import sound

PCM = sound(50).tobytes()


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """``size`` replaces the true size."""
    return struct.pack("<4sI", name, len(content) if size is None else size) + content + bytes(len(content) % 2)


def fmt(kind: int = 1, channels: int = 1, bits: int = 16, rate_hz: int = 8000) -> bytes:
    frame = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", kind, channels, rate_hz, rate_hz * frame, frame, bits))


def extensible(subformat: int, tail: bytes = GUID_TAIL, length: int = 40) -> bytes:
    plain = fmt(kind=0xFFFE)[8:]
    return chunk(b"fmt ", (plain + struct.pack("<HHIH", 22, 16, 4, subformat) + tail)[:length])


def riff(*chunks: bytes) -> bytes:
    return chunk(b"RIFF", b"WAVE" + b"".join(chunks))


@pytest.mark.parametrize(
    "data",
    [
        riff(fmt(), chunk(b"data", PCM)),
        riff(extensible(1), chunk(b"data", PCM)),
        riff(chunk(b"LIST", b"odd"), fmt(), chunk(b"fact", bytes(4)), chunk(b"data", PCM)),
        riff(fmt(), chunk(b"junk", b""), chunk(b"data", PCM), chunk(b"LIST", b"after")),
        riff(fmt(), chunk(b"data", PCM, 0)),
        riff(fmt(), chunk(b"data", PCM, 0xFFFF_FFFF)),
        riff(fmt(), chunk(b"data", PCM, 0x7FFF_FFFF - 36)),
        riff(fmt(), chunk(b"data", PCM, 0x7FFF_0000)),
        b"RIFF\xff\xff\xff\xffWAVE" + fmt() + chunk(b"data", PCM, 0xFFFF_FFFF),
        b"RIFF\0\0\0\0WAVE" + fmt() + chunk(b"data", PCM, 0),
    ],
    ids=["plain", "extensible", "before", "after", "zero", "all-ones", "sox", "arecord", "riff-all-ones", "riff-zero"],
)
def test_samples_are_found(data: bytes) -> None:
    header, content = read_wav(data)
    assert (header.encoding, header.channels, header.rate_hz, content) == ("pcm_s16le", 1, 8000, PCM)


def test_a_recording_of_nothing_is_empty() -> None:
    assert read_wav(riff(fmt(), chunk(b"data", b"")))[1] == b""


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "cut off within its header"),
        (b"RIFF\0\0\0\0WA", "cut off within its header"),
        (riff(), "cut off within its header"),
        (riff(fmt()), "cut off within its header"),
        (riff(chunk(b"fmt ", bytes(10)), chunk(b"data", PCM)), "cut off within its header"),
        (riff(chunk(b"LIST", b"", 5000), fmt(), chunk(b"data", PCM)), "cut off within its header"),
        (riff(extensible(1, length=30), chunk(b"data", PCM)), "cut off within its header"),
        (riff(fmt(), chunk(b"data", PCM, 101)), "declares 101 bytes of samples, but contains 100"),
        (riff(fmt(), chunk(b"data", PCM, 0x7FFE_FFFF)), "declares 2147418111 bytes of samples, but contains 100"),
        (riff(fmt(), chunk(b"data", b"abc")), "3 bytes are not a whole number of 16-bit samples"),
        (riff(fmt(channels=2), chunk(b"data", bytes(6))), "6 bytes are not a whole number.*2 channel"),
        (riff(fmt(), b"data\0\0\0\0abc")[:-1], "3 bytes are not a whole number"),
        (riff(chunk(b"data", PCM), fmt()), "samples before their format"),
        (riff(fmt(kind=3, bits=16), chunk(b"data", PCM)), "16-bit floating-point samples: convert it to 16-bit PCM"),
        (riff(fmt(kind=2, bits=4), chunk(b"data", PCM)), "ADPCM samples"),
        (riff(fmt(kind=0x1234), chunk(b"data", PCM)), "format 0x1234 samples"),
        (riff(extensible(0x11), chunk(b"data", PCM)), "ADPCM samples"),
        (riff(extensible(1, bytes(14)), chunk(b"data", PCM)), "format 0xfffe samples"),
        (riff(fmt(bits=12), chunk(b"data", PCM)), "12-bit PCM samples"),
        (riff(fmt(channels=0), chunk(b"data", PCM)), "0 channels"),
        (riff(fmt(channels=40), chunk(b"data", bytes(80))), "40 channels"),
        (riff(fmt(rate_hz=100), chunk(b"data", PCM)), "100 Hz is not within"),
        (b"RIFX" + riff(fmt(), chunk(b"data", PCM))[4:], "not a WAV file"),
        (b"RIFF\0\0\0\0AVI " + bytes(50), "not a WAV file"),
        (b"fLaC" + bytes(50), "not a WAV file"),
    ],
)
def test_what_cannot_be_used_is_reported(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        decode_wav(data)


@given(
    samples=st.binary(max_size=80).map(lambda content: content[: len(content) // 4 * 4]),
    channels=st.sampled_from([1, 2]),
    before=st.lists(st.binary(max_size=9), max_size=3),
)
def test_it_reads_what_the_standard_library_reads(samples: bytes, channels: int, before: list[bytes]) -> None:
    data = riff(*(chunk(b"note", note) for note in before), fmt(channels=channels), chunk(b"data", samples))
    with wave.open(io.BytesIO(data)) as file:
        expected = file.getnchannels(), file.getframerate(), file.readframes(1000)
    header, content = read_wav(data)
    assert (header.channels, header.rate_hz, content) == expected
