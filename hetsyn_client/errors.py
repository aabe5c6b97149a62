"""The errors that server and client share, and those of a client."""

from __future__ import annotations


class HetsynError(Exception):
    """Base of all; the message is a sentence that says what to do."""


class InputError(HetsynError):
    """What a client sent, or is about to send, cannot be used; nothing was applied."""


class NotFound(HetsynError):
    """There is no such model, version, form or session."""


class ServiceProblem(HetsynError):
    """The server refused a request.

    Attributes:
        status: of HTTP.
        detail: the server's sentence.
        expected_seq: the chunk to send next, where the server said so.
        retry_after_s: when to try again, where the server said so.
    """

    def __init__(self, status: int, detail: str, expected_seq: int | None, retry_after_s: float | None) -> None:
        super().__init__(f"the server refused ({status}): {detail}")
        self.status = status
        self.detail = detail
        self.expected_seq = expected_seq
        self.retry_after_s = retry_after_s


class ServiceUnreachable(HetsynError):
    """No connection, or it broke too often."""
