"""gRPC without a network: what a servicer sees of a call, and what its client gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import grpc

from hetsyn_client.errors import ServiceProblem

Metadata = Sequence[tuple[str, str]]


class Aborted(Exception):
    """The servicer has ended the call with an error."""

    def __init__(self, problem: ServiceProblem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Context:
    """The context of a unary call.

    Args:
        metadata: what the client sends along.
    """

    def __init__(self, client: str, metadata: Metadata = ()) -> None:
        self._client = client
        self._metadata = metadata

    def peer(self) -> str:
        return f"ipv4:{self._client}:50000"

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        names = dict(trailing_metadata)
        expected_seq = int(names["expected_seq"]) if "expected_seq" in names else None
        retry_after_s = float(names["retry_after_s"]) if "retry_after_s" in names else None
        if code is grpc.StatusCode.NOT_FOUND:
            status, problem = 404, "not-found"
        elif code is grpc.StatusCode.RESOURCE_EXHAUSTED and retry_after_s is not None:
            status, problem = 429, "key-limit"
        elif retry_after_s is not None:
            status, problem = 503, "later"
        elif code is grpc.StatusCode.FAILED_PRECONDITION and expected_seq is not None:
            status, problem = 409, "out-of-order"
        elif code is grpc.StatusCode.FAILED_PRECONDITION:
            status, problem = 409, "session-ended"
        else:
            status, problem = 500, f"grpc-{code.name}"
        raise Aborted(ServiceProblem(status, details, expected_seq, None, problem))
