"""The shipped motion network behind a real server: recordings of a person that it was not trained on."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from examples.motion import RECORDING, recognise
from hetsyn_client import StreamingClient
from research.tasks.smartwatch import EXERCISES, STEP_S, read_watch, windows
from research.tasks.task import MissingData
from tests.support.paths import ROOT
from tests.support.tools import NO_WATCH

pytestmark = pytest.mark.long

EXERCISE, WINDOW_STEPS = "abduction", 150


@pytest.fixture
def client(url: str) -> Iterator[StreamingClient]:
    with StreamingClient(url) as opened:
        yield opened


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.loadtxt(RECORDING, delimiter=",", skiprows=1)


def test_the_exercise_is_right_as_it_goes_on(client: StreamingClient, values: np.ndarray) -> None:
    moments = list(recognise(client, values, chunk_s=0.5))
    assert [moment.at_s for moment in moments[:2]] == [0.5, 1.0]
    assert moments[0].recent is None  # the first half second does not count
    assert moments[-1].at_s == pytest.approx(len(values) * STEP_S)
    assert moments[-1].so_far == EXERCISE
    recent = [moment.recent for moment in moments if moment.at_s >= 3]
    assert recent.count(EXERCISE) / len(recent) > 0.9


def test_the_example_prints_it(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "examples/motion.py", "--url", url, "--speed", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == -(-len(np.loadtxt(RECORDING, delimiter=",", skiprows=1)) // 25)
    assert f"so far: {EXERCISE}" in lines[-1]


def test_the_page_has_an_example_to_play(url: str) -> None:
    example = httpx.get(f"{url}/models/motion/example").json()
    assert example["input"]["kind"] == "events"
    assert len(example["input"]["times"]) > 0
    reply = httpx.post(f"{url}/infer", json={"model": "motion", "end": True, "input": example["input"]})
    assert reply.json()["label"] in EXERCISES


def test_a_person_who_was_left_out_is_heard_as_well_as_the_page_says(client: StreamingClient) -> None:
    try:
        recordings = [recording for recording in read_watch() if recording.person == 1]
    except MissingData:
        pytest.skip(NO_WATCH)
    parts = windows(recordings, WINDOW_STEPS)
    right = [
        client.infer_values(part.values, model="motion", end=True)["label"] == EXERCISES[part.label] for part in parts
    ]
    page = Path(ROOT / "models/README.md").read_text()
    (said,) = re.findall(
        r"this person's (\d+) windows of three seconds, ([\d.]+)% are right",
        " ".join(page.split()),
    )
    assert len(right) == int(said[0])
    assert 100 * np.mean(right) == pytest.approx(float(said[1]), abs=0.05)
