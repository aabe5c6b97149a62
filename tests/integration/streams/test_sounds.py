"""Sound of every encoding at every door gives the probabilities of its samples, sent as floats."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from hetsyn_client import InputError, LiveStream, ServiceProblem, StreamingClient
from service.wire.sound import decode_samples
from tests.support.artifacts.artifact import write_artifact
from tests.support.data.sounds import FORMATS, encoding_of, frames, read_back, sound_file
from tests.support.servers.socket_server import serving_models

RATE_HZ = 8_000
SOUND = {channels: frames(6_000, channels) for channels in (1, 2)}
FILES = {(name, channels): sound_file(name, SOUND[channels], RATE_HZ) for name in FORMATS for channels in (1, 2)}
MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg;codecs=any", "mp3": "audio/mpeg"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder)
    with serving_models(folder) as url:
        yield url


def posted(url: str, content: bytes, media_type: str, **query: Any) -> Any:
    response = httpx.post(f"{url}/infer", params=query, content=content, headers={"Content-Type": media_type})
    return response.json()


def expected(url: str, samples: NDArray[np.float32], rate_hz: int = RATE_HZ) -> Any:
    """The final reply to samples as floats of one channel."""
    media_type = f"audio/pcm;encoding=pcm_f32le;rate={rate_hz}"
    return posted(url, samples.astype("<f4").tobytes(), media_type, end=True)


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.long), 2])
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_at_every_door(url: str, tmp_path: Path, name: str, channels: int) -> None:
    content, encoding = FILES[name, channels], encoding_of(name)
    reply = expected(url, read_back(content))
    assert reply["total_steps"] > 70
    raw = posted(url, content, MEDIA_TYPES[encoding], end=True)
    data = {"kind": "audio", "encoding": encoding, "data": base64.b64encode(content).decode()}
    json = httpx.post(f"{url}/infer", json={"end": True, "input": data}).json()
    path = tmp_path / "recording"
    path.write_bytes(content)
    with StreamingClient(url) as client:
        *_, streamed = client.stream_file(path, 0.1)
    for answer in (raw, json, streamed):
        assert answer["probabilities"] == reply["probabilities"]


INTEGERS = np.round(SOUND[2] * 8_388_607).astype(np.int32)
PACKED_24 = INTEGERS.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
SAMPLES: dict[str, tuple[bytes, str]] = {
    "pcm_s16le": ((INTEGERS >> 8).astype("<i2").tobytes(), "audio/L16;endianness=little-endian;"),
    "pcm_s24le": (PACKED_24, "audio/L24;endianness=little-endian;"),
    "pcm_f32le": (SOUND[2].astype("<f4").tobytes(), "audio/pcm;encoding=pcm_f32le;"),
    "mulaw": (np.random.default_rng(0).bytes(12_000), "audio/PCMU;"),
    "alaw": (np.random.default_rng(1).bytes(12_000), "audio/PCMA;"),
}


@pytest.mark.parametrize("encoding", SAMPLES)
def test_samples_at_every_door(url: str, encoding: str) -> None:
    content, media_type = SAMPLES[encoding]
    rate_hz = 44_100
    reply = expected(url, decode_samples(content, encoding, 2), rate_hz)
    raw = posted(url, content, f"{media_type}rate={rate_hz};channels=2", end=True)
    pcm = posted(url, content, f"audio/pcm;encoding={encoding};rate={rate_hz};channels=2", end=True)
    data = {"kind": "audio", "encoding": encoding, "sample_rate": rate_hz, "channels": 2}
    data["data"] = base64.b64encode(content).decode()
    json = httpx.post(f"{url}/infer", json={"end": True, "input": data}).json()
    with LiveStream(url, encoding=encoding, sample_rate_hz=rate_hz, channels=2) as stream:  # type: ignore[arg-type]
        for begin in range(0, len(content), 4_800):
            stream.send_bytes(content[begin : begin + 4_800])
        final = stream.end()
    for answer in (raw, pcm, json, final):
        assert answer["probabilities"] == reply["probabilities"]


def test_the_client_packs_samples(url: str) -> None:
    floats, whole = SOUND[2], INTEGERS
    for encoding, samples, mixed in (
        ("pcm_f32le", floats, floats.mean(axis=1, dtype=np.float32)),
        ("pcm_s24le", whole, (whole / np.float64(2**23)).astype(np.float32).mean(axis=1, dtype=np.float32)),
        ("pcm_s16le", whole >> 8, ((whole >> 8) / np.float32(2**15)).astype(np.float32).mean(axis=1, dtype=np.float32)),
    ):
        with LiveStream(url, encoding=encoding, sample_rate_hz=RATE_HZ, channels=2) as stream:  # type: ignore[arg-type]
            stream.send(samples)
            assert stream.end()["probabilities"] == expected(url, mixed)["probabilities"]
    with LiveStream(url, encoding="pcm_f32le", sample_rate_hz=RATE_HZ, channels=2) as stream:
        with pytest.raises(InputError, match="whole numbers: divide them"):
            stream.send(whole)
        with pytest.raises(InputError, match=r"shape \[6000\]: give \[n, 2\]"):
            stream.send(floats[:, 0])
    mulaw = LiveStream(url, encoding="mulaw", sample_rate_hz=RATE_HZ)
    with mulaw as stream, pytest.raises(InputError, match="one of mulaw"):
        stream.send(floats)


@pytest.mark.parametrize("encoding", ["wav", "flac", "ogg", "mp3"])
def test_a_file_does_not_come_in_pieces(url: str, encoding: str) -> None:
    with pytest.raises(ServiceProblem, match="send the whole file to POST /infer, or send its samples") as refused:
        LiveStream(url, encoding=encoding).__enter__()  # type: ignore[arg-type]
    assert (refused.value.status, refused.value.problem) == (415, "unsupported-input")


@pytest.mark.parametrize(
    ("content", "media_type", "status", "sentence"),
    [
        (FILES["s16.flac", 1][:2_000], "audio/flac", 422, "the FLAC file is cut off or damaged: send the whole file"),
        (FILES["opus.ogg", 1][:2_000], "audio/ogg", 422, "the OGG file is cut off"),
        (b"ID3" + bytes(500), "audio/ogg", 422, "this is no OGG file"),
        (b"ID3" + bytes(500), "audio/flac", 422, "this is no FLAC file"),
        (sound_file("s16.flac", np.zeros((8_000 * 250, 1), np.float32), 8_000), "audio/flac", 413, "more than 200 s"),
        (bytes(8), "audio/pcm;rate=8000", 415, "audio/pcm with encoding ''"),
        (bytes(8), "audio/pcm;encoding=pcm_s16le", 422, "needs its sample rate"),
        (bytes(8), "audio/L24", 422, "audio/L24 needs its sample rate"),
        (bytes(8), "audio/PCMU;rate=8000;ptime=20", 422, "no parameter 'ptime': it takes rate and channels"),
        (np.array([np.nan], "<f4").tobytes(), "audio/pcm;encoding=pcm_f32le;rate=8000", 422, "not finite"),
        (b"ID3" + bytes(500), "audio/mpeg", 422, "the MP3 file is cut off or damaged"),
        (bytes(8), "audio/aac", 415, "audio/flac, audio/ogg, audio/mpeg"),
    ],
    ids=str.split(
        "flac-cut ogg-cut no-ogg no-flac flac-long pcm pcm-rate L24-rate PCMU-parameter not-finite mp3 aac"
    ),  # an Ogg file has a random number: the processes of a run would not have the same tests
)
def test_what_cannot_be_used_gets_a_sentence(
    url: str, content: bytes, media_type: str, status: int, sentence: str
) -> None:
    problem = posted(url, content, media_type, session="broken", seq=0, end=True)
    assert (problem["status"], sentence in problem["detail"]) == (status, True), problem


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encoding": "flac", "sample_rate": 8000}, "input.sample_rate is not one of encoding 'flac'"),
        ({"encoding": "wav", "channels": 1}, "input.channels is not one of encoding 'wav'"),
        ({"encoding": "mulaw"}, "input.sample_rate is missing: send it"),
        ({"encoding": "mulaw", "sample_rate": 8000, "channels": 33}, "sound of 33 channels: send 1 to 32"),
        ({"encoding": "aac"}, "input.encoding: send 'pcm_s16le', 'pcm_s24le'"),
    ],
)
def test_a_wrong_field_gets_a_sentence(url: str, changes: dict[str, Any], sentence: str) -> None:
    body = {"end": True, "input": {"kind": "audio", "data": "AAAA", **changes}}
    problem = httpx.post(f"{url}/infer", json=body).json()
    assert (problem["status"], sentence in problem["detail"]) == (422, True), problem
