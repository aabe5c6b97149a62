"""``benchmarks peers --perf-analyzer``: perf_analyzer on `hetsyn serve` and on Triton, in turn.

Triton runs our bank graph in its Python backend, with ONNX Runtime and the sequence batcher. First tritonclient sends
the same sequences to both, by the same code: the answers must agree. Then perf_analyzer loads each in turn, over HTTP
and gRPC (a call a chunk, or a stream of chunks), with the same spikes (25 steps of 700 channels a chunk, as BOOL
tensors) in sequences of ten chunks. ``ended`` counts how often a server ended under a load, which is then repeated.
``ratios`` has our inferences a second over Triton's, ``cpu_ratios`` Triton's CPU time an inference over ours: where
other programs take CPU time, a server of more processes gets a larger share of the rest.
"""

from __future__ import annotations

import base64
import csv
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.load.contenders import DENSITY, ENVIRONMENT, HERE, MODEL, STEPS
from tests.support.paths import ROOT
from tests.support.servers.server_process import ServerProcess, free_port

NAME, CHANNELS, SEQUENCE = MODEL.parent.name, 700, 10
CONCURRENCIES: tuple[int, ...] = (1, 16, 64)
PROTOCOLS = ("http", "grpc")
WAYS = {"http": ("http", ()), "grpc": ("grpc", ()), "stream": ("grpc", ("--streaming",))}
"""The protocol of each way to send, and what perf_analyzer is told besides. A stream: ``ModelStreamInfer``."""
LOOK_S = 1.0
MOST_ENDS = 4  # of a server under one load: it is started again, and the load is repeated
TOLERANCE = 1e-5  # of a probability: one graph, in two versions of ONNX Runtime
TITLES = {"ours": "hetsyn serve", "triton": "Triton, Python backend"}


class Ports(NamedTuple):
    """Of a server, by protocol."""

    http: int
    grpc: int

    def address(self, protocol: str) -> str:
        return f"127.0.0.1:{getattr(self, protocol)}"


def run(python: Path | None, repeats: int, seconds: float, concurrencies: Sequence[int]) -> dict[str, Any]:
    """Measure ours, and Triton where there is a Python with it, and print the table."""
    analyzer = shutil.which("perf_analyzer", path=str(Path(sys.executable).parent)) or shutil.which("perf_analyzer")
    if analyzer is None:
        raise SystemExit("perf_analyzer is missing: pip install perf-analyzer (it needs glibc 2.38)")
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="hetsyn-oip-") as name, ExitStack() as stack:
        folder = Path(name)
        chunks = spikes()
        write_input(folder / "input.json", chunks)
        servers = {"ours": Ports(free_port(), free_port())}
        commands = {"ours": ours(servers["ours"])}
        if python is not None:
            servers["triton"] = Ports(free_port(), free_port())
            commands["triton"] = triton(python, servers["triton"], folder)
        processes = {}
        for server, ports in servers.items():
            ready = partial(missing, ports)
            process = ServerProcess(commands[server], ENVIRONMENT, ready, folder / f"{server}.log")
            processes[server] = stack.enter_context(process)
        differs = largest_difference(servers, chunks)
        runs: dict[str, list[dict[str, float]]] = {}
        ended: dict[str, int] = {}
        for repeat in range(repeats):
            for way, (protocol, _) in WAYS.items():
                for concurrency in concurrencies:
                    for server, ports in servers.items():
                        label = f"{server} {way} {concurrency}"
                        console.print(f"round {repeat + 1} of {repeats}: {label}", highlight=False)
                        load = partial(analyzed, analyzer, ports.address(protocol), way, concurrency, seconds, folder)
                        figures, ends = loaded(load, server, processes, ports)
                        if ends:
                            console.print(f"{label}: the server ended {ends} times", highlight=False)
                            ended[label] = ended.get(label, 0) + ends
                        if figures is not None:
                            runs.setdefault(label, []).append(figures)
    results: dict[str, Any] = {
        "differs_from_ours": differs,
        "runs": runs,
        "ended": ended,
        "figures": {},
        "ratios": {},
        "cpu_ratios": {},
    }
    for label, taken in runs.items():
        results["figures"][label] = {key: statistics.median(one[key] for one in taken) for key in taken[0]}
    for way in WAYS:
        for concurrency in concurrencies:
            case = f"{way} {concurrency}"
            mine, others = (results["figures"].get(f"{server} {case}") for server in TITLES)
            if mine is None or others is None:
                continue
            results["ratios"][case] = mine["inferences_per_s"] / others["inferences_per_s"]
            results["cpu_ratios"][case] = others["cpu_ms"] / mine["cpu_ms"]
    _print(results)
    return results


def ours(ports: Ports) -> list[str]:
    return [
        *HERE, "hetsyn", "serve", "--models", str(ROOT / "models"), "--log-level", "warning",
        "--port", str(ports.http), "--grpc-port", str(ports.grpc), "--client-share", "1",
    ]  # fmt: skip


def triton(python: Path, ports: Ports, folder: Path) -> list[str]:
    return [
        str(python), "-m", "benchmarks.servers.triton", "--port", str(ports.http), "--grpc-port", str(ports.grpc),
        "--form", "bank", "--graph", str(MODEL / "bank.onnx"), "--name", NAME, "--input", "spikes",
        "--sequences", str(max(CONCURRENCIES)), "--folder", str(folder),
    ]  # fmt: skip


def spikes() -> NDArray[np.bool_]:
    """Chunks as busy as SHD, [chunks, steps, channels]."""
    return np.random.default_rng(0).random((SEQUENCE, STEPS, CHANNELS)) < DENSITY


