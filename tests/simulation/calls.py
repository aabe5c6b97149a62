"""gRPC without a network: what a servicer sees of a call, and what its client gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import grpc

from hetsyn_client.errors import ServiceProblem

Metadata = Sequence[tuple[str, str]]
LATER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNKNOWN)


class Aborted(Exception):
    """The servicer has ended the call with an error."""

    def __init__(self, problem: ServiceProblem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Context:
    """The context of a unary call."""

    def __init__(self, client: str) -> None:
        self._client = client
        self._trailing: Metadata = ()

    def peer(self) -> str:
        return f"ipv4:{self._client}:50000"

    def invocation_metadata(self) -> Metadata:
        return ()

    def set_trailing_metadata(self, trailing: Metadata) -> None:
        self._trailing = trailing

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        names = dict(trailing_metadata or self._trailing)
        expected_seq = int(names["expected_seq"]) if "expected_seq" in names else None
        if code in LATER:
            status, problem = 503, "later"
        elif code is grpc.StatusCode.NOT_FOUND:
            status, problem = 404, "not-found"
        elif code is grpc.StatusCode.FAILED_PRECONDITION:
            status, problem = 409, "later" if expected_seq is None else "out-of-order"
        else:
            status, problem = 500, f"grpc-{code.name}"
        raise Aborted(ServiceProblem(status, details, expected_seq, None, problem))
