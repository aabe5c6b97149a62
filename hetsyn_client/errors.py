"""The errors that server and client share, and those of a client."""

from __future__ import annotations


class HetsynError(Exception):
    """Base of all; the message is a sentence that says what to do. The attributes are how a server reports the error.

    Attributes:
        status: HTTP status.
        slug: last part of the type of the problem (RFC 9457).
        title: the same for every occurrence.
        grpc: name of the status code of gRPC.
        close_code: of a WebSocket that ends; None for the one that follows from the status.
        retry_after_s: when a client may try again; None where that does not help.
        expected_seq: number of the chunk that would be taken; None where another one does not help.
    """

    status: int = 500
    slug: str = "internal"
    title: str = "Internal Server Error"
    grpc: str = "UNKNOWN"
    close_code: int | None = None
    retry_after_s: float | None = None
    expected_seq: int | None = None


class InputError(HetsynError):
    """An input that cannot be used. Nothing was applied."""

    status, slug, title = 422, "bad-input", "The input cannot be used"
    grpc = "INVALID_ARGUMENT"


class NotFound(HetsynError):
    """There is no such model, version or session."""

    status, slug, title = 404, "not-found", "Not found"
    grpc = "NOT_FOUND"


class ServiceProblem(HetsynError):
    """The server refused a request.

    Attributes:
        status: HTTP status.
        detail: the server's sentence.
        expected_seq: number of the chunk to send next, if the server named it.
        retry_after_s: how long to wait before the next try, if the server named it.
        problem: what went wrong, such as ``out-of-order`` (docs/reference/http-api.md); None if no server of ours said
            it.
    """

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
    """The server has the session no more: it has expired, was deleted, or was lost. Begin another."""

    @classmethod
    def of(cls, problem: ServiceProblem) -> SessionLost:
        """Make the same refusal, of a session that had begun."""
        return cls(problem.status, problem.detail, problem.expected_seq, problem.retry_after_s, problem.problem)


class ServiceUnreachable(HetsynError):
    """No connection, or it broke too often."""
