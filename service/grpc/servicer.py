"""The calls of the Open Inference Protocol over gRPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from inspect import isawaitable
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from service.admission import budget
from service.admission.uploads import FREE_BYTES
from service.errors import (
    HetsynError,
    InputError,
    KeyRefused,
    NotFound,
    TooSlow,
)
from service.grpc.gathering import Gathering
from service.grpc.guard import CALLER
from service.grpc.messages import check_counts, message_of, refusal, refused_message, request_of
from service.ingress import Encoded, Ingress, Source
from service.keys.keys import Keys, StreamKey
from service.observe.context import CURRENT, RequestContext
from service.open_inference.service import ModelCall, OpenInference
from service.problem import Problem
from service.wire.schema import InferRequest
from service.wire.sound import SoundLimit

REQUEST, STREAM = "ModelInfer", "ModelStreamInfer"
SERVICES = ("", "inference.GRPCInferenceService")  # names that clients ask the health of
FINAL = "triton_enable_empty_final_response"
CHECK_S = 10.0  # between looks at the key of a stream
IN_FLIGHT = 64  # limit of concurrent requests of one stream
LONGEST = 1_000  # limit of an id's characters

log = logging.getLogger("hetsyn.grpc")


def client_of(context: Any) -> str:
    """Name a call's client for the limits: its key, or its address (``budget.client_of``)."""
    if key := CALLER.get().key:
        return key
    kind, _, address = context.peer().partition(":")
    host, _, port = unquote(address).rpartition(":")
    return budget.client_of((host.strip("[]"), port)) if kind != "unix" else ""


