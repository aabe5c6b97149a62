"""Every family of tasks behind a real server: samples that no training saw, right as often as the report says.

Which samples, and what the report says of them, follows from the run that each artifact's ``network.pt`` describes. The
tests of delayed match and pattern generation are generated; a thousand images of Fashion-MNIST's test set and the
synthesised digits' as spikes are in the repository (``held_out/README.md``); the recordings are in ``../shared``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hetsyn_model.training.batch import Batch
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.config import load_config
from hetsyn_model.training.datasets.data import read_folder
from recipes.speech.vocabulary import DIGITS
from research.runs.results import RESULTS, TABLE, RunResult, read_file
from research.runs.run import RunSpec, open_task
from research.tasks.shd_file import KEYS, SHD_CHANNELS, SHD_STEPS
from research.tasks.vision import CLOTHES, ImageSpec, encode
from tests.support.paths import FSDD, ROOT
from tests.support.tools import NO_RECORDINGS

pytestmark = pytest.mark.long

IMAGES = Path(__file__).parent / "held_out/fashion-mnist.npz"
WORDS = Path(__file__).parent / "held_out/shd-words.npz"
POINT = 0.01


@cache
def described(model: str) -> RunSpec:
    """The run that made a shipped network."""
    experiment = Checkpoint.load(ROOT / "models" / model / "1/network.pt").experiment
    assert experiment is not None
    return RunSpec.from_dict(experiment)


def reported(model: str) -> RunResult:
    """What the report says of the shipped network's run."""
    run = described(model)
    found = [r for r in read_file(RESULTS / f"{run.experiment}{TABLE}") if r.is_of(run)]
    assert len(found) == 1, f"the kept results have no run that made {model}"
    return found[0]


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as opened:
        yield opened


def answers(client: httpx.Client, model: str, batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """The reply to each stream, sent whole."""
    replies = []
    for batch in batches:
        for stream, steps in zip(batch.dense(), batch.steps.tolist(), strict=True):
            times, units = stream.nonzero()
            events = {"kind": "events", "steps": steps, "times": times.tolist(), "units": units.tolist()}
            response = client.post("/infer", json={"model": model, "end": True, "input": events})
            assert response.status_code == 200, response.text
            replies.append(response.json())
    return replies


def accuracy(replies: Sequence[dict[str, Any]], labels: Sequence[str]) -> float:
    return float(np.mean([reply["label"] == label for reply, label in zip(replies, labels, strict=True)]))


def test_delayed_match(client: httpx.Client) -> None:
    task = open_task(described("delayed-match"))
    test = task.test()
    truth = [task.labels[int(label)] for batch in test for label in batch.target]
    assert abs(accuracy(answers(client, "delayed-match", test), truth) - reported("delayed-match").figure) <= POINT


def test_pattern_generation(client: httpx.Client) -> None:
    test = open_task(described("pattern-generation")).test()
    traces = np.array([reply["readout"] for reply in answers(client, "pattern-generation", test)])
    targets = np.concatenate([batch.target.numpy() for batch in test])
    error = float(((traces - targets) ** 2).mean())
    assert error == pytest.approx(reported("pattern-generation").figure, rel=0.01)


def test_clothes_in_rows(client: httpx.Client) -> None:
    """On the thousand images of the table of bank sizes; a run without one has a figure of all ten thousand."""
    model = "fashion-rows"
    run, result = described(model), reported(model)
    assert isinstance(run.task_spec, ImageSpec)
    with np.load(IMAGES) as held_out:
        images, labels = held_out["images"], held_out["labels"].tolist()
    sizes = {row.get("size"): row["figure"] for row in result.analysis.get("bank", ())}
    wanted = sizes.get(run.training.bank_size, result.figure)
    margin = POINT if sizes else 3 * POINT  # two and a half standard errors of a thousand images
    replies = []
    for stream in encode(run.task_spec, images):
        times, units = stream.nonzero()
        events = {"kind": "events", "steps": len(stream), "times": times.tolist(), "units": units.tolist()}
        response = client.post("/infer", json={"model": model, "end": True, "input": events})
        assert response.status_code == 200, response.text
        replies.append(response.json())
    assert abs(accuracy(replies, [CLOTHES[label] for label in labels]) - wanted) <= margin


def test_digits_in_spikes(client: httpx.Client) -> None:
    """The whole test file, whose speakers are in no training file."""
    with np.load(WORDS) as held_out:
        recordings = np.split(held_out["gaps"], np.cumsum(held_out["counts"])[:-1])
        labels = held_out["labels"].tolist()
    replies = []
    for gaps in recordings:
        times, units = np.divmod(np.cumsum(gaps, dtype=np.int64), SHD_CHANNELS)
        events = {
            "kind": "events",
            "steps": SHD_STEPS,
            "times": times.tolist(),
            "units": units.tolist(),
        }
        response = client.post("/infer", json={"model": "shd-words", "end": True, "input": events})
        assert response.status_code == 200, response.text
        replies.append(response.json())
    right = accuracy(replies, [KEYS[label] for label in labels])
    assert abs(right - reported("shd-words").figure) <= POINT


def test_spoken_digits(client: httpx.Client) -> None:
    """Takes of people that the shipped network knows. The figures of strangers need hundreds of recordings."""
    if not FSDD.is_dir():
        pytest.skip(NO_RECORDINGS)
    config = load_config("speech-digits")
    every = read_folder(FSDD, tuple(config.names), 8000)
    recordings = [recording for recording in every if recording.take % config.split.every == 0]
    replies = []
    for recording in recordings:
        pcm = np.round(recording.audio * 32768).clip(-32768, 32767).astype("<i2").tobytes()
        response = client.post(
            "/infer",
            params={"end": True},
            content=pcm,
            headers={"content-type": "audio/pcm;encoding=pcm_s16le;rate=8000"},
        )
        assert response.status_code == 200, response.text
        replies.append(response.json())
    assert accuracy(replies, [DIGITS[recording.label] for recording in recordings]) >= 0.95