def write_input(path: Path, chunks: NDArray[np.bool_]) -> None:
    """Write the chunks as perf_analyzer reads them: one sequence."""
    rows = [
        {"spikes": {"content": {"b64": base64.b64encode(chunk.tobytes()).decode()}, "shape": [STEPS, CHANNELS]}}
        for chunk in chunks
    ]
    path.write_text(json.dumps({"data": [rows]}))


def missing(ports: Ports) -> str | None:
    """Say what a server lacks to be ready, as a client sees it."""
    triton_http = import_module("tritonclient.http")
    client = triton_http.InferenceServerClient(ports.address("http"))
    try:
        return None if client.is_model_ready(NAME) else "the model is not ready"
    except (OSError, triton_http.InferenceServerException) as error:
        return str(error)
    finally:
        client.close()


def inferred(ports: Ports) -> int:
    """Ask a server how many inferences it has made since it started."""
    with import_module("tritonclient.http").InferenceServerClient(ports.address("http")) as client:
        return int(client.get_inference_statistics(NAME)["model_stats"][0]["inference_count"])


def answers(protocol: str, address: str, chunks: NDArray[np.bool_], sequence_id: int) -> NDArray[np.float32]:
    """Ask for the probabilities of a sequence, [chunks, outputs], by code that knows neither server."""
    module = import_module(f"tritonclient.{protocol}")
    with module.InferenceServerClient(address) as client:
        config = client.get_model_config(NAME, **({"as_json": True} if protocol == "grpc" else {}))
        has_batches = int(config.get("config", config).get("max_batch_size", 0)) > 0
        rows = []
        for n, chunk in enumerate(chunks):
            values = chunk[None] if has_batches else chunk
            tensor = module.InferInput("spikes", list(values.shape), "BOOL")
            tensor.set_data_from_numpy(values)
            found = client.infer(
                NAME,
                [tensor],
                outputs=[module.InferRequestedOutput("probabilities")],
                sequence_id=sequence_id,
                sequence_start=n == 0,
                sequence_end=n == len(chunks) - 1,
            )
            rows.append(found.as_numpy("probabilities").reshape(-1))
    return np.array(rows, np.float32)


def largest_difference(servers: dict[str, Ports], chunks: NDArray[np.bool_]) -> float:
    """Compare the probabilities of all servers and protocols.

    The last chunk is left out: at the end ours adds the network's tail of silence.

    Raises:
        SystemExit: they differ by more than rounding.
    """
    found = [
        answers(protocol, ports.address(protocol), chunks, 1_000 + index)[:-1]
        for index, (ports, protocol) in enumerate((ports, one) for ports in servers.values() for one in PROTOCOLS)
    ]
    largest = max(float(np.abs(one - found[0]).max()) for one in found)
    if not largest <= TOLERANCE:
        raise SystemExit(f"the servers' probabilities differ by {largest:.1e}: nothing is compared")
    return largest


def loaded(
    load: Callable[[ServerProcess], dict[str, float] | None],
    server: str,
    processes: Mapping[str, ServerProcess],
    ports: Ports,
) -> tuple[dict[str, float] | None, int]:
    """Measure one load, and count how often its server ended. After ``MOST_ENDS`` ends there are no figures."""
    process = processes[server]
    for ends in range(MOST_ENDS):
        cpu_s, count = process.cpu_s(), inferred(ports)
        figures = load(process)
        if figures is not None:
            figures["cpu_ms"] = 1_000 * (process.cpu_s() - cpu_s) / (inferred(ports) - count)
            return figures, ends
        process.__exit__(None, None, None)
        process.__enter__()
    return None, MOST_ENDS


def analyzed(
    analyzer: str, address: str, way: str, concurrency: int, seconds: float, folder: Path, server: ServerProcess
) -> dict[str, float] | None:
    """perf_analyzer's figures of one load; None if the server has ended under it."""
    report = folder / "report.csv"
    protocol, more = WAYS[way]
    command = [
        analyzer, "-m", NAME, "-i", protocol, "-u", address, "--concurrency-range", str(concurrency),
        "--input-data", str(folder / "input.json"), "--sequence-length", str(SEQUENCE),
        "--sequence-length-variation", "0", "--sequence-id-range", "1:100000", "-f", str(report),
        "-p", str(int(1_000 * seconds)), "--stability-percentage", "999", "--max-trials", "3", *more,
    ]  # fmt: skip
    said = ""
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running,
        ExitStack() as ending,
    ):
        ending.callback(running.kill)
        while running.poll() is None:
            try:
                said, _ = running.communicate(timeout=LOOK_S)
            except subprocess.TimeoutExpired:
                if not server.is_alive():  # perf_analyzer would wait for it for ever
                    running.kill()
    if not server.is_alive():
        return None
    if running.returncode:
        raise SystemExit(f"perf_analyzer: {said[-1_200:]}")
    (row,) = csv.DictReader(report.read_text().splitlines())
    return {
        "inferences_per_s": float(row["Inferences/Second"]),
        "p50_ms": float(row["p50 latency"]) / 1_000,
        "p99_ms": float(row["p99 latency"]) / 1_000,
    }


def _print(results: dict[str, Any]) -> None:
    table = Table("server", "way", "concurrency", "inferences/s", "p50 ms", "p99 ms", "CPU ms", "ours / Triton")
    for label, figures in results["figures"].items():
        server, way, concurrency = label.split()
        ratio = results["ratios"].get(f"{way} {concurrency}") if server == "ours" else None
        table.add_row(
            TITLES[server],
            way,
            concurrency,
            f"{figures['inferences_per_s']:,.0f}",
            f"{figures['p50_ms']:.2f}",
            f"{figures['p99_ms']:.2f}",
            f"{figures['cpu_ms']:.2f}",
            "" if ratio is None else f"{ratio:.2f}",
        )
    Console().print(table)
