"""Sequences of the Open Inference Protocol, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import grpc
from tritonclient.grpc import InferResult as GrpcResult
from tritonclient.grpc import service_pb2
from tritonclient.http import InferResult as HttpResult

from hetsyn_client.loadtest.connections import Response
from tests.long.faults.doors import Door
from tests.long.faults.lines import REQUEST_TIMEOUT_S, Unanswered
from tests.long.faults.tally import ClientSession
from tests.support.servers.target import OpenInferenceTarget

MEMBERS = ("session", "seq", "end", "label", "probabilities", "total_steps")  # of a reply that every door has
# Codes that are not here come from the client's side of the call
STATUSES = {
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 503,
    grpc.StatusCode.INVALID_ARGUMENT: 422,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.INTERNAL: 500,
}
METHOD = "/inference.GRPCInferenceService/ModelInfer"
SENTENCES = {
    "out-of-order": re.compile(r"send seq (?P<seq>\d+) next"),
    "conflicting-chunk": re.compile("was applied with other content"),
    "session-ended": re.compile("the session has ended"),
}


class GrpcTarget(OpenInferenceTarget):
    """``ModelInfer`` of ``hetsyn serve --grpc-port``."""

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool, is_numbered: bool = True) -> bytes:
        """Write the message."""
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


def _parameter(value: bool | int | str) -> Any:
    if isinstance(value, bool):
        return service_pb2.InferParameter(bool_param=value)
    if isinstance(value, int):
        return service_pb2.InferParameter(int64_param=value)
    return service_pb2.InferParameter(string_param=value)


class OpenInferenceDoor(Door):
    """Sequences of the Open Inference Protocol over HTTP."""

    target_type = OpenInferenceTarget

    def read(self, stream: ClientSession, response: Response) -> bytes:  # noqa: ARG002
        if response.status != 200:
            return response.body
        described, length = json.JSONDecoder().raw_decode(response.body.decode("latin-1"))
        result = HttpResult.from_response_body(response.body, header_length=length)
        return _reply(described["parameters"], result)

    @staticmethod
    def reference(reply: bytes) -> bytes:
        found = json.loads(reply)
        return json.dumps({name: found[name] for name in MEMBERS}).encode()


class GrpcDoor(OpenInferenceDoor):
    """The same over gRPC."""

    target_type = GrpcTarget
    needs_grpc = True

    def line(self) -> GrpcLine:
        return GrpcLine(f"{self.address.host}:{self._target.grpc_port}")

    def read(self, stream: ClientSession, response: Response) -> bytes:  # noqa: ARG002
        if response.status != 200:
            return response.body
        message = service_pb2.ModelInferResponse.FromString(response.body)
        parameters = {
            name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in message.parameters.items()
        }
        return _reply(parameters, GrpcResult(message))


def _reply(parameters: Mapping[str, Any], result: Any) -> bytes:
    """The members of ``/infer``'s reply, from the parameters and tensors of the protocol."""
    label = result.as_numpy("label")[0]
    values = (
        parameters["sequence_id"], parameters["seq"], parameters["sequence_end"],
        (label if isinstance(label, str) else label.decode()) or None, result.as_numpy("probabilities").tolist(),
        int(result.as_numpy("total_steps")[0]),
    )  # fmt: skip
    return json.dumps(dict(zip(MEMBERS, values, strict=True))).encode()


class GrpcLine:
    """Calls of ``ModelInfer`` to a replica. A refusal has a status as HTTP's.

    Args:
        where: host and port.
    """

    def __init__(self, where: str, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._where = where
        self._timeout_s = timeout_s
        self._channel: Any = None
        self._closing: set[asyncio.Task[None]] = set()
        self._calls = 0

    @property
    def is_busy(self) -> bool:
        return self._calls > 0

    async def exchange(self, request: bytes) -> Response:
        """Make a call. Its response.

        Raises:
            Unanswered: the server did not answer.
        """
        self._calls += 1
        try:
            content: bytes = await self._call(request)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise Unanswered("connection lost") from None  # ``cut`` has closed the channel
        except grpc.aio.AioRpcError as error:
            code, words = error.code(), error.details() or ""
            if code not in STATUSES:
                raise Unanswered(code.name) from None
            if code is grpc.StatusCode.UNAVAILABLE:
                self.cut()  # a new channel does not wait before it connects again
            return Response(STATUSES[code], problem_of(code, words), None)
        finally:
            self._calls -= 1
        return Response(200, content, None)

    async def tear(self, request: bytes, length: int, after_s: float) -> None:  # noqa: ARG002
        """Make a call, which is sent as a whole, and break the connection."""
        call = asyncio.ensure_future(self.exchange(request))
        await asyncio.sleep(after_s)
        self.cut()
        with suppress(Unanswered):
            await call

    def cut(self) -> None:
        if self._channel is not None:
            task = asyncio.ensure_future(self._channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._channel = None

    async def close(self) -> None:
        self.cut()
        await asyncio.gather(*self._closing)

    def _call(self, request: bytes) -> Any:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._where, [("grpc.use_local_subchannel_pool", 1)])
        return self._channel.unary_unary(METHOD)(request, timeout=self._timeout_s)


def problem_of(code: grpc.StatusCode, words: str) -> bytes:
    """A refusal as the JSON of a problem, by its sentence: gRPC has no kind."""
    for kind, sentence in SENTENCES.items():
        if (found := sentence.search(words)) is not None:
            expected = {"expected_seq": int(number)} if (number := found.groupdict().get("seq")) else {}
            return json.dumps({"type": kind, **expected}).encode()
    return json.dumps({"type": f"{code.name}: {words}"}).encode()
