"""Utterances over ``/infer`` and ``/stream``: the same in both, and none lost or told twice when connections break."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsyn_client import LiveStream, ServiceProblem
from service.runtime.onnx import Array
from tests.support.artifacts.artifact import write_artifact
from tests.support.clients.json_input import audio
from tests.support.data.signals import words
from tests.support.servers.relay import relayed
from tests.support.servers.socket_server import each_store, keeps, serving_models

ENDPOINTING = {"threshold": 10.0, "silence_s": 0.15, "preroll_s": 0.1, "no_speech_s": 0.6}
RATE_HZ = 16_000
SOUND = words(4, RATE_HZ)
CHUNKS = np.array_split(SOUND, 29)
SESSION_BYTES = 90_000
Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder, change={"endpointing": ENDPOINTING})
    write_artifact(folder, "plain")
    with serving_models(folder, keeps(request)) as url:
        yield url


def infer(url: str, samples: Array, **fields: Any) -> dict[str, Any]:
    response = httpx.post(f"{url}/infer", json={"input": audio(samples, RATE_HZ), **fields})
    content: dict[str, Any] = response.json()
    assert response.status_code == 200, content
    return content


@pytest.fixture(scope="module")
def whole(url: str) -> Events:
    """What is heard in the whole sound, sent at once."""
    events: Events = infer(url, SOUND, endpointing="on", end=True)["events"]
    assert [event["type"] for event in events] == ["SpeechStarted", "UtteranceEnd"] * 4 + ["UtteranceEnd"]
    return events


def heard(frames: Events) -> Events:
    return [frame for frame in frames if frame["type"] in ("SpeechStarted", "UtteranceEnd")]


def test_each_utterance_is_answered_as_infer_answers_its_samples(url: str, whole: Events) -> None:
    for end in (event for event in whole if event.get("probabilities")):
        samples = SOUND[round(end["start"] * RATE_HZ) : round(end["end"] * RATE_HZ)]
        alone = infer(url, samples, end=True)
        assert (end["label"], end["probabilities"]) == (alone["label"], alone["probabilities"])


@each_store
def test_infer_tells_the_same_in_chunks_and_again_if_a_chunk_comes_again(url: str, whole: Events) -> None:
    events: Events = []
    session = infer(url, CHUNKS[0], seq=0, endpointing="on")["session"]
    for seq, chunk in enumerate(CHUNKS[1:], 1):
        reply = infer(url, chunk, session=session, seq=seq, end=seq == len(CHUNKS) - 1)
        assert infer(url, chunk, session=session, seq=seq, end=seq == len(CHUNKS) - 1) == reply
        assert (reply["label"] is None) == (reply["probabilities"] is None)
        events += reply["events"]
    assert events == whole
    assert reply["utterance"] == 5


def test_a_carried_session_hears_the_same(url: str, whole: Events) -> None:
    events: Events = []
    token: str | None = None
    for seq, chunk in enumerate(CHUNKS):
        choice = {"endpointing": "on"} if not seq else {"token": token}
        reply = infer(url, chunk, seq=seq, carry=True, end=seq == len(CHUNKS) - 1, **choice)
        token, events = reply["token"], events + reply["events"]
    assert events == whole


def test_a_stream_tells_the_same(url: str, whole: Events) -> None:
    with LiveStream(url, sample_rate_hz=RATE_HZ) as stream:
        frames = [frame for chunk in CHUNKS for frame in stream.send(chunk)] + stream.wait()
        last = stream.end()
    assert [*heard(frames), last] == whole
    results = [frame for frame in frames if frame["type"] == "Result"]
    assert {result["utterance"] for result in results} == {0, 1, 2, 3, 4}
    assert results[-1]["total_steps"] == len(SOUND) * 100 // RATE_HZ


@each_store
@settings(max_examples=10)
@given(cuts=st.lists(st.integers(1, SESSION_BYTES), min_size=1, max_size=4))
def test_a_stream_that_breaks_tells_each_utterance_once(url: str, whole: Events, cuts: list[int]) -> None:
    with relayed(urlsplit(url).port or 0, cuts) as relay:
        stream = LiveStream(f"http://127.0.0.1:{relay.port}", sample_rate_hz=RATE_HZ, sleep=lambda _: None)
        with stream:
            frames = [frame for chunk in CHUNKS for frame in stream.send(chunk)] + stream.wait()
            last = stream.end()
    ends = [frame for frame in [*frames, last] if frame["type"] == "UtteranceEnd"]
    assert ends == [event for event in whole if event["type"] == "UtteranceEnd"]


def test_a_client_ends_utterances_itself(url: str) -> None:
    half = len(SOUND) // 2
    with LiveStream(url, sample_rate_hz=RATE_HZ, model="plain") as stream:
        (nothing,) = stream.finalize()
        assert (nothing["label"], nothing["start"], nothing["end"]) == (None, 0.0, 0.0)
        stream.send(SOUND[:half])
        *_, first = stream.finalize()
        (again,) = stream.finalize()
        stream.send(SOUND[half:])
        second = stream.end()
    assert (first["utterance"], first["trigger"], second["utterance"], second["trigger"]) == (0, "forced", 1, "end")
    assert first["probabilities"] == infer(url, SOUND[:half], model="plain", end=True)["probabilities"]
    assert second["probabilities"] == infer(url, SOUND[half:], model="plain", end=True)["probabilities"]
    assert (again["utterance"], again["label"], again["start"] == again["end"]) == (1, None, True)


def test_finalize_after_the_end_of_an_utterance_hears_nothing(url: str) -> None:
    with LiveStream(url, sample_rate_hz=RATE_HZ) as stream:
        stream.send(SOUND)
        *_, last = stream.finalize()
        for _ in range(2):
            (nothing,) = stream.finalize()
            assert (nothing["utterance"], nothing["label"]) == (last["utterance"] + 1, None)
            assert nothing["start"] == nothing["end"] == last["end"]
        assert stream.end()["type"] == "UtteranceEnd"


@each_store
@settings(max_examples=10)
@given(cuts=st.lists(st.integers(1, 40_000), min_size=1, max_size=3))
def test_an_end_that_a_client_asks_for_is_made_once(url: str, cuts: list[int]) -> None:
    thirds = np.array_split(SOUND, 3)
    with relayed(urlsplit(url).port or 0, cuts) as relay:
        target = f"http://127.0.0.1:{relay.port}"
        with LiveStream(target, sample_rate_hz=RATE_HZ, model="plain", sleep=lambda _: None) as stream:
            ends = []
            for part in thirds:
                stream.send(part)
                ends.append(stream.finalize()[-1])
    assert [end["utterance"] for end in ends] == [0, 1, 2]
    for part, end in zip(thirds, ends, strict=True):
        assert end["probabilities"] == infer(url, part, model="plain", end=True)["probabilities"]


@each_store
def test_an_end_that_a_client_asks_for_is_told_again_with_the_last_chunk(url: str) -> None:
    half = SOUND[: len(SOUND) // 2]
    with LiveStream(url, sample_rate_hz=RATE_HZ, model="plain") as stream:
        stream.send(half)
        *_, end = stream.finalize()
        assert infer(url, half, session=stream.id, seq=0)["events"][-1] == end


def test_settings_change_what_is_one_utterance(url: str) -> None:
    with LiveStream(url, sample_rate_hz=RATE_HZ, endpointing={"silence_s": 1.0}) as stream:
        stream.send(SOUND)
        frames = stream.wait()
        assert len(heard(frames)) == 1  # the pauses are shorter: one utterance, which goes on
        stream.configure(silence_s=0.1)
        stream.send(np.zeros(RATE_HZ // 2, np.int16))
        assert heard(stream.wait())[0]["trigger"] == "silence"


def test_a_session_keeps_its_choice(url: str) -> None:
    infer(url, CHUNKS[0], session="off", seq=0)
    for choice in ("on", {"silence_s": 1.0}):
        chunk = {"session": "off", "seq": 1, "endpointing": choice, "input": audio(SOUND[:1], RATE_HZ)}
        response = httpx.post(f"{url}/infer", json=chunk)
        assert response.status_code == 422
        assert "began without endpointing" in response.json()["detail"]
    infer(url, CHUNKS[1], session="off", seq=1)
    with pytest.raises(ServiceProblem, match="began without endpointing"):
        LiveStream(url, sample_rate_hz=RATE_HZ, session="off", endpointing=True).send(CHUNKS[2])
    httpx.delete(f"{url}/sessions/off")


@each_store
def test_a_session_moves_to_another_id_in_the_midst_of_a_word(url: str, whole: Events) -> None:
    session = infer(url, CHUNKS[0], seq=0, endpointing="on")["session"]
    events: Events = []
    for seq, chunk in enumerate(CHUNKS[1:], 1):
        reply = infer(url, chunk, session=session, seq=seq, end=seq == len(CHUNKS) - 1)
        events += reply["events"]
        if not reply["end"]:
            state = httpx.get(f"{url}/sessions/{session}/state").content
            httpx.delete(f"{url}/sessions/{session}")
            moved = f"{session[:20]}-{seq}"
            response = httpx.put(
                f"{url}/sessions/{moved}/state",
                content=state,
                headers={"Content-Type": "application/vnd.hetsyn.session"},
            )
            assert response.status_code == 201, response.text
            session = moved
    assert events == whole
