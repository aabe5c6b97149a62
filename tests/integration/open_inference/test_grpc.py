"""The gRPC port: TLS, health, limits, and clients that come too slowly or leave."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tools import NO_TRITONCLIENT

pytest.importorskip("tritonclient", reason=NO_TRITONCLIENT)
pytest.importorskip("grpc_health", reason=NO_TRITONCLIENT)

import grpc
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from service.errors import HetsynError
from service.grpc.servicer import IN_FLIGHT
from service.models.catalog import ModelCatalog
from service.settings import AccessSettings
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.artifacts.gate import Gate
from tests.support.clients.open_inference import Chunk, Live, assert_same, by_grpc, infer, inputs, live_server, rss_mib
from tests.support.product import make_server
from tests.support.servers.certificate import write_certificate

ROWS = np.eye(4, CHANNELS, dtype=bool)


async def test_health(live: Live) -> None:
    async with grpc.aio.insecure_channel(live.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "inference.GRPCInferenceService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        for call, code in (
            (health.Check(health_pb2.HealthCheckRequest(service="x")), grpc.StatusCode.NOT_FOUND),
            (health.Watch(health_pb2.HealthCheckRequest()).read(), grpc.StatusCode.UNIMPLEMENTED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() == code


async def test_what_is_not_built_is_said(live: Live) -> None:
    async with triton_aio.InferenceServerClient(live.grpc) as client:
        for call in (client.get_trace_settings(), client.get_system_shared_memory_status()):
            with pytest.raises(triton_aio.InferenceServerException) as caught:
                await call
            assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


async def test_parameters_of_tensors_that_would_be_ignored_are_refused(live: Live) -> None:
    async with triton_aio.InferenceServerClient(live.grpc) as client:
        given = triton_aio.InferInput("spikes", list(ROWS.shape), "BOOL")
        given.set_data_from_numpy(ROWS)
        top = [triton_aio.InferRequestedOutput("probabilities", class_count=2)]
        with pytest.raises(triton_aio.InferenceServerException, match=r"outputs\[0\]: parameter 'classification'"):
            await client.infer("digits", [given], outputs=top)


async def test_tls(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    with live_server(tmp_path / "models", access=AccessSettings(tls_cert=cert, tls_key=key)) as live:
        with triton.InferenceServerClient(live.grpc, ssl=True, root_certificates=str(cert)) as client:
            found = client.infer("spiking", inputs(triton, "spikes", ROWS))
        body = {"kind": "dense", "spikes": ROWS.astype(int).tolist()}
        answer = {name: found.as_numpy(name) for name in ("probabilities", "label", "total_steps")}
        assert_same(answer, infer(live, model="spiking", end=True, input=body))
        with triton.InferenceServerClient(live.grpc) as plain, pytest.raises(triton.InferenceServerException):
            plain.get_server_metadata(client_timeout=2)


def test_a_certificate_is_read_again_when_its_files_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cert, key = write_certificate(tmp_path)
    (tmp_path / "new").mkdir()
    with live_server(tmp_path / "models", access=AccessSettings(tls_cert=cert, tls_key=key)) as live:
        port = int(live.grpc.rpartition(":")[2])

        def presented() -> str:
            return ssl.get_server_certificate(("127.0.0.1", port)).strip()

        with triton.InferenceServerClient(live.grpc, ssl=True, root_certificates=str(cert)) as client:
            assert client.is_server_live()
            assert presented() == (first := cert.read_text().strip())
            new_cert, new_key = write_certificate(tmp_path / "new")
            new_cert.replace(cert)
            assert presented() == first  # the key is still the old one's
            assert "the certificate of --tls-cert and --tls-key cannot be read again" in caplog.text
            new_key.replace(key)
            assert presented() == cert.read_text().strip() != first
            assert client.is_server_live()  # the open connection goes on
        with triton.InferenceServerClient(live.grpc, ssl=True, root_certificates=str(cert)) as client:
            assert client.is_server_live()
        for damage in (lambda: cert.write_text("damaged"), cert.unlink):
            second = presented()
            damage()
            assert presented() == second


@pytest.mark.parametrize("wrong", ["port", "missing", "damaged"])
def test_a_server_that_cannot_listen_says_so(tmp_path: Path, wrong: str) -> None:
    cert, key = write_certificate(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port, access = taken.getsockname()[1], AccessSettings()
        sentence = "choose another port with --grpc-port"
        if wrong == "missing":
            port, access = 0, AccessSettings(tls_cert=tmp_path / "none.pem", tls_key=key)
        if wrong == "damaged":
            key.write_text("no key")
            port, access = 0, AccessSettings(tls_cert=cert, tls_key=key)
        if wrong != "port":
            sentence = "name PEM files that belong together with --tls-cert and --tls-key"
        server = make_grpc_server(tmp_path, grpc_port=port, access=access)
        with pytest.raises(HetsynError, match=sentence):
            asyncio.run(server.start())


def make_grpc_server(folder: Path, **settings: Any) -> Any:
    write_artifact(folder / "models")
    return make_server(ModelCatalog(folder / "models", load=Gate().load), models=folder / "models", **settings)


async def test_messages_too_long_or_too_slow(tmp_path: Path) -> None:
    with live_server(tmp_path, body_timeout_s=1.0, idle_timeout_s=1.0, max_chunk_steps=500_000) as live:
        with pytest.raises(Exception, match="larger than max") as caught:
            await by_grpc(live, "spiking", "spikes", [Chunk(np.zeros((200_000, CHANNELS), bool))])
        assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"  # type: ignore[attr-defined]
        async with grpc.aio.insecure_channel(live.grpc) as channel:
            name = "/inference.GRPCInferenceService/ModelInfer"
            unary = channel.stream_unary(name)()  # it never sends its message
            with pytest.raises(grpc.aio.AioRpcError, match="was not complete after") as late:
                await unary
            assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            stream = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
            with pytest.raises(grpc.aio.AioRpcError, match="nothing came for"):
                await stream.read()
        assert live.app.state.server.uploads.under_way == 0


async def test_calls_and_streams_are_bounded(tmp_path: Path) -> None:
    with live_server(tmp_path, max_body_bytes=2**20, max_held_bytes=3 * 2**20) as live:
        assert live.app.state.server.grpc._calls == 3
        async with grpc.aio.insecure_channel(live.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            streams = [stub.ModelStreamInfer() for _ in range(3)]
            request = service_pb2.ModelInferRequest(model_name="none")
            for stream in streams:
                await stream.write(request)
                assert "no model 'none'" in (await stream.read()).error_message
            async with grpc.aio.insecure_channel(live.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as other:
                live_call = service_pb2_grpc.GRPCInferenceServiceStub(other).ServerLive(service_pb2.ServerLiveRequest())
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await live_call
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            for stream in streams:
                await stream.done_writing()
                assert await stream.read() is grpc.aio.EOF
            answer = await stub.ServerLive(service_pb2.ServerLiveRequest())
            assert answer.live


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it reads /proc: run it on Linux")
async def test_refused_chunks_leave_nothing_in_memory(tmp_path: Path) -> None:
    """A chunk has 16 times the bytes of its message; the library keeps the frames of failed calls for a while."""
    rows = np.ones((170_000, CHANNELS), bool)
    with live_server(tmp_path) as live:
        before_mib = rss_mib()
        for _ in range(60):
            with pytest.raises(Exception, match="steps"):
                await by_grpc(live, "spiking", "spikes", [Chunk(rows)])
        assert rss_mib() - before_mib < 300
        assert live.app.state.server.uploads.bytes == 0


class Unread:
    """The server's end of a stream whose client sends 500 requests, and reads nothing before ``reads`` is set."""

    def __init__(self) -> None:
        self.request = service_pb2.ModelInferRequest(model_name="none", id="x" * 5000)
        self.reads = asyncio.Event()
        self.sent = 0
        self.answers: list[Any] = []

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    async def read(self) -> Any:
        await asyncio.sleep(0)
        self.sent += 1
        return self.request if self.sent <= 500 else grpc.aio.EOF

    async def write(self, answer: Any) -> None:
        await self.reads.wait()
        self.answers.append(answer)

    async def send_initial_metadata(self, metadata: tuple[()]) -> None:
        pass

    async def abort(self, code: Any, text: str, metadata: Any) -> None:  # noqa: ARG002
        self.ended = code.name, text


