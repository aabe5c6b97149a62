"""Triton's own clients, unmodified, each as one function from chunks to answers."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx
import numpy as np
from numpy.typing import NDArray

from service.app import create_app
from service.models.catalog import ModelCatalog
from service.runtime.onnx import GraphLoader
from service.store.base import StateStore
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import load_fake
from tests.support.clients.json_input import Json
from tests.support.product import CARRY_KEYS, make_settings
from tests.support.servers.socket_server import serving


class HasUrl(Protocol):
    """A server."""

    @property
    def url(self) -> str: ...


class Live(NamedTuple):
    """A server: its URL, its ports as clients of Triton name them, and its application."""

    url: str
    http: str
    grpc: str
    app: Any

    def reload(self) -> None:
        """Read the folder of models again."""
        reloader = self.app.state.server.reloader
        asyncio.run_coroutine_threadsafe(reloader.reload(), self.app.state.loop).result(60)


@contextmanager
def live_server(
    folder: Path, store: StateStore | None = None, load: GraphLoader = load_fake, **settings: Any
) -> Iterator[Live]:
    """A server of fake models: ``digits`` (sound, spikes), ``sensor`` (values) and ``tracer`` (a readout)."""
    write_artifact(folder)
    write_artifact(folder, "sensor", takes="values")
    write_artifact(folder, "spiking", takes_audio=False)
    write_artifact(folder, "tracer", rule="trace", takes_audio=False)
    made = make_settings(folder, **{"client_share": 1.0, "grpc_port": 0} | settings)
    app = create_app(made, ModelCatalog(with_default(folder, "digits"), load=load), store=store, keys=CARRY_KEYS)
    with serving(app) as url:
        yield Live(url, url.removeprefix("http://"), f"127.0.0.1:{app.state.server.grpc.port}", app)


class Chunk(NamedTuple):
    """A request.

    Attributes:
        values: the input; None for none.
        options: of ``infer``: ``sequence_id``, ``parameters``, ...
    """

    values: NDArray[Any] | None
    options: Mapping[str, Any] = {}


DATATYPES = {"int16": "INT16", "float32": "FP32", "bool": "BOOL"}
Answer = dict[str, NDArray[Any]]
Send = Callable[[Live, str, str, Sequence[Chunk]], Any]
"""Server, model, name of its input, chunks -> an answer each; a refusal is raised."""


def inputs(module: Any, name: str, values: NDArray[Any] | None, **options: Any) -> list[Any]:
    if values is None:
        return []
    made = module.InferInput(name, list(values.shape), DATATYPES[values.dtype.name])
    made.set_data_from_numpy(values, **options)
    return [made]


def answer_of(result: Any, names: Sequence[str] = ("probabilities", "label", "total_steps", "readout")) -> Answer:
    return {name: found for name in names if (found := result.as_numpy(name)) is not None}


async def by_http(server: Live, model: str, name: str, chunks: Sequence[Chunk], binary: bool = True) -> list[Answer]:
    import tritonclient.http as triton

    with triton.InferenceServerClient(server.http) as client:
        return [
            answer_of(client.infer(model, inputs(triton, name, values, binary_data=binary), **options))
            for values, options in chunks
        ]


async def by_http_as_json(server: Live, model: str, name: str, chunks: Sequence[Chunk]) -> list[Answer]:
    import tritonclient.http as triton

    outputs = [
        triton.InferRequestedOutput(name, binary_data=False) for name in ("probabilities", "label", "total_steps")
    ]
    if model == "tracer":
        outputs = [triton.InferRequestedOutput(name, binary_data=False) for name in ("readout", "total_steps")]
    sent = [Chunk(values, {**options, "outputs": outputs}) for values, options in chunks]
    return await by_http(server, model, name, sent, binary=False)


async def by_http_for_gzip(server: Live, model: str, name: str, chunks: Sequence[Chunk]) -> list[Answer]:
    """Asks for compressed replies, and gets others."""
    asking = [Chunk(values, {**options, "response_compression_algorithm": "gzip"}) for values, options in chunks]
    return await by_http(server, model, name, asking)


async def by_http_aio(server: Live, model: str, name: str, chunks: Sequence[Chunk]) -> list[Answer]:
    import tritonclient.http.aio as triton

    async with triton.InferenceServerClient(server.http) as client:
        return [
            answer_of(await client.infer(model, inputs(triton, name, values), **options)) for values, options in chunks
        ]


async def by_grpc(server: Live, model: str, name: str, chunks: Sequence[Chunk]) -> list[Answer]:
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(server.grpc) as client:
        return [answer_of(client.infer(model, inputs(triton, name, values), **options)) for values, options in chunks]


async def by_grpc_aio(server: Live, model: str, name: str, chunks: Sequence[Chunk]) -> list[Answer]:
    import tritonclient.grpc.aio as triton

    async with triton.InferenceServerClient(server.grpc) as client:
        return [
            answer_of(await client.infer(model, inputs(triton, name, values), **options)) for values, options in chunks
        ]


async def by_grpc_stream(server: Live, model: str, name: str, chunks: Sequence[Chunk]) -> list[Answer]:
    """All chunks are sent before any answer is read."""
    import tritonclient.grpc as triton

    came: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: came.put((result, error)))
        for values, options in chunks:
            client.async_stream_infer(model, inputs(triton, name, values), **options)
        answers = []
        for _ in chunks:
            result, error = came.get(timeout=60)
            if error is not None:
                raise error
            answers.append(answer_of(result))
        client.stop_stream()
    return answers


async def by_grpc_aio_stream(server: Live, model: str, name: str, chunks: Sequence[Chunk]) -> list[Answer]:
    import tritonclient.grpc.aio as triton

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for values, options in chunks:
            yield {"model_name": model, "inputs": inputs(triton, name, values), **options}

    answers = []
    async with triton.InferenceServerClient(server.grpc) as client:
        async for result, error in client.stream_infer(requests()):
            if error is not None:
                raise error
            answers.append(answer_of(result))
    return answers


CLIENTS: dict[str, Send] = {
    "http": by_http,
    "http, JSON": by_http_as_json,
    "http, asks for gzip": by_http_for_gzip,
    "http.aio": by_http_aio,
    "grpc": by_grpc,
    "grpc.aio": by_grpc_aio,
    "grpc, stream": by_grpc_stream,
    "grpc.aio, stream": by_grpc_aio_stream,
}


def infer(server: HasUrl, **body: Any) -> Json:
    """The reply of ``/infer``."""
    response = httpx.post(f"{server.url}/infer", json=body)
    assert response.status_code == 200, response.text
    reply: Json = response.json()
    return reply


def assert_same(answer: Answer, reply: Json) -> None:
    """An answer has the numbers of ``/infer``'s reply, bit for bit."""
    assert answer["total_steps"].tolist() == [reply["total_steps"]]
    if "readout" in reply:
        assert np.array_equal(answer["readout"], np.array(reply["readout"], np.float32))
        return
    assert answer["probabilities"].dtype == np.float32
    assert np.array_equal(answer["probabilities"], np.array(reply["probabilities"], np.float32))
    (label,) = answer["label"].tolist()  # the client leaves the texts of JSON as they are
    assert label in ((reply["label"] or ""), (reply["label"] or "").encode())


def rss_mib() -> float:
    """Memory of this process, with the server that runs in it; 0 where the system does not say."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * 4096 / 2**20 if path.exists() else 0.0
