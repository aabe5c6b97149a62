"""Does silero-vad, a model of other people's, give its own probabilities in our sessions, through kills of the server?

The ONNX file of its wheel is imported (``hetsyn import-onnx``) and served with a store in a file. Several sessions
stream at once, each in chunks of random length, while the server is killed and started again. The reference is the
package's own streaming, step by step. It needs ``pip install --no-deps silero-vad packaging``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from export import import_onnx
from hetsyn_client import ServiceUnreachable, StreamingClient
from tests.support.server_process import free_port

RATE_HZ, FRAME, CONTEXT = 16_000, 512, 64  # samples of a step, and of the one before that the model gets too
LARGEST_CHUNK = 40_000
LARGEST_PAUSE_S = 1.5
ALLOWED = 1e-5
START_TIMEOUT_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings, 16-bit mono WAV")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each session")
    parser.add_argument("--sessions", type=int, default=4, help="at once")
    parser.add_argument("--kills", type=int, default=6, help="of the server")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    minutes = 0.2 if arguments.quick else arguments.minutes
    try:
        silero = importlib.import_module("silero_vad.utils_vad")
    except ModuleNotFoundError as error:
        raise SystemExit(f"this needs {error.name}: pip install --no-deps silero-vad packaging") from error
    model_file = Path(str(silero.__file__)).parent / "data" / "silero_vad.onnx"
    streams = [recorded(arguments.data, minutes, seed) for seed in range(arguments.sessions)]
    started_s = time.perf_counter()
    expected = [own_streaming(silero, model_file, stream) for stream in streams]
    own_s = time.perf_counter() - started_s
    with tempfile.TemporaryDirectory() as scratch:
        models = Path(scratch) / "models"
        report = import_onnx(
            model_file,
            out=models / "silero" / "1",
            labels=["speech"],
            state={"state": "stateN"},
            constants={"sr": RATE_HZ},
            batch_axis={"state": 1},
            context=CONTEXT,
            audio=RATE_HZ,
            frame=FRAME,
            decision="trace",
        )
        with _Server(models, Path(scratch) / "sessions.db") as server, ThreadPoolExecutor(len(streams) + 1) as threads:
            progress = [0.0] * len(streams)
            killed = threads.submit(_kill_now_and_then, server, progress, arguments.kills)
            started_s = time.perf_counter()
            jobs = [threads.submit(_served, server.url, seed, s, progress) for seed, s in enumerate(streams)]
            found = [job.result() for job in jobs]
            served_s = time.perf_counter() - started_s
            kills = killed.result()
    differences = [float(np.abs(a - b).max()) for a, (b, _, _) in zip(expected, found, strict=True)]
    speech = [float((probabilities > 0.5).mean()) for probabilities in expected]
    results: dict[str, Any] = {
        "package": f"silero-vad {metadata.version('silero-vad')}",
        "minutes": minutes,
        "steps": sum(len(probabilities) for probabilities in expected),
        "chunks": sum(chunks for _, chunks, _ in found),
        "sent_again": sum(again for _, _, again in found),
        "kills": kills,
        "largest_difference": max(differences),
        "differences": differences,
        "steps_with_speech": speech,
        "state_bytes": report.state_bytes,
        "own_streaming_s": own_s,
        "served_s": served_s,
        "passed": max(differences) <= ALLOWED and kills == arguments.kills,
    }
    _print(results)
    return results


def recorded(folder: Path, minutes: float, seed: int) -> NDArray[np.int16]:
    """Recordings in random order with pauses between them, in whole steps."""
    rng = np.random.default_rng(seed)
    paths = sorted(folder.rglob("*.wav"))
    if not paths:
        raise SystemExit(f"{folder} has no WAV files: give --data a folder of recordings")
    missing, parts = int(minutes * 60 * RATE_HZ) // FRAME * FRAME, []
    while missing > 0:
        with wave.open(str(paths[rng.integers(len(paths))])) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
            at_rate = soxr.resample(samples, file.getframerate(), RATE_HZ)
        pause = np.zeros(rng.integers(int(LARGEST_PAUSE_S * RATE_HZ)))
        part = np.concatenate([at_rate, pause])[:missing]
        missing -= len(part)
        parts.append(np.clip(np.round(part), -(2**15), 2**15 - 1).astype(np.int16))
    return np.concatenate(parts)


def own_streaming(silero: Any, model_file: Path, samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """The probability of speech in each step, as the package's wrapper gives it."""
    wrapper = silero.OnnxWrapper(str(model_file), force_onnx_cpu=True)
    steps = torch.from_numpy(samples.astype(np.float32) / 32_768).reshape(-1, FRAME)
    return np.array([wrapper(step, RATE_HZ).item() for step in steps], np.float32)


def _served(
    url: str, seed: int, samples: NDArray[np.int16], progress: list[float]
) -> tuple[NDArray[np.float32], int, int]:
    """The same from a session; with the number of its chunks, and of those that were sent again."""
    rng, begin, seq, again = np.random.default_rng(100 + seed), 0, 0, 0
    readout: list[list[float]] = []
    with StreamingClient(url) as client:
        while begin < len(samples):
            end = min(len(samples), begin + int(rng.integers(1, LARGEST_CHUNK)))
            chunk = {"session": f"talk-{seed}", "seq": seq, "end": end == len(samples)}
            while True:
                try:
                    reply = client.infer_chunk(samples[begin:end], RATE_HZ, **chunk)  # type: ignore[arg-type]
                    break
                except ServiceUnreachable:
                    again += 1
            readout += reply["readout"]
            begin, seq = end, seq + 1
            progress[seed] = begin / len(samples)
    return np.array(readout, np.float32)[:, 0], seq, again


def _kill_now_and_then(server: _Server, progress: list[float], kills: int) -> int:
    for kill in range(kills):
        while min(progress) < (kill + 1) / (kills + 1):
            if min(progress) >= 1:
                return kill
            time.sleep(0.01)
        server.restart()
    return kills


class _Server:
    """``hetsyn serve`` with a store, which can be killed and started again on the same port."""

    def __init__(self, models: Path, store: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "hetsyn", "serve", "--models", str(models), "--port", str(port)]
        self._command += ["--store", f"file://{store}", "--log-level", "error"]

    def __enter__(self) -> _Server:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        self._end(signal.SIGKILL)
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health/ready").is_success:
                    return
            time.sleep(0.05)
        raise SystemExit(f"{' '.join(self._command)} did not become ready")

    def _end(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)
        self._process.wait()


def _print(results: dict[str, Any]) -> None:
    table = Table("session", "largest difference", "steps with speech", title=f"{results['package']} through /infer")
    for session, (difference, share) in enumerate(_rows(results)):
        table.add_row(str(session), f"{difference:.1e}", f"{share:.0%}")
    Console().print(table)
    Console().print(
        f"{results['steps']:,} steps in {results['chunks']:,} chunks, {results['kills']} kills, "
        f"{results['sent_again']} chunks sent again; {results['served_s']:.0f} s served, "
        f"{results['own_streaming_s']:.0f} s by the package",
        highlight=False,
    )


def _rows(results: dict[str, Any]) -> Iterator[tuple[float, float]]:
    yield from zip(results["differences"], results["steps_with_speech"], strict=True)
