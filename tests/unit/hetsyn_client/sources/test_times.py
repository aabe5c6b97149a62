"""Times of spikes mean the same in every format and number type, to ``hetsyn train`` and to what is served."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from hetsyn_client.client import StreamingClient
from hetsyn_client.errors import InputError
from hetsyn_model.training.config import load_config
from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.examples import Series, SpikeStream
from hetsyn_model.training.datasets.readers import read
from service.wire.chunk import SpikeChunk
from service.wire.decode import decode_raw
from tests.support.data.hdf5 import write_h5

STEP_S = 0.004
STEPS = np.sort(np.random.default_rng(0).permutation(120)[:80])
UNITS = np.random.default_rng(1).integers(0, 12, len(STEPS))
SECONDS = np.sort(np.random.default_rng(2).uniform(0, 1.2, 5000))
KINDS = ("uint8", "uint16", "uint32", "int16", "int64", "float16", "float32", "float64")

Spikes = Counter[tuple[int, int]]


def offline(path: Path) -> Spikes:
    """Spikes by step and unit of the only example, as ``hetsyn train`` reads it."""
    config = load_config({"encoder": {"spikes": {"step_s": STEP_S}}}, "values" if path.suffix == ".csv" else "spikes")
    (item,) = read(path, config).items
    if isinstance(item, Series):
        return Counter((int(step), int(unit)) for step, unit in np.argwhere(item.values))
    assert isinstance(item, SpikeStream)
    return Counter(zip(item.steps.tolist(), item.units.tolist(), strict=True))


def served(path: Path) -> Spikes:
    """Spikes by step and unit of the bodies that a server of a model of spikes gets."""
    spikes: Spikes = Counter()
    steps = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal steps
        if request.method == "GET":
            models = {"default_model": "m", "models": [{"name": "m"}]}
            described = {"name": "m", "inputs": ["events"], "input": {"step_s": STEP_S}}
            return httpx.Response(200, json=models if request.url.path == "/models" else described)
        chunk = decode_raw(request.headers["Content-Type"], [], request.content).chunk
        assert isinstance(chunk, SpikeChunk)
        spikes.update(zip((steps + chunk.step).tolist(), chunk.unit.tolist(), strict=True))
        steps += chunk.steps
        return httpx.Response(200, json={})

    with StreamingClient("http://server", network=httpx.MockTransport(answer)) as client:
        list(client.stream_file(path, model="m"))
    return spikes


def write_npz(path: Path, times: NDArray[Any], units: NDArray[Any], **more: Any) -> None:
    """One example, as both sides take it."""
    np.savez(path, times=times, units=units, offsets=[0, len(times)], labels=[0], **more)


@pytest.mark.parametrize("suffix", ["npz", "h5"])
@pytest.mark.parametrize("kind", KINDS)
def test_spikes_fall_into_the_same_steps_offline_and_served(tmp_path: Path, kind: str, suffix: str) -> None:
    is_whole = np.dtype(kind).kind in "iu"
    times = (STEPS if is_whole else SECONDS).astype(kind)
    units = np.resize(UNITS, len(times))
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        write_npz(path, times, units)
    else:
        write_h5(path, [times.tolist()], [units.tolist()], [0], kind=kind)
    steps = STEPS if is_whole else [int(time / STEP_S + 1e-9) for time in times.tolist()]  # Python's floats are wide
    wanted = Counter(set(zip(map(int, steps), units.tolist(), strict=True)))
    assert offline(path) == served(path) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_has_the_same_spikes_offline_and_served(tmp_path: Path, kind: str) -> None:
    """A .csv has a row a step and no times. For training, series and label stand before the channels."""
    rows = [[str(number) for number in row] for row in (np.random.default_rng(3).random((9, 4)) < 0.4).astype(kind)]
    (tmp_path / "train.csv").write_text("series,label,a,b,c,d\n" + "".join(f"s,x,{','.join(row)}\n" for row in rows))
    (tmp_path / "run.csv").write_text("".join(f"{','.join(row)}\n" for row in rows))
    assert offline(tmp_path / "train.csv") == served(tmp_path / "run.csv") != Counter()


@pytest.mark.parametrize(
    ("times", "steps", "sentence"),
    [
        (np.array([0.0, 24.0]), 25, r"24, float64: read as seconds .* 6000, read as steps in step 24, .* has 25 steps"),
        (
            np.array([0, 25], "u2"),
            25,
            r"25, uint16: read as steps .* 25, read as seconds in step 6250, .* has 25 steps",
        ),
        (np.array([0.0, 700.0], "f2"), None, r"700, float16: read as seconds .* 175000, read as steps in step 700, "),
        (np.array([0, 100_000], "u4"), None, r"100000, uint32: read as steps .* 100000, .*at most 100,000 steps"),
    ],
)
def test_a_file_in_the_other_unit_is_refused_with_both_readings(
    tmp_path: Path, times: NDArray[Any], steps: int | None, sentence: str
) -> None:
    write_npz(tmp_path / "a.npz", times, np.zeros(2, int), **({} if steps is None else {"steps": [steps]}))
    for reader, error in ((offline, DataError), (served, InputError)):
        with pytest.raises(error, match=rf"a\.npz: .*the last time is {sentence}"):
            reader(tmp_path / "a.npz")


def test_the_declared_length_is_the_length_offline_and_served(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", np.array([3], "u1"), np.array([1]), steps=[25])
    (item,) = read(tmp_path / "a.npz", load_config("spikes")).items
    assert item.length == 25
    cut = load_config({"encoder": {"spikes": {"longest_s": 0.04}}}, "spikes")
    assert read(tmp_path / "a.npz", cut).items[0].length == 10
    assert served(tmp_path / "a.npz") == Counter({(3, 1): 1})


def test_examples_of_a_data_set_are_not_sent_as_one_stream(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", times=[0, 1], units=[0, 1], offsets=[0, 1, 2], labels=[0, 1])
    with pytest.raises(InputError, match=r"a\.npz: has several examples, and a stream is one"):
        served(tmp_path / "a.npz")


@pytest.mark.process
def test_reading_data_to_train_brings_no_http_and_no_runtime() -> None:
    code = (
        "import sys, hetsyn_model.training.datasets.readers\n"
        "print(*{'httpx', 'aiohttp', 'websockets', 'fastapi', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