class Garbled(Unread):
    """One whose sixth message is garbage, and who reads from then on."""

    async def read(self) -> Any:
        message = await super().read()
        if self.sent <= 5:
            return message
        self.reads.set()
        raise DecodeError


async def test_what_came_before_garbage_is_answered(live: Live) -> None:
    context = Garbled()
    await live.app.state.server.grpc._servicer.ModelStreamInfer(None, context)
    assert context.ended == ("INVALID_ARGUMENT", "the bytes are no message of this call: send one")
    assert len(context.answers) == 5


async def test_a_client_that_reads_no_answers_is_not_read_either(live: Live) -> None:
    """Else the server would keep an answer, and once its request too, for each message of such a client."""
    context = Unread()
    stream = asyncio.ensure_future(live.app.state.server.grpc._servicer.ModelStreamInfer(None, context))
    for _ in range(5000):
        await asyncio.sleep(0)
    assert context.sent == IN_FLIGHT
    context.reads.set()
    await stream
    assert len(context.answers) == 500
    assert {len(answer.infer_response.id) for answer in context.answers} == {1000}


async def test_a_call_that_is_cancelled_is_not_applied(tmp_path: Path) -> None:
    gate = Gate()
    with live_server(tmp_path, load=gate.load, inline_s=0.0) as live:
        await by_grpc(live, "spiking", "spikes", [Chunk(ROWS, {"sequence_id": "c", "sequence_start": True})])
        gate.opened.clear()
        while gate.entered.acquire(blocking=False):
            pass
        async with triton_aio.InferenceServerClient(live.grpc) as client:
            call = asyncio.ensure_future(client.infer("spiking", inputs(triton, "spikes", ROWS), sequence_id="c"))
            await gate.computes()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            admission = live.app.state.server.admission
            while admission.in_flight:
                await asyncio.sleep(0.01)
        gate.opened.set()
        (answer,) = await by_grpc(live, "spiking", "spikes", [Chunk(ROWS, {"sequence_id": "c"})])
        assert answer["total_steps"].tolist() == [8]


