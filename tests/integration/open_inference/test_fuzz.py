"""Requests that were changed at random: never a 500, and no session but their own is touched, and no memory taken.

The long run, of 20,000 requests each way: ``pytest tests/integration/open_inference/test_fuzz.py -m ''``
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.errors import HetsynError
from service.models.catalog import ModelCatalog
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import load_fake
from tests.support.clients.json_input import Json, events
from tests.support.clients.open_inference import infer
from tests.support.hostile.decoders import Decoder
from tests.support.tools import NO_TRITONCLIENT

if TYPE_CHECKING or (find_spec("tritonclient") and find_spec("grpc_health")):
    import grpc
    from tritonclient.grpc import service_pb2

    from tests.support.hostile.mutation import inputs, try_inputs
    from tests.support.hostile.open_inference_inputs import (
        long_bodies,
        long_messages,
        of_session,
        open_inference_decoders,
    )
    from tests.support.servers.fake_server import FakeServer, fake_server
else:
    pytest.skip(NO_TRITONCLIENT, allow_module_level=True)

NAMES = ("Open Inference JSON", "Open Inference tensors", "Open Inference message")
MOST_MIB = 160  # that a server may take at any time beyond what it took before; JSON of 1 MB takes up to 60
AT_A_TIME = 32
EXPECTED = (
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)  # fmt: skip
lengths = pytest.mark.parametrize("count", [200, pytest.param(20_000, marks=pytest.mark.long)])


def batched(contents: Iterator[bytes]) -> Iterator[list[bytes]]:
    """So many as are sent at a time."""
    while some := list(islice(contents, AT_A_TIME)):
        yield some


def all_decoders(folder: Path) -> Any:
    write_artifact(folder)
    return open_inference_decoders(ModelCatalog(with_default(folder, "digits"), load=load_fake))


@pytest.mark.parametrize("name", NAMES)
def test_any_input_is_decoded_or_refused(tmp_path: Path, name: str, pytestconfig: pytest.Config) -> None:
    decoder = all_decoders(tmp_path)[name]
    for seed in decoder.seeds[:4]:
        decoder.check(decoder.decode(seed))
    try_inputs(decoder, name, pytestconfig.getoption("--fuzz-inputs"))


WITNESS, CHUNKS = "witness-of-the-run", 8
NOT_NEXT = 2**40  # the number of no chunk of the witness


class Witness:
    """Two sessions with the same input. One lives through what a test does, the other one is begun afterwards."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._replies: list[Json] = []
        self.go_on()
        server.reset_peak()
        self._base_mib = server.peak_mib()

    def go_on(self) -> None:
        """Send the next chunk, unless it is the last."""
        if len(self._replies) < CHUNKS - 1:
            self._replies.append(self._send(WITNESS, len(self._replies)))

    def check(self) -> None:
        while len(self._replies) < CHUNKS:
            self._replies.append(self._send(WITNESS, len(self._replies)))
        again = [self._send("witness-again", seq) for seq in range(CHUNKS)]
        assert [{**one, "session": ""} for one in self._replies] == [{**one, "session": ""} for one in again]
        assert self._server.in_use() == 0
        assert self._server.peak_mib() - self._base_mib < MOST_MIB

    def _send(self, session: str, seq: int) -> Json:
        body = {"session": session, "seq": seq, "end": seq == CHUNKS - 1, "input": events(20, seq)}
        return infer(self._server, **body)


def made(decoder: Decoder, name: str, count: int, to_witness: list[bytes]) -> Iterator[bytes]:
    """Changed inputs, every third one of which went to the witness before it was changed.

    One that the changes made a valid next chunk of the witness is left out: it would rightly be applied.
    """
    aimed = replace(decoder, seeds=to_witness)
    for index, both in enumerate(zip(inputs(decoder, name, count), inputs(aimed, name, count), strict=True)):
        content = both[index % 3 == 0]
        try:
            request = decoder.decode(content)
        except HetsynError:
            pass
        else:
            if request.envelope.session == WITNESS and request.envelope.seq != NOT_NEXT:
                continue
        yield content


@lengths
def test_http(tmp_path: Path, count: int) -> None:
    asyncio.run(fuzz_http(tmp_path, count))  # a longer run than an async test may be


async def fuzz_http(tmp_path: Path, count: int) -> None:
    decoders = all_decoders(tmp_path / "decoders")
    statuses: set[int] = set()
    with fake_server(tmp_path / "models", max_sessions=1_000) as live:
        witness = Witness(live)
        async with httpx.AsyncClient(base_url=live.url, timeout=60) as client:

            async def send(content: bytes) -> None:
                body, headers = content, {}
                if b"\n" in content and content.partition(b"\n")[0].isdigit():
                    length, _, body = content.partition(b"\n")
                    headers = {"Inference-Header-Content-Length": length.decode()}
                response = await client.post("/v2/models/digits/infer", content=body, headers=headers)
                statuses.add(response.status_code)
                expected = response.status_code in (200, 404, 409, 410, 413, 415, 422)
                assert expected or "waited too long" in response.text, (content, response.text)  # its own timeout
                assert response.status_code == 200 or response.json()["error"]

            bodies, _ = of_session(WITNESS, NOT_NEXT)
            for name, aimed in zip(NAMES[:2], (bodies, [b"%d\n" % len(body) + body for body in bodies]), strict=True):
                for some in batched(made(decoders[name], name, count // 2, aimed)):
                    await asyncio.gather(*map(send, some))
                    witness.go_on()
            for body in long_bodies():
                await send(body)
        assert {200, 422} <= statuses
        witness.check()


@lengths
def test_grpc(tmp_path: Path, count: int) -> None:
    asyncio.run(fuzz_grpc(tmp_path, count))


async def fuzz_grpc(tmp_path: Path, count: int) -> None:
    decoder = all_decoders(tmp_path / "decoders")[NAMES[2]]
    codes: set[grpc.StatusCode] = set()
    with fake_server(tmp_path / "models", max_sessions=1_000) as live:
        witness = Witness(live)
        async with grpc.aio.insecure_channel(live.grpc) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

            async def send(content: bytes) -> None:
                code = grpc.StatusCode.OK
                try:
                    await call(content, timeout=60)
                except grpc.aio.AioRpcError as error:
                    code = error.code()
                codes.add(code)
                assert code in EXPECTED, content

            for some in batched(made(decoder, "grpc", count, of_session(WITNESS, NOT_NEXT)[1])):
                await asyncio.gather(*map(send, some))
                witness.go_on()
            for message in long_messages():
                await send(message)
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
    with fake_server(tmp_path / "models", max_sessions=1_000) as live:
        witness = Witness(live)
        async with grpc.aio.insecure_channel(live.grpc) as channel:
            method = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            call = method()
            aimed = made(decoder, "grpc", count, of_session(WITNESS, NOT_NEXT)[1])
            for index, content in enumerate(chain(aimed, long_messages())):
                if not index % AT_A_TIME:
                    witness.go_on()
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
