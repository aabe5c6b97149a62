"""Triton's tools against ``hetsyn serve`` with the shipped models: perf_analyzer, and a sequence that outlives it."""

from __future__ import annotations

import base64
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from tests.support.paths import MODELS
from tests.support.servers.server_process import RestartableServer, free_port
from tests.support.tools import NO_PERF_ANALYZER, NO_TRITONCLIENT

pytestmark = pytest.mark.process

PERF_ANALYZER = shutil.which("perf_analyzer", path=str(Path(sys.executable).parent)) or shutil.which("perf_analyzer")
MODEL, CHANNELS, STEPS = "shd-size", 700, 25
STREAMS, CHUNKS = 4, 5  # sequences whose numbers are compared, and their chunks
# whole sequences of each of 64 threads: it compares its answers to those too that it cuts, whose last chunk comes early
REQUESTS = 64 * 2 * CHUNKS
ATTEMPTS = 3
WAYS = {"http": ("-i", "http"), "grpc": ("-i", "grpc"), "stream": ("-i", "grpc", "--streaming")}


class GrpcServer(RestartableServer):
    """A server with both ports, and a store where ``options`` name one."""

    def __init__(self, *options: str) -> None:
        self.grpc = f"127.0.0.1:{free_port()}"
        super().__init__("--grpc-port", self.grpc.rpartition(":")[2], *options)


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    if find_spec("tritonclient") is None or find_spec("grpc_health") is None:
        pytest.skip(NO_TRITONCLIENT)
    server = GrpcServer()
    try:
        server.ready()
        yield server
    finally:
        server.stop()


def spikes(seed: int) -> Any:
    return np.random.default_rng(seed).random((STEPS, CHANNELS)) < 0.05


class Streams(NamedTuple):
    """Sequences as perf_analyzer reads them: a file, and the answer to each chunk, by output.

    Attributes:
        data: the spikes of each chunk.
        answers: of ``/infer``, whose bits perf_analyzer compares.
    """

    data: list[list[dict[str, Any]]]
    answers: list[list[dict[str, Any]]]

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps({"data": self.data, "validation_data": self.answers}))
        return path


def tensor(values: Any) -> dict[str, Any]:
    return {"content": {"b64": base64.b64encode(values.tobytes()).decode()}, "shape": list(values.shape)}


@pytest.fixture(scope="module")
def streams(server: GrpcServer) -> Streams:
    data: list[list[dict[str, Any]]] = []
    answers: list[list[dict[str, Any]]] = []
    for number in range(STREAMS):
        chunks = [spikes(100 * number + seq) for seq in range(CHUNKS)]
        replies = []
        for seq, chunk in enumerate(chunks):
            body = {"session": f"expected-{number}", "model": MODEL, "seq": seq, "end": seq == CHUNKS - 1}
            dense = {"kind": "dense", "spikes": chunk.astype(int).tolist()}
            replies.append(httpx.post(f"{server.url}/infer", json={**body, "input": dense}).raise_for_status().json())
        data.append([{"spikes": tensor(chunk)} for chunk in chunks])
        answers.append(
            [
                {
                    "probabilities": tensor(np.array(reply["probabilities"], "<f4")),
                    "label": {"content": [reply["label"] or ""], "shape": [1]},
                    "total_steps": tensor(np.array([reply["total_steps"]], "<i8")),
                }
                for reply in replies
            ]
        )
    return Streams(data, answers)


def analyze(server: GrpcServer, way: str, data: Path, concurrency: str, *more: str) -> subprocess.CompletedProcess[str]:
    assert PERF_ANALYZER is not None
    address = server.url.removeprefix("http://") if way == "http" else server.grpc
    command = [
        PERF_ANALYZER, "-m", MODEL, *WAYS[way], "-u", address, "--sequence-id-range", "100:300",
        "--shape", f"spikes:{STEPS},{CHANNELS}", "--input-data", str(data),
        "--concurrency-range", f"{concurrency}:{concurrency}",
        "--request-count", str(REQUESTS), "--stability-percentage", "999", "--max-trials", "3", *more,
    ]  # fmt: skip
    run = partial(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)
    for _ in range(ATTEMPTS - 1):  # it takes a second, but has once not ended at all on a busy machine
        with suppress(subprocess.TimeoutExpired):
            return run()
    return run()