async def test_a_client_that_leaves_its_stream_is_nothing_to_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:

    with live_server(tmp_path) as live:
        async with grpc.aio.insecure_channel(live.grpc) as channel:
            for _ in range(10):
                stream = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
                for _ in range(IN_FLIGHT):
                    await stream.write(service_pb2.ModelInferRequest(model_name="none"))
                await stream.read()
                stream.cancel()  # the other answers are under way
            while live.app.state.server.grpc.open_calls.total:
                await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize("then", ["reads", "leaves"])
async def test_a_client_that_reads_no_answers_for_long_is_sent_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, then: str
) -> None:

    request = service_pb2.ModelInferRequest(model_name="none", id="x" * 1000)
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 0)]  # it takes no more than it reads
    with live_server(tmp_path, idle_timeout_s=0.5) as live:
        open_calls = live.app.state.server.grpc.open_calls
        caplog.set_level("INFO")
        async with grpc.aio.insecure_channel(live.grpc, options=options) as channel:
            stream = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()

            # twice what the client's window takes of answers, and all of it read: a request that is being sent
            # when the stream ends would make the client's library tell of itself, and not of the server
            for _ in range(120):
                await stream.write(request)
            while "a stream ends: no answer was read" not in caplog.text:
                await asyncio.sleep(0.01)
            assert open_calls.total == 1  # the library has it until the client reads, or leaves
            if then == "leaves":
                stream.cancel()
            else:
                with pytest.raises(grpc.aio.AioRpcError, match=r"no answer was read for 0\.5 s: begin") as caught:  # noqa: PT012
                    while await stream.read() is not grpc.aio.EOF:
                        pass
                assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            while open_calls.total:
                await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_nothing_is_kept_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    with live_server(tmp_path, idle_timeout_s=0.05) as live:
        context, before = Unread(), len(asyncio.all_tasks())
        await live.app.state.server.grpc._servicer.ModelStreamInfer(None, context)
        assert context.ended == ("DEADLINE_EXCEEDED", "no answer was read for 0.05 s: begin another stream")
        assert not context.answers
        assert len(asyncio.all_tasks()) == before
