"""The servers that the benchmarks compare: how each is started, and how it is spoken to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import Connection, LoadError, Target, apply
from benchmarks.server_process import ServerProcess

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "benchmarks/servers/requirements.txt"
MODEL = ROOT / "models/shd-size/1"
STEPS, CHANNELS, OUTPUTS, DENSITY = 25, 700, 20, 0.045  # a chunk of 100 ms, as busy as SHD
PERIOD_S = 0.1
PROBE_SESSION = "probe"  # the chunk that asks whether a server is ready
PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class RawTarget:
    """A raw body, session and end in the query: ``/infer`` of ours and of the servers that imitate it."""

    query: str = ""
    numbered: bool = False

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:
        number = f"&seq={seq}" if self.numbered else ""
        path = f"/infer?session={session}&end={'true' if is_last else 'false'}{number}{self.query}"
        return _post(path, "Content-Type: application/vnd.hetsyn.events\r\n", chunk)

    def probabilities(self, body: bytes) -> NDArray[np.float32]:
        return np.array(json.loads(body)["probabilities"], np.float32)


@dataclass(frozen=True)
class LitServeTarget:
    """JSON, which is what LitServe reads, with the chunk in base64."""

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:  # noqa: ARG002
        text = base64.b64encode(chunk).decode()
        body = json.dumps({"session": session, "end": is_last, "chunk": text}).encode()
        return _post("/predict", "Content-Type: application/json\r\n", body)

    def probabilities(self, body: bytes) -> NDArray[np.float32]:
        return np.array(json.loads(body)["probabilities"], np.float32)


@dataclass(frozen=True)
class TritonTarget:
    """The Open Inference Protocol with binary tensors both ways."""

    model: str

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:
        # names are refused by this version ("unexpected number of string elements"), so a number made from the name
        number = int.from_bytes(hashlib.blake2b(session.encode(), digest_size=7).digest())
        described = json.dumps(
            {
                "parameters": {"sequence_id": number, "sequence_start": seq == 0, "sequence_end": is_last},
                "inputs": [
                    {
                        "name": "chunk",
                        "shape": [1, len(chunk)],
                        "datatype": "UINT8",
                        "parameters": {"binary_data_size": len(chunk)},
                    }
                ],
                "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
            },
            separators=(",", ":"),
        ).encode()
        headers = f"Inference-Header-Content-Length: {len(described)}\r\n"
        return _post(f"/v2/models/{self.model}/infer", headers, described + chunk)

    def probabilities(self, body: bytes) -> NDArray[np.float32]:
        return np.frombuffer(body[-4 * OUTPUTS :], "<f4")  # the tensor comes last, after its description in JSON


def _post(path: str, headers: str, body: bytes) -> bytes:
    return (f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n").encode() + body


@dataclass(frozen=True)
class Contender:
    """A server to measure.

    answers_as: the form whose answers it must give; None for the empty endpoint.
    command: with ``{port}`` in it. environment: on top of ours.
    """

    name: str
    title: str
    answers_as: str | None
    target: Target
    command: tuple[str, ...]
    environment: Mapping[str, str]

    def serve(self, log: Path, probe: bytes) -> ServerProcess:
        """The server, not started yet; it is ready when it has answered the chunk ``probe``."""

        def missing(port: int) -> str | None:
            return asyncio.run(_missing(self.target, port, probe))

        return ServerProcess(self.command, self.environment, missing, log)


async def _missing(target: Target, port: int, probe: bytes) -> str | None:
    """Why the server does not answer a chunk, or None if it does."""
    try:
        connection = await Connection.open(port)
    except OSError as error:
        return str(error)
    try:
        await asyncio.wait_for(apply(target, connection, PROBE_SESSION, 0, probe, is_last=True), PROBE_TIMEOUT_S)
    except (LoadError, TimeoutError) as error:
        return str(error) or f"no reply in {PROBE_TIMEOUT_S} s"
    finally:
        connection.close()
    return None


def ours(form: str) -> Contender:
    command = ("-m", "hetsyn", "serve", "--models", str(ROOT / "models"), "--port", "{port}", "--log-level", "warning")
    target = RawTarget(f"&model=shd-size&form={form}", numbered=True)
    return Contender(f"ours-{form}", f"hetsyn serve, {form}", form, target, (sys.executable, *command), _ours())


def empty() -> Contender:
    command = (sys.executable, "-m", "benchmarks.servers.empty", "--port", "{port}")
    return Contender("empty", "empty endpoint", None, RawTarget(), command, _ours())


def dict_server(step_graph: Path) -> Contender:
    command = (sys.executable, "-m", "benchmarks.servers.dict_server", "--port", "{port}", "--graph", str(step_graph))
    return Contender("dict", "dict, exact step", "exact", RawTarget(), command, _ours())


def peers(python: Path, step_graph: Path, folder: Path) -> list[Contender]:
    """The peers, in an environment of their own.

    Args:
        python: of that environment. folder: for what they write.
    """
    environment = {"PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1"}

    def peer(name: str, title: str, form: str, target: Target, module: str, graph: Path, *more: str) -> Contender:
        command = (str(python), "-m", f"benchmarks.servers.{module}", "--port", "{port}", "--graph", str(graph), *more)
        return Contender(name, title, form, target, command, environment)

    def triton(title: str, form: str, graph: Path) -> Contender:
        more = ("--form", form, "--folder", str(folder))
        return peer(f"triton-{form}", title, form, TritonTarget(form), "triton", graph, *more)

    return [
        triton("Triton, exact step", "exact", step_graph),
        triton("Triton, our bank graph", "bank", MODEL / "bank.onnx"),
        peer("litserve", "LitServe, exact step", "exact", LitServeTarget(), "litserve_server", step_graph),
        peer("ray-serve", "Ray Serve, exact step", "exact", RawTarget(), "ray_serve", step_graph),
    ]


def make_peers_python(folder: Path) -> Path:
    """A new environment with the peers in it; the path of its Python.

    Raises:
        PeersMissing: they could not be installed.
    """
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    command: Sequence[str] = (
        *(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("-r", str(REQUIREMENTS)),
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeersMissing(done.stderr.strip().rpartition("\n")[2])
    return python


class PeersMissing(Exception):
    """The peers could not be installed; the message is pip's."""


def _ours() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT)}