@pytest.mark.skipif(PERF_ANALYZER is None, reason=NO_PERF_ANALYZER)
@pytest.mark.parametrize("concurrency", [*(pytest.param(count, marks=pytest.mark.long) for count in ("1", "64")), "16"])
@pytest.mark.parametrize("way", WAYS)
def test_perf_analyzer(server: GrpcServer, streams: Streams, tmp_path: Path, way: str, concurrency: str) -> None:
    """Sequences, raw tensors; it compares the numbers. Ids are few: they are used again."""
    report = tmp_path / "report.csv"
    before = statistics(server)
    done = analyze(server, way, streams.write(tmp_path / "streams.json"), concurrency, "-f", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error" not in done.stderr  # with which it returns 0 too
    rows = list(csv.DictReader(report.read_text().splitlines()))
    assert [row["Concurrency"] for row in rows] == [concurrency]
    assert all(float(row["Inferences/Second"]) > 0 for row in rows)
    after = statistics(server)
    assert after["inference_count"] - before["inference_count"] >= REQUESTS
    assert after["inference_stats"]["fail"]["count"] == before["inference_stats"]["fail"]["count"]


@pytest.mark.skipif(PERF_ANALYZER is None, reason=NO_PERF_ANALYZER)
@pytest.mark.parametrize("way", ["http", *(pytest.param(way, marks=pytest.mark.long) for way in ("grpc", "stream"))])
def test_perf_analyzer_sees_a_changed_number(server: GrpcServer, streams: Streams, tmp_path: Path, way: str) -> None:
    """One bit of one number in the answers: so the other test could fail."""
    answers = json.loads(json.dumps(streams.answers))
    content = answers[0][CHUNKS - 1]["probabilities"]["content"]
    numbers = bytearray(base64.b64decode(content["b64"]))
    numbers[0] ^= 1
    content["b64"] = base64.b64encode(numbers).decode()
    done = analyze(server, way, Streams(streams.data[:1], answers[:1]).write(tmp_path / "streams.json"), "1")
    assert "Output doesn't match expected output" in done.stdout + done.stderr


def statistics(server: GrpcServer) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/v2/models/{MODEL}/stats").json()["model_stats"][0]
    return found


def test_a_sequence_survives_the_server(tmp_path: Path) -> None:
    """Killed after a chunk was applied and before its answer was read, as far as the client knows."""
    if find_spec("tritonclient") is None or find_spec("grpc_health") is None:
        pytest.skip(NO_TRITONCLIENT)
    import tritonclient.grpc as grpc
    import tritonclient.http as http

    shutil.copytree(MODELS / MODEL, tmp_path / "models" / MODEL)
    server = GrpcServer("--models", str(tmp_path / "models"), "--store", f"file://{tmp_path}/sessions.db")
    try:
        server.ready()

        def send(module: Any, seq: int) -> list[float]:
            address = server.grpc if module is grpc else server.url.removeprefix("http://")
            with module.InferenceServerClient(address) as client:
                tensor = module.InferInput("spikes", [STEPS, CHANNELS], "BOOL")
                tensor.set_data_from_numpy(spikes(seq))
                more: dict[str, Any] = {"sequence_start": seq == 0, "parameters": {"seq": seq}}
                found = client.infer(MODEL, [tensor], sequence_id="survivor", **more)
                answer: list[float] = found.as_numpy("probabilities").tolist()
                return answer

        expected = []
        for seq in range(4):
            body = {"kind": "dense", "spikes": spikes(seq).astype(int).tolist()}
            reply = httpx.post(f"{server.url}/infer", json={"session": "r", "model": MODEL, "seq": seq, "input": body})
            expected.append(np.array(reply.json()["probabilities"], np.float32).tolist())
        answers = [send(grpc, 0), send(http, 1)]
        server.kill()
        server.restart()
        answers += [send(http, 2), send(grpc, 3)]
        assert answers == expected
        server.kill()
        server.restart()
        assert [send(grpc, 3), send(http, 3)] == [expected[3], expected[3]]
    finally:
        server.stop()
