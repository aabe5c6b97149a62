"""The Open Inference Protocol under load, over gRPC: a unary call a chunk, on a few connections."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from hetsyn_client.errors import InputError, ServiceUnreachable
from hetsyn_client.loadtest.carrier import CONNECT_TIMEOUT_S, OPENED_TOGETHER, SWEEP_S, Carrier, CarrierOwner, Job
from hetsyn_client.loadtest.open_inference import OpenInferenceTarget
from hetsyn_client.loadtest.pool import Pool
from hetsyn_client.loadtest.streams import LoadStream
from hetsyn_client.loadtest.target import Response

MOST_CONNECTIONS = 4  # unless fewer are wanted
METHOD = "/inference.GRPCInferenceService/ModelInfer"
DONE = Response(200, b"", None)
FULL = {grpc.StatusCode.UNAVAILABLE: 503, grpc.StatusCode.RESOURCE_EXHAUSTED: 429}  # as HTTP says it
_NAME = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
RETRY_S = 1.0


class GrpcTarget(OpenInferenceTarget):
    """``ModelInfer`` of ``hetsyn serve --grpc-port``. Arguments as ``HetsynTarget``."""

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool, is_numbered: bool = True) -> bytes:
        """The message."""
        name, datatype, shape, content = self.tensor(chunk)
        parameters = self.parameters(session, seq, is_last=is_last, is_numbered=is_numbered)
        message = service_pb2.ModelInferRequest(
            model_name=self.model,
            model_version=self.version,
            parameters={name: _parameter(value) for name, value in parameters.items()},
            inputs=[service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)],
            raw_input_contents=[content],
        )
        made: bytes = message.SerializeToString()
        return made

    def carrier(self, limit: int, timeout_s: float, owner: CarrierOwner) -> Carrier:
        return GrpcPool(self, min(limit, MOST_CONNECTIONS), timeout_s, owner)


class GrpcPool:
    """The connections of all streams.

    Args:
        target: the server.
        limit: the most connections.
        timeout_s: time limit of one call.
        owner: receives the outcomes.

    Attributes:
        waits: always 0: a connection takes any number of calls.
    """

    waits = 0

    def __init__(self, target: GrpcTarget, limit: int, timeout_s: float, owner: CarrierOwner) -> None:
        self._target = target
        self._limit = limit
        self._timeout_s = timeout_s
        self._owner = owner
        self._metadata = metadata_of(target.address.headers)
        self._channels: list[Any] = []
        self._calls: list[Any] = []
        self._under_way: dict[asyncio.Task[None], Job] = {}
        self._deletions = Pool(target.address, OPENED_TOGETHER, timeout_s, owner)

    @property
    def size(self) -> int:
        """Open connections."""
        return len(self._channels)

    async def open(self, streams: Sequence[LoadStream]) -> None:
        """Open the connections.

        Raises:
            ServiceUnreachable: one does not come about.
        """
        address = self._target.address
        where = f"{address.authority.rpartition(':')[0]}:{self._target.grpc_port}"
        trusted = address.ca_file.read_bytes() if address.ca_file is not None else None
        credentials = grpc.ssl_channel_credentials(trusted) if address.is_tls else None
        for index in range(min(self._limit, max(1, len(streams)))):
            options = [("grpc.use_local_subchannel_pool", 1), ("hetsyn.connection", index)]
            if credentials is not None:
                channel = grpc.aio.secure_channel(where, credentials, options)
            else:
                channel = grpc.aio.insecure_channel(where, options)
            self._channels.append(channel)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await channel.channel_ready()
            except TimeoutError:
                raise ServiceUnreachable(
                    f"nothing speaks gRPC at {where}: start 'hetsyn serve' with --grpc-port, and name it here too"
                ) from None
            self._calls.append(channel.unary_unary(METHOD))

    def send(self, job: Job) -> None:
        if job.stream is None:
            self._deletions.send(job)
            return
        job.queued_s = job.sent_s = time.perf_counter()
        task = asyncio.ensure_future(self._call(job, self._calls[job.stream.index % len(self._calls)]))
        self._under_way[task] = job
        task.add_done_callback(lambda done: self._under_way.pop(done, None))

    def sweep(self, now_s: float) -> None:
        """A call has its own deadline."""
        self._deletions.sweep(now_s)

    async def idle(self, timeout_s: float) -> bool:
        """Wait until every job has an outcome. False if the time ran out first."""
        deadline_s = time.perf_counter() + timeout_s
        while self._under_way and (left_s := deadline_s - time.perf_counter()) > 0:
            await asyncio.wait(list(self._under_way), timeout=min(SWEEP_S, left_s))
        left_s = deadline_s - time.perf_counter()
        return await self._deletions.idle(max(0.0, left_s)) and not self._under_way

    def abandon(self) -> list[Job]:
        """Forget the jobs that have no outcome yet, and cancel their calls. Those jobs."""
        jobs = list(self._under_way.values())
        for task in list(self._under_way):
            task.cancel()
        self._under_way.clear()
        return [*jobs, *self._deletions.abandon()]

    async def close(self) -> None:
        self.abandon()
        for channel in self._channels:
            await channel.close()
        await self._deletions.close()

    async def _call(self, job: Job, call: Any) -> None:
        try:
            await call(job.request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            now_s = time.perf_counter()
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                self._owner.failed(job, "timeout", now_s)
            elif error.code() in FULL:
                self._owner.answered(job, Response(FULL[error.code()], b"", RETRY_S), now_s)
            else:
                self._owner.failed(job, error.code().name, now_s)
        else:
            self._owner.answered(job, DONE, time.perf_counter())


def metadata_of(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Headers as gRPC sends them. ``Host`` is the channel's.

    Raises:
        InputError: a name is none of gRPC's.
    """
    found = tuple((name.lower(), value) for name, value in headers.items() if name.lower() != "host")
    for name, _ in found:
        if not _NAME.fullmatch(name):
            raise InputError(f"the header {name!r} cannot go over gRPC: its names have a-z, 0-9, -, _ and ., no -bin")
    return found


def _parameter(value: bool | int | str) -> Any:
    if isinstance(value, bool):
        return service_pb2.InferParameter(bool_param=value)
    if isinstance(value, int):
        return service_pb2.InferParameter(int64_param=value)
    return service_pb2.InferParameter(string_param=value)
