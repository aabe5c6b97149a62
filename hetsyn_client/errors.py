"""The base of all our errors, those that server and client share, and those of a client."""

from __future__ import annotations

from typing import ClassVar


class HetsynError(Exception):
    """Base of all errors. The message is a sentence that says what to do; commands and servers report the attributes.

    Attributes:
        code: names the kind of error for programs; on the wire the last part of the problem's type (RFC 9457).
        exit_code: exit status of a command.
        status: HTTP status.
        title: the same for every occurrence.
        grpc: name of gRPC's status code.
        close_code: the WebSocket's; None: derived from the status.
        retry_after_s: seconds after which a client may try again; None if that does not help.
        expected_seq: number of the chunk that would be accepted; None if no other one would be.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1
    status: int = 500
    title: str = "Internal Server Error"
    grpc: str = "UNKNOWN"
    close_code: int | None = None
    retry_after_s: float | None = None
    expected_seq: int | None = None


class InputError(HetsynError):
    """An input that cannot be used. Nothing was applied."""

    status, code, title = 422, "bad-input", "The input cannot be used"
    grpc = "INVALID_ARGUMENT"
    exit_code = 2


class NotFound(HetsynError):
    """There is no such model, version, session or key."""

    status, code, title = 404, "not-found", "Not found"
    grpc = "NOT_FOUND"
    exit_code = 2


class ServiceProblem(HetsynError):
    """The server refused a request.

    Attributes:
        status: HTTP status.
        detail: the server's sentence.
        expected_seq: number of the chunk to send next, if the server named it.
        retry_after_s: seconds to wait before the next try, if the server named them.
        problem: the server's code, such as ``out-of-order`` (docs/reference/http-api.md); None if it does not come from
            a HetSyn server.
    """

    code = "refused"

    def __init__(
        self,
        status: int,
        detail: str,
        expected_seq: int | None,
        retry_after_s: float | None,
        problem: str | None = None,
    ) -> None:
        super().__init__(f"the server refused ({status}): {detail}")
        self.status = status
        self.detail = detail
        self.expected_seq = expected_seq
        self.retry_after_s = retry_after_s
        self.problem = problem


class SessionLost(ServiceProblem):
    """The server no longer has the session: it has expired, was deleted, or was lost. Begin another."""

    code = "session-lost"

    @classmethod
    def of(cls, problem: ServiceProblem) -> SessionLost:
        """Make this error of the refusal of a session that had begun."""
        return cls(problem.status, problem.detail, problem.expected_seq, problem.retry_after_s, problem.problem)


class ServiceUnreachable(HetsynError):
    """No connection, or it broke too often."""

    code = "unreachable"
