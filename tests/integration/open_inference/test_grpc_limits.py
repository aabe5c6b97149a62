"""What one client can take of the gRPC port: by messages of many parts, by silent calls, and by bytes of its key."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tools import NO_TRITONCLIENT

pytest.importorskip("tritonclient", reason=NO_TRITONCLIENT)
pytest.importorskip("grpc_health", reason=NO_TRITONCLIENT)

import grpc
from tritonclient.grpc import service_pb2

from service.wire.open_inference import MOST_DIMENSIONS, MOST_TENSORS
from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.clients.open_inference import Chunk, Live, by_grpc_stream, live_server, rss_mib

SERVICE = "/inference.GRPCInferenceService"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # with empty settings
ACKNOWLEDGED = bytes(3) + b"\x04\x01" + bytes(4)  # the server's settings
MANY = 500_000  # empty fields are a message of 1 MB
MOST_MIB = 150  # the library's own copy of such a message has 44


async def refusal(live: Live, content: bytes, way: str) -> str:
    """Why a message is refused."""
    async with grpc.aio.insecure_channel(live.grpc) as channel:
        if way == "call":
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(f"{SERVICE}/ModelInfer")(content)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            return str(caught.value.details())
        stream = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")()
        await stream.write(content)
        answer = service_pb2.ModelStreamInferResponse.FromString(await stream.read())
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        return str(answer.error_message)


@pytest.mark.parametrize("way", ["call", "stream"])
@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        (b"\x2a\x00", f"inputs has {MANY} items: send at most {MOST_TENSORS}"),
        (b"\x32\x00", f"outputs has {MANY} items: send at most {MOST_TENSORS}"),
        (b"\x3a\x00", f"raw_input_contents has {MANY} items: send at most {MOST_TENSORS}"),
    ],
)
async def test_a_message_of_many_parts_is_refused_before_they_are_walked(
    live: Live, way: str, field: bytes, sentence: str
) -> None:
    before_mib, before_s = rss_mib(), time.process_time()
    assert await refusal(live, field * MANY, way) == sentence
    assert rss_mib() - before_mib < MOST_MIB
    assert time.process_time() - before_s < 1  # 2 s when they were walked


@pytest.mark.parametrize("way", ["call", "stream"])
async def test_more_parameters_or_dimensions_than_there_are(live: Live, way: str) -> None:
    message = service_pb2.ModelInferRequest
    value = service_pb2.InferParameter(int64_param=1)
    many = {f"p{index}": value for index in range(50_000)}
    found = await refusal(live, message(model_name="digits", parameters=many).SerializeToString(), way)
    assert found.startswith("parameters has 50000 items: send at most")
    tensor = message.InferInputTensor(name="spikes", datatype="BOOL", shape=[1] * 50_000)
    found = await refusal(live, message(model_name="digits", inputs=[tensor]).SerializeToString(), way)
    assert found == f"inputs[0].shape has 50000 numbers: send one a dimension, {MOST_DIMENSIONS} at most"
    for where in ("inputs", "outputs"):
        kind = message.InferInputTensor if where == "inputs" else message.InferRequestedOutputTensor
        odd = message(model_name="digits", **{where: [kind(name="spikes", parameters=many)]})
        assert f"{where}[0]: parameter 'p" in await refusal(live, odd.SerializeToString(), way)


async def test_a_long_message_of_a_stream_is_not_overtaken(live: Live) -> None:
    long, short = np.zeros((10_000, CHANNELS), np.float32), np.zeros((1, CHANNELS), np.float32)
    name = {"sequence_id": "long-first"}
    for _ in range(5):
        chunks = [Chunk(long, {**name, "sequence_start": True}), Chunk(short, name), Chunk(long, name)]
        chunks.append(Chunk(short, {**name, "sequence_end": True}))
        answers = await by_grpc_stream(live, "spiking", "spikes", chunks)
        assert [int(answer["total_steps"][0]) for answer in answers][:3] == [10_000, 10_001, 20_001]


async def test_silent_calls_of_one_client_leave_room_for_others(tmp_path: Path) -> None:
    live_call = f"{SERVICE}/ServerLive"
    (tmp_path / "models").mkdir()
    with live_server(tmp_path / "models", client_share=0.5, max_body_bytes=2**20, max_held_bytes=8 * 2**20) as live:
        open_calls = live.app.state.server.grpc.open_calls
        async with grpc.aio.insecure_channel(live.grpc) as channel:
            silent = [channel.stream_unary(live_call)() for _ in range(4)]
            while open_calls.total < 4:
                await asyncio.sleep(0.01)
            with pytest.raises(grpc.aio.AioRpcError, match="4 calls and streams of this client are open") as caught:
                await channel.unary_unary(live_call)(b"")
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            stream = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")()
            with pytest.raises(grpc.aio.AioRpcError, match="4 calls and streams of this client are open"):
                await stream.read()
            open_calls.take("another", 3)  # whom they do not hinder
            began_s = time.monotonic()
            for call in silent:
                with pytest.raises(grpc.aio.AioRpcError, match="no message came for 2 s: send it with the call"):
                    await call
            assert time.monotonic() - began_s < 25  # a body may take 30 s
            assert await channel.unary_unary(live_call)(b"")
            assert open_calls.total == 3


async def test_contents_that_would_be_ignored_are_refused(live: Live) -> None:
    kind, given = service_pb2.ModelInferRequest, service_pb2.InferTensorContents
    both = given(bool_contents=[True] * CHANNELS, int_contents=[1])

    def message(contents: Any, **more: Any) -> bytes:
        tensor = kind.InferInputTensor(name="spikes", datatype="BOOL", shape=[1, CHANNELS], contents=contents)
        content: bytes = kind(model_name="spiking", inputs=[tensor], **more).SerializeToString()
        return content

    found = await refusal(live, message(both), "call")
    assert found == (
        "inputs[0].contents.int_contents would be ignored: send the data in bool_contents for datatype 'BOOL' alone"
    )
    one = given(bool_contents=[True] * CHANNELS)
    found = await refusal(live, message(one, raw_input_contents=[bytes(CHANNELS)]), "call")
    assert found == "inputs[0].contents.bool_contents would be ignored: send the data in raw_input_contents alone"
    wanted = kind.InferRequestedOutputTensor(
        name="label", parameters={"binary_data": service_pb2.InferParameter(string_param="yes")}
    )
    found = await refusal(live, message(one, outputs=[wanted]), "call")
    assert found == "outputs[0].parameters.binary_data: send true or false"
    assert "BOOL" in await refusal(live, message(given(int_contents=[1])), "call")


@pytest.mark.parametrize(
    ("sent", "limit"),
    [(b"", "header"), (PREFACE, "header"), (PREFACE + ACKNOWLEDGED, "idle")],
    ids=["silent", "no settings", "no call"],
)
async def test_a_connection_without_a_call_is_closed(tmp_path: Path, sent: bytes, limit: str) -> None:
    (tmp_path / "models").mkdir()
    times: dict[str, Any] = {f"{limit}_timeout_s": 0.3}
    with live_server(tmp_path / "models", **times) as live:
        reader, writer = await asyncio.open_connection(*live.grpc.split(":"))
        writer.write(sent)
        await asyncio.wait_for(reader.read(), 8)  # until its end; the other limit is longer
        writer.close()
