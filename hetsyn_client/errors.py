"""The errors that server and client share, and those of a client."""

from __future__ import annotations


class HetsynError(Exception):
    """Base of all; the message is a sentence that says what to do."""


class InputError(HetsynError):
    """An input that cannot be used. Nothing was applied."""


class NotFound(HetsynError):
    """There is no such model, version, form or session."""


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


class ServiceUnreachable(HetsynError):
    """No connection, or it broke too often."""
