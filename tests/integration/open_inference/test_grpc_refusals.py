"""A refusal over gRPC: its code, the numbers in its trailing metadata, and that it counts as over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.tools import NO_TRITONCLIENT

pytest.importorskip("tritonclient", reason=NO_TRITONCLIENT)
pytest.importorskip("grpc_health", reason=NO_TRITONCLIENT)

import grpc
from tritonclient.grpc import service_pb2 as pb

from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.clients.http_calls import metric
from tests.support.clients.open_inference import Live, live_server
from tests.support.stores.failing_store import FailingStore

SERVICE = "/inference.GRPCInferenceService"


def chunk(name: str, seq: int) -> bytes:
    contents = pb.InferTensorContents(bool_contents=[True] * CHANNELS)
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="spikes", datatype="BOOL", shape=[1, CHANNELS], contents=contents
    )
    numbers = {"sequence_id": pb.InferParameter(string_param=name), "seq": pb.InferParameter(int64_param=seq)}
    content: bytes = pb.ModelInferRequest(model_name="spiking", inputs=[tensor], parameters=numbers).SerializeToString()
    return content


async def refusal(live: Live, method: str, *messages: bytes) -> tuple[str, str, dict[str, str]]:
    """Code, sentence and trailing metadata of a call that is refused."""
    own = [("grpc.use_local_subchannel_pool", 1)]  # a connection takes no more calls than the server
    async with grpc.aio.insecure_channel(live.grpc, options=own) as channel:

        async def requests() -> AsyncIterator[bytes]:
            for message in messages:
                yield message

        call = channel.stream_stream(method)(requests())
        with pytest.raises(grpc.aio.AioRpcError) as caught:  # noqa: PT012
            while await call.read() is not grpc.aio.EOF:
                pass
    error = caught.value
    return error.code().name, error.details() or "", {name: str(value) for name, value in error.trailing_metadata()}


def counted(live: Live, error: str) -> float:
    return metric(httpx.get(f"{live.url}/metrics").text, f'hetsyn_chunks_refused_total{{error="{error}"}}')


@pytest.mark.parametrize(
    ("method", "messages", "code", "error"),
    [
        ("/grpc.health.v1.Health/Check", [b"\x0a\x01x"], "NOT_FOUND", "not-found"),
        (f"{SERVICE}/ModelMetadata", [b"\x0a\x01x"], "NOT_FOUND", "not-found"),
        (f"{SERVICE}/ModelMetadata", [b"\xff"], "INVALID_ARGUMENT", "bad-input"),
        (f"{SERVICE}/ServerLive", [], "INVALID_ARGUMENT", "bad-input"),
        (f"{SERVICE}/RepositoryModelLoad", [b""], "PERMISSION_DENIED", "model-control-off"),
        (f"{SERVICE}/TraceSetting", [b""], "UNIMPLEMENTED", "not-found"),
        ("/no.such/Method", [], "UNIMPLEMENTED", "not-found"),
        (f"{SERVICE}/ModelStreamInfer", [b"\xff"], "INVALID_ARGUMENT", "bad-input"),
        (f"{SERVICE}/ModelInfer", [chunk("none", 3)], "NOT_FOUND", "not-found"),
    ],
)
async def test_a_refusal_counts(live: Live, method: str, messages: list[bytes], code: str, error: str) -> None:
    before = counted(live, error)
    assert (await refusal(live, method, *messages))[0] == code
    assert counted(live, error) == before + 1


async def test_a_client_finds_the_next_number_in_the_trailing_metadata(live: Live) -> None:
    async with grpc.aio.insecure_channel(live.grpc) as channel:
        for seq in range(2):
            await channel.unary_unary(f"{SERVICE}/ModelInfer")(chunk("numbers", seq))
    code, sentence, metadata = await refusal(live, f"{SERVICE}/ModelInfer", chunk("numbers", 5))
    assert (code, metadata["expected_seq"]) == ("FAILED_PRECONDITION", "2"), sentence
    assert "retry_after_s" not in metadata
    async with grpc.aio.insecure_channel(live.grpc) as channel:  # a message of a stream has none of its own
        stream = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")()
        await stream.write(chunk("numbers", 5))
        answer = pb.ModelStreamInferResponse.FromString(await stream.read())
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
    assert answer.error_message == sentence
    assert answer.infer_response.parameters["expected_seq"].int64_param == 2


async def test_a_store_that_fails_is_unavailable(tmp_path: Path) -> None:
    store = FailingStore()
    with live_server(tmp_path / "models", store) as live:
        store.down = True
        code, _, metadata = await refusal(live, f"{SERVICE}/ModelInfer", chunk("kept", 0))
        assert (code, metadata["retry_after_s"]) == ("UNAVAILABLE", "1.0")
        assert counted(live, "store-unavailable") == 1


@pytest.mark.parametrize("share", [1.0, 0.5])
async def test_a_full_port_says_unavailable_as_every_full_server(tmp_path: Path, share: float) -> None:
    held: dict[str, Any] = {"max_body_bytes": 2**20, "max_held_bytes": 4 * 2**20, "client_share": share}
    with live_server(tmp_path / "models", **held) as live:
        most = int(4 * share)
        async with grpc.aio.insecure_channel(live.grpc) as channel:
            streams = [channel.stream_stream(f"{SERVICE}/ModelStreamInfer")() for _ in range(most)]
            await asyncio.gather(*(stream.initial_metadata() for stream in streams))
            code, sentence, metadata = await refusal(live, f"{SERVICE}/ServerLive")
            assert (code, metadata.get("retry_after_s")) == ("UNAVAILABLE", "1.0")
            assert sentence.startswith(f"{most} calls and streams {'of this client ' if share < 1 else ''}are open")
            assert counted(live, "overloaded") == 1
            for stream in streams:
                stream.cancel()
