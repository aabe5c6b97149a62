"""Sound of every encoding at every door gives the probabilities of its samples, sent as floats."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hetsyn_client import InputError, LiveStream, ServiceProblem, ServiceUnreachable, StreamingClient
from service.app import create_app
from service.models.catalog import ModelCatalog
from service.wire.pcm import decode_samples
from tests.support.artifact import write_artifact
from tests.support.fake_graph import load_fake
from tests.support.memory_store import MemoryStore
from tests.support.product import make_settings
from tests.support.relay import relayed
from tests.support.socket_server import each_store, keeps, serving
from tests.support.sounds import FORMATS, encoding_of, frames, read_back, sound_file

RATE_HZ = 8_000
SOUND = {channels: frames(6_000, channels) for channels in (1, 2)}
FILES = {(name, channels): sound_file(name, SOUND[channels], RATE_HZ) for name in FORMATS for channels in (1, 2)}
MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg;codecs=any"}
Name = Literal["wav", "flac", "ogg"]


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder)
    store = MemoryStore() if keeps(request) == "store" else None
    catalog = ModelCatalog(folder, "digits", load=load_fake)
    with serving(create_app(make_settings(folder, client_share=1.0), catalog, store=store)) as url:
        yield url


def posted(url: str, content: bytes, media_type: str, **query: Any) -> Any:
    response = httpx.post(f"{url}/infer", params=query, content=content, headers={"Content-Type": media_type})
    return response.json()


def send_all(stream: LiveStream, content: bytes, piece: int) -> None:
    for begin in range(0, len(content), piece):
        stream.send_bytes(content[begin : begin + piece])
    stream.wait()


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
    with LiveStream(url, encoding=encoding) as stream:  # type: ignore[arg-type]
        results = [result for n in range(0, len(content), 700) for result in stream.send_bytes(content[n : n + 700])]
        results += stream.wait()
        final = stream.end()
    assert [result["seq"] for result in results] == list(range(-(-len(content) // 700)))
    path = tmp_path / "recording"
    path.write_bytes(content)
    with StreamingClient(url) as client:
        *_, streamed = client.stream_file(path, 0.1)
    for answer in (raw, json, final, streamed):
        assert answer["probabilities"] == reply["probabilities"]
    assert final["end"] == pytest.approx(reply["total_steps"] / 100)


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
    with LiveStream(url, encoding="flac") as stream, pytest.raises(InputError, match="one of flac"):
        stream.send(floats)


@each_store
@settings(max_examples=15)
@given(
    name=st.sampled_from(["s24.wav", "s16.flac", "vorbis.ogg", "opus.ogg"]),
    cuts=st.lists(st.integers(1, 30_000), min_size=1, max_size=4),
    piece=st.integers(60, 3_000),
)
def test_a_file_over_connections_that_are_cut(url: str, name: str, cuts: list[int], piece: int) -> None:
    content = FILES[name, 1]
    with relayed(urlsplit(url).port or 0, cuts) as relay:
        stream = LiveStream(
            f"http://127.0.0.1:{relay.port}",
            encoding=encoding_of(name),  # type: ignore[arg-type]
            sleep=lambda _: None,
        )
        with stream:
            send_all(stream, content, piece)
            final = stream.end()
    reply = expected(url, read_back(content))
    assert final["probabilities"] == reply["probabilities"]
    assert final["end"] == pytest.approx(reply["total_steps"] / 100)


LOUDNESS = np.repeat([0, 1, 0, 0.5, 0, 0.8, 0.8, 0], 4_000).astype(np.float32)
WORDS = {
    name: sound_file(name, frames(32_000) * LOUDNESS[:, None], RATE_HZ)
    for name in ("s16.flac", "vorbis.ogg", "s24.wav")
}
FINDING = {"silence_s": 0.2, "no_speech_s": 1.0}


def ends_of(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame for frame in told if frame["type"] == "UtteranceEnd"]


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("cuts", [[], [3_000], [9_000, 5_000, 7_000]])
def test_utterances_in_a_file(url: str, name: str, cuts: list[int]) -> None:
    content = WORDS[name]
    samples = read_back(content).astype("<f4").tobytes()
    with LiveStream(url, encoding="pcm_f32le", sample_rate_hz=RATE_HZ, endpointing=FINDING) as stream:
        told = [frame for n in range(0, len(samples), 6_000) for frame in stream.send_bytes(samples[n : n + 6_000])]
        expected = ends_of(told + stream.wait())
        last = stream.end()
    assert len(expected) >= 3
    with relayed(urlsplit(url).port or 0, cuts) as relay:
        address = f"http://127.0.0.1:{relay.port}"
        stream = LiveStream(address, encoding=encoding_of(name), endpointing=FINDING, sleep=lambda _: None)  # type: ignore[arg-type]
        with stream:
            told = [frame for n in range(0, len(content), 700) for frame in stream.send_bytes(content[n : n + 700])]
            ends = ends_of(told + stream.wait())
            final = stream.end()
    found = {end["utterance"]: end for end in [*ends, final]}
    assert found == {end["utterance"]: end for end in [*expected, last]}
    assert len(ends) == len({end["utterance"] for end in ends})


@each_store
@pytest.mark.parametrize("why", ["too much", "begun before"])
def test_a_file_that_cannot_be_sent_again_is_refused_after_a_break(url: str, why: str) -> None:
    content = FILES["s16.wav", 1]
    session = None
    if why == "begun before":
        with LiveStream(url, sample_rate_hz=RATE_HZ) as first:
            first.send(np.zeros(100, np.int16))
            first.wait()
            session = first.id
    with relayed(urlsplit(url).port or 0, [8_000]) as relay:
        stream = LiveStream(
            f"http://127.0.0.1:{relay.port}",
            encoding="wav",
            session=session,
            max_kept_bytes=5_000 if why == "too much" else 10**9,
            sleep=lambda _: None,
        )
        reason = "max_kept_bytes=5000" if why == "too much" else "the session had begun before the file"
        with closing(stream), pytest.raises(ServiceUnreachable, match=f"{reason}.*: send the recording in another"):
            send_all(stream, content, 1_000)


@each_store
def test_a_header_begins_a_session_without_a_rate(url: str) -> None:
    content = FILES["s16.flac", 1]
    with LiveStream(url, encoding="flac") as stream:
        stream.send_bytes(content[:60])
        (result,) = stream.wait()
        assert (result["seq"], result["total_steps"], result["label"]) == (0, 0, None)
        described = httpx.get(f"{url}/sessions/{stream.id}").json()
        assert (described["kind"], described["expected_seq"]) == ("audio", 1)
        record = httpx.get(f"{url}/sessions/{stream.id}/state").content
        assert httpx.put(f"{url}/sessions/copy-of-it/state?replace=true", content=record, headers=RECORD).is_success
    for session in (stream.id, "copy-of-it"):  # a file begins with its header on each connection
        with LiveStream(url, encoding="flac", session=session) as again:
            assert again.begin["next_seq"] == 1
            again.send_bytes(content)
            assert again.end()["probabilities"] == expected(url, read_back(content))["probabilities"]


RECORD = {"Content-Type": "application/vnd.hetsyn.session"}


def test_a_header_alone_is_silence(url: str) -> None:
    with LiveStream(url, encoding="wav") as stream:
        stream.send_bytes(FILES["s16.wav", 1][:44])
        assert stream.end()["end"] > 0  # the tail of silence


def test_the_rate_is_that_of_the_session(url: str) -> None:
    with LiveStream(url, sample_rate_hz=16_000) as stream:
        stream.send(np.zeros(100, np.int16))
        stream.wait()
    with LiveStream(url, encoding="ogg", session=stream.id) as again, pytest.raises(ServiceProblem, match="keep this"):
        send_all(again, FILES["opus.ogg", 1], 10**6)


@pytest.mark.parametrize(
    ("content", "media_type", "status", "sentence"),
    [
        (FILES["s16.flac", 1][:2_000], "audio/flac", 422, "the flac file is cut off: send the whole file"),
        (FILES["opus.ogg", 1][:2_000], "audio/ogg", 422, "the ogg file is cut off"),
        (b"ID3" + bytes(500), "audio/ogg", 422, "the Ogg file is damaged"),
        (b"ID3" + bytes(500), "audio/flac", 422, "this is not a FLAC file"),
        (sound_file("s16.flac", np.zeros((8_000 * 250, 1), np.float32), 8_000), "audio/flac", 413, "more than 200 s"),
        (bytes(8), "audio/pcm;rate=8000", 415, "audio/pcm with encoding ''"),
        (bytes(8), "audio/pcm;encoding=pcm_s16le", 422, "needs its sample rate"),
        (bytes(8), "audio/L24", 422, "audio/L24 needs its sample rate"),
        (bytes(8), "audio/PCMU;rate=8000;ptime=20", 422, "no parameter 'ptime': it takes rate and channels"),
        (np.array([np.nan], "<f4").tobytes(), "audio/pcm;encoding=pcm_f32le;rate=8000", 422, "not finite"),
        (bytes(8), "audio/mpeg", 415, "audio/flac, audio/ogg"),
    ],
)
def test_what_cannot_be_used_gets_a_sentence(
    url: str, content: bytes, media_type: str, status: int, sentence: str
) -> None:
    problem = posted(url, content, media_type, session="broken", end=True)
    assert (problem["status"], sentence in problem["detail"]) == (status, True), problem
    if media_type in ("audio/flac", "audio/ogg") and status == 422 and "cut off" not in sentence:
        with LiveStream(url, encoding=media_type[6:]) as stream, pytest.raises(ServiceProblem, match=sentence):  # type: ignore[arg-type]
            send_all(stream, content, 10**6)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encoding": "flac", "sample_rate": 8000}, "input.sample_rate is not one of encoding 'flac'"),
        ({"encoding": "wav", "channels": 1}, "input.channels is not one of encoding 'wav'"),
        ({"encoding": "mulaw"}, "input.sample_rate is missing: send it"),
        ({"encoding": "mulaw", "sample_rate": 8000, "channels": 33}, "sound of 33 channels: send 1 to 32"),
        ({"encoding": "mp3"}, "input.encoding: send 'pcm_s16le', 'pcm_s24le'"),
    ],
)
def test_a_wrong_field_gets_a_sentence(url: str, changes: dict[str, Any], sentence: str) -> None:
    body = {"end": True, "input": {"kind": "audio", "data": "AAAA", **changes}}
    problem = httpx.post(f"{url}/infer", json=body).json()
    assert (problem["status"], sentence in problem["detail"]) == (422, True), problem
