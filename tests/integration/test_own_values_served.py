"""A HetSyn network of values over the server: the bits of torch in any chunks, encodings and company, and restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from export.inspection.commands import inspect
from hetsyn_client import StreamingClient
from hetsyn_client.commands import stream
from service.app import create_app
from service.carried.keys import CarryKeys
from service.models.catalog import ModelCatalog
from service.runtime.onnx import Array
from tests.support.grey_network import CHANNELS, LABELS, TOLERANCE, expected, write_grey
from tests.support.product import make_settings
from tests.support.socket_server import serving
from tests.support.value_streams import answers_in_chunks

STEPS = 60


def rows(seed: int, steps: int = STEPS) -> Array:
    return np.random.default_rng(seed).normal(size=(steps, CHANNELS)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    write_grey(models)
    return models


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    app = create_app(make_settings(folder), ModelCatalog(folder), keys=CarryKeys([bytes(32)]))
    with serving(app) as url:
        yield url


def test_any_chunks_in_any_company_have_torchs_answer(url: str) -> None:
    answers = answers_in_chunks(url, [rows(seed % 4) for seed in range(16)])
    for seed, answer in enumerate(answers):
        assert answer == answers[seed % 4]  # the same stream in other chunks: to the bit
        np.testing.assert_allclose(answer, expected(rows(seed % 4)), atol=TOLERANCE)
    assert len({tuple(answer) for answer in answers}) > 1


def test_json_packed_and_carried_values_and_spikes_as_ones(url: str) -> None:
    ones = (rows(0) > 0.5).astype(np.float32)
    times, units = ones.nonzero()
    with StreamingClient(url) as client:
        packed = client.infer_values(ones, end=True)
        as_events = client.infer_events(STEPS, times, units, end=True)
        carried = client.infer_values(ones, end=True, carry=True)
    body = {"end": True, "input": {"kind": "values", "values": ones.tolist()}}
    in_json = httpx.post(f"{url}/infer", json=body).json()
    for reply in (as_events, carried, in_json):
        assert reply["probabilities"] == packed["probabilities"]
    np.testing.assert_allclose(packed["probabilities"] or [], expected(ones), atol=TOLERANCE)


def test_a_session_survives_a_restart(folder: Path, tmp_path: Path) -> None:
    values, store = rows(5), f"file://{tmp_path}/sessions.db"
    for seq, part in enumerate(np.split(values, [17, 40])):
        app = create_app(make_settings(folder, store=store), ModelCatalog(folder))
        with serving(app) as url, StreamingClient(url) as client:
            reply = client.infer_values(part, session="kept", seq=seq, end=seq == 2)
    assert reply["total_steps"] == STEPS
    np.testing.assert_allclose(np.asarray(reply["probabilities"]), expected(values), atol=TOLERANCE)


def test_a_file_is_streamed_from_a_terminal(url: str, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "sensor.csv", rows(1), delimiter=",", header="x,y,z", comments="")
    result = CliRunner().invoke(stream, [str(tmp_path / "sensor.csv"), "--url", url, "--no-realtime"])
    assert result.exit_code == 0, result.output
    assert f"sensor.csv: {LABELS[int(expected(rows(1)).argmax())]}  " in result.output


def test_the_artifact_is_described(folder: Path) -> None:
    result = CliRunner().invoke(inspect, [str(folder / "grey" / "1")], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "none: takes values" in result.output
    assert "3-16-12-4" in result.output
    assert result.output.count("same bits") == 1
