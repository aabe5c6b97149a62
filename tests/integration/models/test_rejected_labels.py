"""What is no word, such as the class `unknown`: a client sees its probability, and null for the label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hetsyn_client import LiveStream
from tests.support.artifacts.artifact import reject, write_artifact
from tests.support.clients.json_input import audio
from tests.support.data.signals import words
from tests.support.servers.socket_server import serving_models

ENDPOINTING = {"threshold": 10.0, "silence_s": 0.15, "preroll_s": 0.1, "no_speech_s": 0.6}
RATE_HZ = 16_000
SOUND = words(4, RATE_HZ)
REJECTED = "one"
Frame = dict[str, Any]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the same network twice: one rejects nothing, the other one label."""
    folder: Path = tmp_path_factory.mktemp("models")
    change = {"endpointing": ENDPOINTING}
    write_artifact(folder, rule="last", change=change)
    reject(write_artifact(folder, "rejecting", rule="last", change=change), REJECTED)
    with serving_models(folder) as url:
        yield url


def frames(url: str, model: str) -> list[Frame]:
    with LiveStream(url, sample_rate_hz=RATE_HZ, model=model) as stream:
        found = [frame for chunk in np.array_split(SOUND, 29) for frame in stream.send(chunk)]
        return [dict(frame) for frame in (*found, *stream.wait(), stream.end())]


def whole(url: str, model: str) -> Frame:
    """The reply to the sound at once."""
    body = {"model": model, "input": audio(SOUND, RATE_HZ), "end": True}
    reply: Frame = httpx.post(f"{url}/infer", json=body).json()
    return reply


def ends(url: str, model: str) -> list[Frame]:
    return [f for f in frames(url, model) if f["type"] == "UtteranceEnd" and f["probabilities"] is not None]


def test_an_utterance_whose_likeliest_label_is_rejected_has_its_probabilities_and_no_label(url: str) -> None:
    plain, rejecting = ends(url, "digits"), ends(url, "rejecting")
    assert len(plain) == 4
    assert {each["label"] for each in plain} == {REJECTED}
    for one, other in zip(plain, rejecting, strict=True):
        assert other == one | {"label": None}


def named(frame: Frame) -> str | None:
    label: str = frame["label"]
    return None if label == REJECTED else label


def test_results_on_the_way_have_no_label_either(url: str) -> None:
    results = [frame for frame in frames(url, "rejecting") if frame["type"] == "Result" and frame["probabilities"]]
    plain = [frame for frame in frames(url, "digits") if frame["type"] == "Result" and frame["probabilities"]]
    assert {REJECTED} < {frame["label"] for frame in plain}, "others are named as ever"
    assert [frame["label"] for frame in results] == [named(frame) for frame in plain]


def test_a_whole_recording_over_infer_has_no_label(url: str) -> None:
    plain, other = (whole(url, model) for model in ("digits", "rejecting"))
    assert plain["label"] == REJECTED
    assert (other["label"], other["probabilities"]) == (None, plain["probabilities"])


def test_the_model_says_which_labels_it_rejects(url: str) -> None:
    described = [httpx.get(f"{url}/models/{model}").json()["rejected_labels"] for model in ("digits", "rejecting")]
    assert described == [[], [REJECTED]]


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 1.0])
def test_with_a_threshold_the_likeliest_label_that_is_not_rejected_is_named_or_none(
    threshold: float, tmp_path: Path
) -> None:
    """In every reply, also where a rejected label is likelier."""
    reject(write_artifact(tmp_path, rule="last", change={"endpointing": ENDPOINTING}), REJECTED, threshold=threshold)
    with serving_models(tmp_path) as url:
        labels = httpx.get(f"{url}/models/digits").json()["labels"]
        replies = [whole(url, "digits"), *frames(url, "digits")]
    rejected = labels.index(REJECTED)
    seen = [reply for reply in replies if reply.get("probabilities")]
    assert len(seen) > 4
    for reply in seen:
        shares = dict(enumerate(reply["probabilities"]))
        best = max(shares.keys() - {rejected}, key=lambda index: shares[index])
        assert reply["label"] == (labels[best] if shares[best] >= np.float32(threshold) else None)
