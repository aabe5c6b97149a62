"""Why a stream, or a frame of it, is refused."""

from __future__ import annotations

from typing import NamedTuple

from service.live.text_frames import Error

NORMAL, RESTART, TRY_LATER, INTERNAL = 1000, 1012, 1013, 1011  # RFC 6455 and its registry of close codes
OWN = 4000  # and the HTTP status


class Refusal(NamedTuple):
    """A problem, as ``Error`` reports it.

    Attributes:
        problem: last part of the problem's type in HTTP.
        status: in HTTP.
        detail: a sentence that says what to do.
        retry_after_s: when the client may try again; None where that does not help.
        expected_seq: number of the chunk that would be taken.
        code: of the close frame; None for the one that follows from the status.
    """

    problem: str
    status: int
    detail: str
    retry_after_s: float | None = None
    expected_seq: int | None = None
    code: int | None = None

    @property
    def close_code(self) -> int:
        if self.code is not None:
            return self.code
        if self.status < 500:
            return OWN + self.status
        return INTERNAL if self.status == 500 else TRY_LATER

    def frame(self) -> Error:
        return {
            "type": "Error",
            "problem": self.problem,
            "status": self.status,
            "detail": self.detail,
            "retryable": self.retry_after_s is not None,
            "retry_after_s": self.retry_after_s,
            "expected_seq": self.expected_seq,
        }


SHUTTING_DOWN = Refusal(
    "shutting-down",
    503,
    "the server is shutting down: open the stream again, and send the chunks that were not acknowledged",
    retry_after_s=0.0,
    code=RESTART,
)
