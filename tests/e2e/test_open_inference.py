"""Triton's tools against ``hetsyn serve`` with the shipped models: perf_analyzer, and a sequence that outlives it."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.server_process import free_port
from tests.support.paths import MODELS
from tests.support.server_process import RestartableServer
from tests.support.tools import NO_PERF_ANALYZER, NO_TRITONCLIENT
from tests.support.workers import WorkersServer, metrics

PERF_ANALYZER = shutil.which("perf_analyzer", path=str(Path(sys.executable).parent)) or shutil.which("perf_analyzer")
MODEL, CHANNELS, STEPS = "shd-size", 700, 25
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


@pytest.mark.skipif(PERF_ANALYZER is None, reason=NO_PERF_ANALYZER)
@pytest.mark.parametrize("way", WAYS)
def test_perf_analyzer(server: GrpcServer, tmp_path: Path, way: str) -> None:
    """Sequences, concurrency 1 to 64, raw tensors. Their number is small: ids are used again and again."""
    assert PERF_ANALYZER is not None
    address = server.url.removeprefix("http://") if way == "http" else server.grpc
    report = tmp_path / "report.csv"
    done = subprocess.run(
        [
            PERF_ANALYZER, "-m", MODEL, *WAYS[way], "-u", address, "--sequence-length", "5",
            "--sequence-id-range", "100:170", "--shape", f"spikes:{STEPS},{CHANNELS}", "--input-data", "zero",
            "--concurrency-range", "1:64:63", "--measurement-mode", "count_windows",
            "--measurement-request-count", "60", "--stability-percentage", "999", "--max-trials", "3",
            "-f", str(report),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = list(csv.DictReader(report.read_text().splitlines()))
    assert {row["Concurrency"] for row in rows} == {"1", "64"}
    assert all(float(row["Inferences/Second"]) > 0 for row in rows)
    statistics = httpx.get(f"{server.url}/v2/models/{MODEL}/stats").json()["model_stats"][0]
    assert statistics["inference_count"] >= 120
    assert statistics["inference_stats"]["fail"]["count"] == 0


def spikes(seed: int) -> Any:
    return np.random.default_rng(seed).random((STEPS, CHANNELS)) < 0.05


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
                more = {"sequence_start": seq == 0, "parameters": {"seq": seq}}
                found = client.infer(MODEL, [tensor], sequence_id="survivor", **more)
                answer: list[float] = found.as_numpy("probabilities").tolist()
                return answer

        expected = []
        for seq in range(4):
            body = {"kind": "dense", "spikes": spikes(seq).astype(int).tolist()}
            reply = httpx.post(f"{server.url}/infer", json={"session": "r", "model": MODEL, "seq": seq, "input": body})
            expected.append(reply.json()["probabilities"])
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


def test_workers_are_one_server() -> None:
    """Each chunk on a connection of its own: most reach a worker that does not have the sequence."""
    if find_spec("tritonclient") is None:
        pytest.skip(NO_TRITONCLIENT)
    import tritonclient.http as http

    server = WorkersServer()
    try:
        server.ready()
        answers = []
        for name in ("a", "b", "c"):
            taken = []
            for seq in range(4):
                with http.InferenceServerClient(server.url.removeprefix("http://")) as client:
                    tensor = http.InferInput("spikes", [STEPS, CHANNELS], "BOOL")
                    tensor.set_data_from_numpy(spikes(seq))
                    way = {"request_compression_algorithm": "gzip"} if seq % 2 else {}
                    found = client.infer(MODEL, [tensor], sequence_id=name, sequence_start=seq == 0, **way)
                    taken.append((found.as_numpy("probabilities").tolist(), found.as_numpy("total_steps").tolist()))
            answers.append(taken)
        assert answers[0] == answers[1] == answers[2]
        assert [steps for _, (steps,) in answers[0]] == [25, 50, 75, 100]
        assert metrics(server.url)["hetsyn_requests_passed_on_total"] > 0
    finally:
        server.stop()
