"""The encodings of sound by name and by media type."""

from __future__ import annotations

import subprocess
import sys

import pytest

from service.errors import HetsynError, InputError, UnsupportedInput
from service.wire.content_types import CONTENT_TYPES, parse_content_type
from service.wire.decode import decode_raw
from service.wire.sound import MEDIA_TYPES, Sound, sound_of_media_type


def sound_of(content_type: str) -> Sound | None:
    return sound_of_media_type(*parse_content_type(content_type))


@pytest.mark.parametrize(
    ("content_type", "sound"),
    [
        ("audio/pcm;encoding=pcm_s16le;rate=8000", Sound("pcm_s16le", 8_000, 1)),
        ("audio/L16;rate=44100;channels=2;endianness=big-endian", Sound("pcm_s16be", 44_100, 2)),
        ("Audio/L16; Rate=8000; Endianness=Little-Endian", Sound("pcm_s16le", 8_000, 1)),
        ("audio/L24;rate=48000;channels=6", Sound("pcm_s24be", 48_000, 6)),
        ("audio/L24;rate=48000;endianness=little-endian", Sound("pcm_s24le", 48_000, 1)),
        ("audio/PCMU", Sound("mulaw", 8_000, 1)),
        ("audio/PCMA;rate=16000;channels=2", Sound("alaw", 16_000, 2)),
        ("audio/basic", Sound("mulaw", 8_000, 1)),
        ("audio/pcm;encoding=pcm_f32le;rate=16000;channels=32", Sound("pcm_f32le", 16_000, 32)),
        ("audio/x-wav", Sound("wav")),
        ("audio/flac", Sound("flac")),
        ("audio/ogg;codecs=opus", Sound("ogg")),
        ("audio/mpeg", Sound("mp3")),
        ("application/json", None),
    ],
)
def test_media_types_mean_encodings(content_type: str, sound: Sound | None) -> None:
    assert sound_of(content_type) == sound


@pytest.mark.parametrize(
    ("content_type", "kind", "sentence"),
    [
        ("audio/L16", InputError, "audio/L16 needs its sample rate: .* 'audio/pcm;encoding=pcm_s16le;rate=8000'"),
        (
            "audio/L16;rate=16000",
            InputError,
            "send 'audio/pcm;encoding=pcm_s16le;rate=16000' for the low one, .* or 'audio/L16;rate=16000;endianness=",
        ),
        ("audio/L24", InputError, "send content type 'audio/L24;rate=8000'"),
        ("audio/pcm;encoding=mulaw", InputError, "send content type 'audio/pcm;encoding=mulaw;rate=8000'"),
        ("audio/pcm;rate=8000", UnsupportedInput, "with encoding '': send one of pcm_s16le, pcm_s24le"),
        ("audio/pcm;encoding=wav;rate=8000", UnsupportedInput, "with encoding 'wav': send one of"),
        ("audio/L16;rate=fast", InputError, "rate='fast' is not a whole number"),
        ("audio/L16;rate=-8000", InputError, "is not a whole number"),
        ("audio/L16;rate=1111111111", InputError, "is not a whole number"),
        ("audio/L16;rate=8", InputError, "not within 1000-192000 Hz"),
        ("audio/L16;rate=8000;channels=0", InputError, "0 channels: send 1 to 32"),
        ("audio/L16;rate=8000;channels=33", InputError, "33 channels: send 1 to 32"),
        ("audio/L16;rate=8000;endianness=middle", InputError, "send big-endian or little-endian"),
        ("audio/L16;rate=8000;codec=x", InputError, "no parameter 'codec': it takes rate, channels and endianness"),
        ("audio/PCMU;endianness=little-endian", InputError, "no parameter 'endianness': it takes rate and channels"),
    ],
)
def test_wrong_parameters_get_a_sentence(content_type: str, kind: type[HetsynError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        sound_of(content_type)


def test_every_content_type_of_a_sentence_is_taken() -> None:
    audio = [content_type for content_type in CONTENT_TYPES if content_type.startswith("audio/")]
    assert len(audio) == 10
    for content_type in audio:
        assert parse_content_type(content_type)[0] in MEDIA_TYPES
        assert decode_raw(content_type, [("end", "true")], b"").chunk is None


def test_a_server_without_sound_does_not_load_libsndfile() -> None:
    program = "import sys, service.app; sys.exit('soundfile' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
