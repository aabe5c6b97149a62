"""The servers that the benchmarks compare: the command that starts each, and its interface."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.load import StreamTarget, missing_answer
from hetsyn_client.events import MEDIA_TYPE, pack_events
from hetsyn_client.loadtest.load import Load, Served, random_spikes
from service.contract.artifact import Artifact
from service.contract.folder import newest_artifact
from service.contract.manifest import FormName
from tests.support.paths import MODELS, ROOT
from tests.support.servers.server_process import ServerProcess, free_port, serve_command
from tests.support.servers.target import Address, HetsynTarget, post

REQUIREMENTS = ROOT / "benchmarks/servers/requirements.txt"
MODEL = MODELS / "shd-size/1"
SPEECH = "speech-digits"
STEPS, OUTPUTS, DENSITY = 25, 20, 0.045  # a chunk of 100 ms, as busy as SHD
HERE = (sys.executable, "-m")
# the benchmark may be started from any folder
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1"}
# a step without a spike, which ends a session that a load left open
SILENCE = pack_events(1, [], [])


@dataclass(frozen=True)
class _PeerTarget(ABC):
    """A server that cannot delete a session."""

    address: Address

    @abstractmethod
    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes: ...

    def drop(self, session: str) -> bytes | None:
        return self.request(session, 1, SILENCE, is_last=True)


class OurTarget(HetsynTarget):
    """``/infer`` of ``hetsyn serve``."""

    def probabilities(self, body: bytes) -> NDArray[np.float32]:
        return np.array(json.loads(body)["probabilities"], np.float32)


@dataclass(frozen=True)
class RawTarget(_PeerTarget):
    """A raw body, with session and end in the query as in ``/infer``."""

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:  # noqa: ARG002
        path = f"/infer?session={session}&end={'true' if is_last else 'false'}"
        return post(self.address, path, MEDIA_TYPE, chunk)

    def probabilities(self, body: bytes) -> NDArray[np.float32]:
        return np.array(json.loads(body)["probabilities"], np.float32)


@dataclass(frozen=True)
class LitServeTarget(_PeerTarget):
    """JSON with the chunk in base64, because LitServe reads only JSON."""

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:  # noqa: ARG002
        text = base64.b64encode(chunk).decode()
        body = json.dumps({"session": session, "end": is_last, "chunk": text}).encode()
        return post(self.address, "/predict", "application/json", body)

    def probabilities(self, body: bytes) -> NDArray[np.float32]:
        return np.array(json.loads(body)["probabilities"], np.float32)


@dataclass(frozen=True)
class TritonTarget(_PeerTarget):
    """The Open Inference Protocol with binary tensors both ways."""

    model: str

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:
        # this version refuses names ("unexpected number of string elements"), so the name becomes a number
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
        body = described + chunk
        head = (
            f"POST /v2/models/{self.model}/infer HTTP/1.1\r\nHost: {self.address.authority}\r\n"
            f"Inference-Header-Content-Length: {len(described)}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def probabilities(self, body: bytes) -> NDArray[np.float32]:
        return np.frombuffer(body[-4 * OUTPUTS :], "<f4")  # the tensor follows its description in JSON


@dataclass(frozen=True)
class Contender:
    """A server to measure.

    Attributes:
        name: short, of the results.
        title: for tables and plots.
        answers_as: form that must give the same answers; None for the empty endpoint.
        target: its interface at an address.
        command: starts it; ``{port}`` stands for the port.
    """

    name: str
    title: str
    answers_as: FormName | None
    target: Callable[[Address], StreamTarget]
    command: tuple[str, ...]

    @contextmanager
    def serve(self, log: Path) -> Iterator[tuple[ServerProcess, StreamTarget]]:
        """Run the server within this context, which begins when it has answered a chunk.

        Raises:
            ServerError: it did not start.
        """
        address = Address("127.0.0.1", free_port())
        target = self.target(address)
        command = [part.format(port=address.port) for part in self.command]
        with ServerProcess(command, ENVIRONMENT, missing_answer(target, SILENCE), log) as server:
            yield server, target


def ours(form: FormName = "bank", models: Path = MODELS) -> Contender:
    """Describe ``hetsyn serve`` with the SHD-size model of a folder, which has that form."""
    command = (*HERE, "hetsyn", "serve", "--models", str(models), "--port", "{port}", "--log-level", "warning")
    return Contender(f"ours-{form}", f"hetsyn serve, {form}", form, ours_target, command)


def ours_target(address: Address) -> OurTarget:
    """Describe the SHD-size model on ``hetsyn serve`` as a target."""
    return OurTarget(address, MEDIA_TYPE, MODEL.parent.name, MODEL.name)


def empty() -> Contender:
    return Contender(
        "empty", "empty endpoint", None, RawTarget, (*HERE, "benchmarks.servers.empty", "--port", "{port}")
    )


def dict_server(step_graph: Path) -> Contender:
    command = (*HERE, "benchmarks.servers.dict_server", "--port", "{port}", "--graph", str(step_graph))
    return Contender("dict", "dict, exact step", "exact", RawTarget, command)


def peers(python: Path, step_graph: Path, folder: Path) -> list[Contender]:
    """List the peers.

    Args:
        python: of an environment that has them.
        step_graph: the exact step, as ONNX file.
        folder: for their files.
    """

    def command(module: str, graph: Path, *more: str) -> tuple[str, ...]:
        return (str(python), "-m", f"benchmarks.servers.{module}", "--port", "{port}", "--graph", str(graph), *more)

    def triton(title: str, form: FormName, graph: Path) -> Contender:
        started = command("triton", graph, "--form", form, "--folder", str(folder))
        return Contender(f"triton-{form}", title, form, partial(TritonTarget, model=form), started)

    return [
        triton("Triton, exact step", "exact", step_graph),
        triton("Triton, our bank graph", "bank", MODEL / "bank.onnx"),
        Contender("litserve", "LitServe, exact step", "exact", LitServeTarget, command("litserve_server", step_graph)),
        Contender("ray-serve", "Ray Serve, exact step", "exact", RawTarget, command("ray_serve", step_graph)),
    ]


def shd_load() -> Load:
    """Make the chunks that all servers get: random spikes, as packed events."""
    manifest = Artifact.open(MODEL).manifest
    model = Served(manifest.name, manifest.input.channels, manifest.input.step_s, None)
    return random_spikes(model, STEPS * manifest.input.step_s, DENSITY)


def serve_speech(load: Load, *options: str) -> AbstractContextManager[tuple[ServerProcess, HetsynTarget]]:
    """Start ``hetsyn serve`` with more options. Returns the interface of its speech model; errors as ``serve``."""
    return serve(lambda address: speech_target(address, load), load.chunks[0], *options)


@contextmanager
def serve(
    target_at: Callable[[Address], HetsynTarget], chunk: bytes, *options: str
) -> Iterator[tuple[ServerProcess, HetsynTarget]]:
    """Start ``hetsyn serve`` with more options. Returns its interface.

    Args:
        target_at: makes the interface.
        chunk: asks whether the server is ready.
        options: of the command.

    Raises:
        ServerError: it did not start.
    """
    address = Address("127.0.0.1", free_port())
    target = target_at(address)
    command = serve_command(address.port, "--log-level", "warning", *options)
    with (
        tempfile.TemporaryDirectory(prefix="hetsyn-serve-") as folder,
        ServerProcess(command, ENVIRONMENT, missing_answer(target, chunk), Path(folder) / "serve.log") as server,
    ):
        yield server, target


def speech_target(address: Address, load: Load, models: Path = MODELS) -> HetsynTarget:
    """Describe the newest speech model of a folder on ``hetsyn serve`` as a target."""
    manifest = newest_artifact(models / SPEECH).manifest
    return HetsynTarget(address, load.content_type, manifest.name, manifest.version)


def newest_speech() -> Artifact:
    """Find the newest version of the speech model."""
    return newest_artifact(MODELS / SPEECH)
