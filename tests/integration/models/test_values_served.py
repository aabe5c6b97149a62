"""Values over a real network: a real ONNX graph, the client, ``hetsyn stream``, ``hetsyn bench``, and restarts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from hetsyn_client import InputError, ServiceProblem, StreamingClient
from hetsyn_client.terminal.commands import stream
from service.runtime.onnx import Array
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import CHANNELS, TAIL, load_fake
from tests.support.artifacts.leaky_values import TOLERANCE, expected, write_leaky
from tests.support.servers.socket_server import running, serving_from_file

STEPS = 60
SILENCE = np.zeros((TAIL, CHANNELS), np.float32)


def rows(seed: int, steps: int = STEPS) -> Array:
    return np.random.default_rng(seed).normal(size=(steps, CHANNELS)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    write_leaky(models)
    return models


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with running(folder) as url:
        yield url


def test_any_chunks_in_any_company_have_the_answer_of_the_equation(url: str) -> None:
    """Each stream is cut at places of its own; every second is carried, and every third sends lists, not arrays."""

    def answer(seed: int) -> list[float]:
        rng, values = np.random.default_rng(seed), rows(seed)
        cuts = sorted(rng.choice(STEPS - 1, rng.integers(1, 9), replace=False) + 1)
        with StreamingClient(url) as client, client.session(carry=seed % 2 == 1) as session:
            for part in np.split(values, cuts):
                session.send_values(part if seed % 3 else part.tolist())
            return session.end()["probabilities"] or []

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(answer, range(24)))
    for seed, found in enumerate(answers):
        np.testing.assert_allclose(found, expected(np.concatenate([rows(seed), SILENCE])), atol=TOLERANCE)


def test_a_session_survives_a_restart_and_moves_to_another_server(folder: Path, tmp_path: Path) -> None:
    values = rows(5)
    expected_after = expected(np.concatenate([values, SILENCE]))
    with serving_from_file(folder, tmp_path / "sessions.db") as url, StreamingClient(url) as client:
        client.infer_values(values[:17], session="kept", seq=0)
    with serving_from_file(folder, tmp_path / "sessions.db") as url, StreamingClient(url) as client:
        client.infer_values(values[17:40], session="kept", seq=1)
        record = httpx.get(f"{url}/sessions/kept/state").content
        ended = client.infer_values(values[40:], session="kept", seq=2, end=True)
    with running(folder) as url, StreamingClient(url) as client:
        headers = {"Content-Type": "application/vnd.hetsyn.session"}
        assert httpx.put(f"{url}/sessions/kept/state", content=record, headers=headers).status_code == 201
        moved = client.infer_values(values[40:], session="kept", seq=2, end=True)
    assert moved["probabilities"] == ended["probabilities"]
    np.testing.assert_allclose(np.asarray(ended["probabilities"]), expected_after, atol=TOLERANCE)


def test_a_file_is_streamed_from_a_terminal(url: str, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "sensor.csv", rows(1), delimiter=",", header=",".join("abcdef"), comments="")
    result = CliRunner().invoke(stream, [str(tmp_path / "sensor.csv"), "--url", url])
    assert result.exit_code == 0, result.output
    label = ("one", "two", "three")[int(expected(np.concatenate([rows(1), SILENCE])).argmax())]
    assert f"sensor.csv: {label}  " in result.output
    (tmp_path / "wrong.csv").write_text("1,2\n3,4\n")
    refused = CliRunner().invoke(stream, [str(tmp_path / "wrong.csv"), "--url", url])
    assert isinstance(refused.exception, ServiceProblem)
    assert "the rows have 2 values, but model 'leaky' takes 6 a step" in str(refused.exception)


def test_values_for_a_model_of_spikes_are_refused_before_they_are_sent(tmp_path: Path) -> None:
    write_artifact(tmp_path / "models", "digits")
    np.save(tmp_path / "a.npy", rows(0))
    with running(tmp_path / "models", load_fake) as url, StreamingClient(url) as client:
        with pytest.raises(InputError, match="spikes are 0 or 1"):
            list(client.stream_file(tmp_path / "a.npy"))
        np.save(tmp_path / "a.npy", rows(0) > 0)
        assert list(client.stream_file(tmp_path / "a.npy"))[-1]["total_steps"] == STEPS + TAIL
