"""Requests that were changed at random: never a 500, and no session but their own is touched.

The long run, of 20,000 requests each way: ``pytest tests/integration/open_inference/test_fuzz.py -m fuzz``
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.models.catalog import ModelCatalog
from tests.support.artifact import write_artifact
from tests.support.fake_graph import load_fake
from tests.support.json_input import events
from tests.support.open_inference import Live, infer, live_server, rss_mib
from tests.support.tools import NO_TRITONCLIENT

if TYPE_CHECKING or (find_spec("tritonclient") and find_spec("grpc_health")):
    import grpc
    from tritonclient.grpc import service_pb2

    from tests.support.mutation import inputs, try_inputs
    from tests.support.open_inference_inputs import open_inference_decoders
else:
    pytest.skip(NO_TRITONCLIENT, allow_module_level=True)

NAMES = ("Open Inference JSON", "Open Inference tensors", "Open Inference message")
MOST_MIB = 64  # that a server may take beyond what it took
AT_A_TIME = 32
EXPECTED = (
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)  # fmt: skip
lengths = pytest.mark.parametrize("count", [1_000, pytest.param(20_000, marks=pytest.mark.fuzz)])


def all_decoders(folder: Path) -> Any:
    write_artifact(folder)
    return open_inference_decoders(ModelCatalog(folder, "digits", load=load_fake))


@pytest.mark.parametrize("name", NAMES)
def test_any_input_is_decoded_or_refused(tmp_path: Path, name: str, pytestconfig: pytest.Config) -> None:
    decoder = all_decoders(tmp_path)[name]
    for seed in decoder.seeds[:4]:
        decoder.check(decoder.decode(seed))
    try_inputs(decoder, name, pytestconfig.getoption("--fuzz-inputs"))


class Witness:
    """Two sessions with the same input. One lives through what a test does, the other one is begun afterwards."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._replies = [infer(live, session="witness-of-the-run", seq=seq, input=events(20, seq)) for seq in range(3)]
        self._rss_mib = rss_mib()

    def check(self) -> None:
        live, server = self._live, self._live.app.state.server
        last = infer(live, session="witness-of-the-run", seq=3, end=True, input=events(20, 3))
        again = [infer(live, session="witness-again", seq=seq, end=seq == 3, input=events(20, seq)) for seq in range(4)]
        assert [{**one, "session": ""} for one in (*self._replies, last)] == [{**one, "session": ""} for one in again]
        assert server.uploads.bytes == server.uploads.under_way == server.admission.in_flight == 0
        assert rss_mib() - self._rss_mib < MOST_MIB


@lengths
def test_http(tmp_path: Path, count: int) -> None:
    asyncio.run(fuzz_http(tmp_path, count))  # a longer run than an async test may be


async def fuzz_http(tmp_path: Path, count: int) -> None:
    decoders = all_decoders(tmp_path / "decoders")
    statuses: set[int] = set()
    with live_server(tmp_path / "models", max_sessions=1_000) as live:
        witness = Witness(live)
        async with httpx.AsyncClient(base_url=live.url, timeout=20) as client:

            async def send(content: bytes) -> None:
                body, headers = content, {}
                if b"\n" in content and content.partition(b"\n")[0].isdigit():
                    length, _, body = content.partition(b"\n")
                    headers = {"Inference-Header-Content-Length": length.decode()}
                response = await client.post("/v2/models/digits/infer", content=body, headers=headers)
                statuses.add(response.status_code)
                expected = response.status_code in (200, 409, 410, 413, 415, 422)
                assert expected or "waited too long" in response.text, (content, response.text)  # its own timeout
                assert response.status_code == 200 or response.json()["error"]

            for name in NAMES[:2]:
                made = list(inputs(decoders[name], name, count // 2))
                for first in range(0, len(made), AT_A_TIME):
                    await asyncio.gather(*map(send, made[first : first + AT_A_TIME]))
        assert {200, 422} <= statuses
        witness.check()


@lengths
def test_grpc(tmp_path: Path, count: int) -> None:
    asyncio.run(fuzz_grpc(tmp_path, count))


async def fuzz_grpc(tmp_path: Path, count: int) -> None:
    decoder = all_decoders(tmp_path / "decoders")[NAMES[2]]
    codes: set[grpc.StatusCode] = set()
    with live_server(tmp_path / "models", max_sessions=1_000) as live:
        witness = Witness(live)
        async with grpc.aio.insecure_channel(live.grpc) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

            async def send(content: bytes) -> None:
                code = grpc.StatusCode.OK
                try:
                    await call(content, timeout=20)
                except grpc.aio.AioRpcError as error:
                    code = error.code()
                codes.add(code)
                assert code in EXPECTED, content

            made = list(inputs(decoder, "grpc", count))
            for first in range(0, len(made), AT_A_TIME):
                await asyncio.gather(*map(send, made[first : first + AT_A_TIME]))
        assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT} <= codes
        witness.check()


@lengths
def test_grpc_streams(tmp_path: Path, count: int) -> None:
    asyncio.run(fuzz_streams(tmp_path, count))


async def fuzz_streams(tmp_path: Path, count: int) -> None:
    """A stream goes on after a request that is refused, and ends at bytes that are no message."""
    decoder = all_decoders(tmp_path / "decoders")[NAMES[2]]
    ends: set[grpc.StatusCode] = set()
    answered = refused = 0
    with live_server(tmp_path / "models", max_sessions=1_000) as live:
        witness = Witness(live)
        async with grpc.aio.insecure_channel(live.grpc) as channel:
            method = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            call = method()
            for content in inputs(decoder, "grpc", count):
                await call.write(content)
                try:
                    answer = service_pb2.ModelStreamInferResponse.FromString(await call.read())
                except grpc.aio.AioRpcError as error:
                    ends.add(error.code())
                    call = method()
                else:
                    answered += 1
                    refused += bool(answer.error_message)
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() == grpc.StatusCode.OK
        assert ends == {grpc.StatusCode.INVALID_ARGUMENT}
        assert 0 < refused < answered
        witness.check()
