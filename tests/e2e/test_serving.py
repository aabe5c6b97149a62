"""The shipped model behind a real server process: recordings in, words out."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest

from tests.support.paths import RECORDINGS, ROOT

pytestmark = pytest.mark.process

DIGITS = sorted(RECORDINGS.glob("*.wav"))


def hetsyn(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hetsyn", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_whole_recordings_are_understood(url: str) -> None:
    """The voice is one that the model never heard; nine in ten is what it reaches on unseen speakers."""
    labels = {}
    for path in DIGITS:
        reply = httpx.post(
            f"{url}/infer", params={"end": True}, content=path.read_bytes(), headers={"content-type": "audio/wav"}
        )
        assert reply.status_code == 200, reply.text
        labels[path.stem] = reply.json()["label"]
    assert sum(word == label for word, label in labels.items()) >= 9, labels


def test_the_shd_size_network_takes_spikes(url: str) -> None:
    body = {"session": "e2e-spikes", "seq": 0, "model": "shd-size", "end": True}
    reply = httpx.post(
        f"{url}/infer",
        json=body | {"input": {"kind": "events", "steps": 25, "times": [0, 0, 3], "units": [17, 204, 17]}},
    )
    assert reply.status_code == 200, reply.text
    assert reply.json()["total_steps"] == 25
    assert len(reply.json()["probabilities"]) == 20


def test_the_demo_shows_a_recording_becoming_a_word() -> None:
    done = subprocess.run(
        [sys.executable, "examples/demo.py"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    before, _, after = done.stdout.partition("seven.wav: seven")
    assert before
    for advice in (". .venv/bin/activate", "hetsyn serve", "http://127.0.0.1:8000/ and speak", "README.md"):
        assert advice in after


def test_the_bank_is_small() -> None:
    network = json.loads(hetsyn("inspect", "shd-size", "--json"))["network"]
    assert network["state_bytes"] * 40 <= 479_912  # of the exact network
    assert max(network["kernel_error"].values()) <= 1e-3


def test_a_session_of_the_default_model_takes_16_kb_at_most() -> None:
    network = json.loads(hetsyn("inspect", "models/speech-digits", "--json"))["network"]
    assert network["state_bytes"] <= 16_384


def test_serving_imports_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
        "from pathlib import Path; from service.app import create_app\n"
        "from service.models.catalog import ModelCatalog\n"
        "from service.settings import Settings\n"
        "catalog = ModelCatalog(Path('models'))\n"
        "create_app(Settings(models=Path('models')), catalog); print('served')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "served\n"