async def next_message(context: Any) -> Any:
    """Read the next message of a call, or ``grpc.aio.EOF``.

    Raises:
        InputError: the bytes are no such message.
    """
    try:
        return await context.read()
    except DecodeError:
        raise InputError("the bytes are no message of this call: send one") from None


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The methods of ``GRPCInferenceService``.

    Args:
        idle_timeout_s: limit for a stream without a message, and for an answer that its client does not read.
        keys: None lets everybody in.
    """

    def __init__(
        self,
        service: OpenInference,
        ingress: Ingress,
        idle_timeout_s: float,
        keys: Keys | None = None,
    ) -> None:
        self._keys = keys
        self._service = service
        self._ingress = ingress
        self._idle_timeout_s = idle_timeout_s
        self._gathering = Gathering()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        CURRENT.set(RequestContext(context.invocation_metadata() or ()))
        message = [request]
        del request  # the library keeps this frame for a while if the call fails
        reply = await self._infer(message.pop(), client_of(context))
        return await context.abort(*refusal(reply)) if isinstance(reply, Problem) else reply.infer_response

    async def ModelStreamInfer(self, requests: Any, context: Any) -> None:  # noqa: ARG002
        CURRENT.set(RequestContext(context.invocation_metadata() or ()))
        await self._stream(context, client_of(context), StreamKey(self._keys, CALLER.get()))

    async def _stream(self, context: Any, client: str, key: StreamKey) -> None:
        free, writing = asyncio.Semaphore(IN_FLIGHT), asyncio.Lock()
        decoding: set[asyncio.Task[None]] = set()
        refusals: list[HetsynError] = []
        unread = False

        async def answer(message: list[Any]) -> None:
            nonlocal unread
            id_ = message[0].id[:LONGEST]
            response = await self._infer(message.pop(), client, decoding)
            if isinstance(response, Problem):  # the stream goes on
                response = refused_message(response, id_)
            async with writing:
                if unread:  # the library still has the last answer, and takes no other
                    return
                try:
                    async with asyncio.timeout(self._idle_timeout_s):
                        with suppress(grpc.aio.InternalError):  # the client has gone: the library cancels this stream
                            await context.write(response)
                except TimeoutError:
                    unread = True
                    late = TooSlow(f"no answer was read for {self._idle_timeout_s:g} s: begin another stream")
                    refusals.append(late)
                    raise late from None
            free.release()  # only now: a client that reads no answers is not read either

        async def watch() -> None:
            while True:
                await asyncio.sleep(CHECK_S)
                try:
                    key.check()
                except KeyRefused as error:
                    refusals.append(error)
                    raise

        # sent with the first answer, it would block a refusal for as long as the client does not read
        await context.send_initial_metadata(())
        try:
            async with asyncio.TaskGroup() as tasks, _cancelled(tasks.create_task(watch())):
                while True:
                    await free.acquire()
                    while (wait_s := key.wait_s()) > 0:
                        await asyncio.sleep(wait_s)
                    try:
                        async with asyncio.timeout(self._idle_timeout_s):
                            message = [await next_message(context)]
                        if message[0] is grpc.aio.EOF:
                            return
                        key.check()
                        key.took(1)
                    except TimeoutError:
                        late = TooSlow(f"nothing came for {self._idle_timeout_s:g} s: begin another stream")
                        refusals.append(late)
                        break
                    except (InputError, KeyRefused) as error:
                        refusals.append(error)
                        break
                    tasks.create_task(answer(message))  # they begin in this order, so a sequence keeps its own
        except* (TooSlow, KeyRefused):
            log.info("a stream ends: %s", refusals[0])
        # The library ends a stream when its client has read everything or leaves. Until then this waits, and the stream
        # counts against the client's limit. Its chunks and other answers are freed already.
        with suppress(grpc.aio.InternalError):  # the client has gone
            await context.abort(*refusal(self._ingress.refused(refusals[0], STREAM)))

    async def _infer(self, message: Any, client: str, decoding: set[asyncio.Task[None]] | None = None) -> Any:
        """Answer a ``ModelInferRequest`` with a ``ModelStreamInferResponse``, or a ``Problem`` if it is refused."""
        call = ModelCall(self._service, message.model_name, message.model_version)
        try:
            check_counts(message)
            with self._ingress.arriving(client) as upload, self._gathering.call() as gathered:
                size = message.ByteSize()
                if size > FREE_BYTES:
                    upload.take(size)
                await gathered.others()  # one decoding after the other takes a third of the time
                encoded = Encoded(size, partial(_decode, call, message), upload)
                del message  # ``encoded`` frees it when the chunk is decoded
                source = Source(REQUEST, "grpc", client, CALLER.get(), decoding=decoding)
                (outcome,) = await self._ingress.apply([(source, encoded)])
            if not isinstance(outcome, Problem):
                return message_of(call.reply(outcome), call.request.parameters.get(FINAL) is True)
        except Exception as error:
            outcome = self._ingress.refused(error, REQUEST)
        call.failed()
        return outcome

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        return pb.ServerReadyResponse(ready=self._ingress.unready is None)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        def is_offered() -> bool:
            with suppress(NotFound):
                self._service.check_model(request.name, request.version)
                return True
            return False

        return pb.ModelReadyResponse(ready=await self._answered(context, is_offered))

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        return ParseDict(self._service.server(), pb.ServerMetadataResponse())

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        model = await self._answered(context, lambda: self._service.model(request.name, request.version))
        return ParseDict(model, pb.ModelMetadataResponse())

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        config = await self._answered(context, lambda: self._service.config(request.name, request.version))
        return ParseDict({"config": config}, pb.ModelConfigResponse())

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        statistics = lambda: self._service.statistics(request.name or None, request.version)  # noqa: E731
        return ParseDict(await self._answered(context, statistics), pb.ModelStatisticsResponse())

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        return ParseDict({"models": self._service.index(request.ready)}, pb.RepositoryIndexResponse())

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        await self._answered(context, self._service.change_models)

    RepositoryModelUnload = RepositoryModelLoad

    async def _answered(self, context: Any, answer: Callable[[], Any]) -> Any:
        """Return a call's answer, or end the call with its error's code."""
        try:
            value = answer()
            return await value if isawaitable(value) else value
        except Exception as error:
            refused = refusal(self._ingress.refused(error, "a call"))
        # outside ``except``: the library keeps what ``abort`` raises for a while, and would keep the error's frames
        return await context.abort(*refused)


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """The health service, without ``Watch``: each watch would hold a call open. Clients poll instead."""

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress

    async def Check(self, request: Any, context: Any) -> Any:
        if request.service not in SERVICES:
            error = NotFound(f"no such service: ask for {SERVICES[1]}, or for none")
            await context.abort(*refusal(self._ingress.refused(error, "Check")))
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if self._ingress.unready is None else status.NOT_SERVING)


@asynccontextmanager
async def _cancelled(task: asyncio.Task[None]) -> AsyncIterator[None]:
    """Cancel a task at the end of the context."""
    try:
        yield
    finally:
        task.cancel()


def _decode(call: ModelCall, message: Any, _: SoundLimit) -> InferRequest:
    return call.decoded(request_of(message))
