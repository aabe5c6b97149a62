"""Reports errors to clients: as problem details (RFC 9457), a frame, a row of a frame, or a gRPC status."""

from __future__ import annotations

import logging
from math import ceil
from typing import Any, Literal, NamedTuple, NotRequired

from typing_extensions import TypedDict  # as in ``hetsyn_client.results``

from service.errors import ArtifactError, HetsynError, RuntimeUnavailable
from service.observe.line_limit import LineLimit

LONGEST_PART = 500  # characters at either end of a detail that is too long
INTERNAL, TRY_LATER = 1011, 1013  # RFC 6455 and its registry of close codes
OWN = 4000  # added to the HTTP status

MOST_LINES = 5  # of the log, a second

log = logging.getLogger("hetsyn.problem")
limit = LineLimit(MOST_LINES)


class Error(TypedDict):
    """A problem of the table in ``http-api.md``. If it ends the stream, a close frame follows."""

    type: Literal["Error"]
    problem: str
    status: int
    detail: str
    retryable: bool
    retry_after_s: float | None
    expected_seq: int | None


class Details(TypedDict):
    """Problem details (RFC 9457). ``detail`` says what to do, and ``error`` repeats it for Triton's clients."""

    type: str
    title: str
    status: int
    detail: str
    error: str
    expected_seq: NotRequired[int]


class Problem(NamedTuple):
    """A problem for a client. ``detail`` says what to do. Other attributes are those of ``HetsynError``."""

    status: int
    code: str
    title: str
    detail: str
    grpc: str = "UNKNOWN"
    close_code: int = INTERNAL
    retry_after_s: float | None = None
    expected_seq: int | None = None

    @staticmethod
    def of(error: Exception, request: str = "") -> Problem:
        """Make the problem of an error, and log it: errors for the operator always, others a few times a second.

        Args:
            error: any exception; an unexpected one is a defect.
            request: for the log of a defect.
        """
        if not isinstance(error, HetsynError):
            log.error("%r failed", request[:LONGEST_PART], exc_info=error)
            detail = "the server failed on this request: its session is unchanged; the server's log has the details"
            return Problem(HetsynError.status, HetsynError.code, HetsynError.title, detail, "INTERNAL")
        if isinstance(error, ArtifactError | RuntimeUnavailable):
            log.error("%s", error, exc_info=error)
        else:
            _log_refusal(error)
        close_code = OWN + error.status if error.status < 500 else INTERNAL if error.status == 500 else TRY_LATER
        return Problem(
            error.status,
            error.code,
            error.title,
            shortened(str(error)),
            error.grpc,
            error.close_code or close_code,
            error.retry_after_s,
            error.expected_seq,
        )

    def members(self) -> Details:
        """Return the problem details."""
        members: Details = {
            "type": f"urn:hetsyn:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "error": self.detail,
        }
        return members if self.expected_seq is None else {**members, "expected_seq": self.expected_seq}

    def metadata(self) -> dict[str, int | float]:
        """Return what a client over gRPC needs to go on by itself."""
        found = {"expected_seq": self.expected_seq, "retry_after_s": self.retry_after_s}
        return {name: value for name, value in found.items() if value is not None}

    def headers(self) -> dict[str, str]:
        """Return the headers of a response."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(ceil(self.retry_after_s))
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="hetsyn"'
        if self.status == 408:
            headers["Connection"] = "close"  # the rest of the body may keep coming for a long time
        return headers

    def frame(self) -> Error:
        """Return the text frame of a stream."""
        return {
            "type": "Error",
            "problem": self.code,
            "status": self.status,
            "detail": self.detail,
            "retryable": self.retry_after_s is not None,
            "retry_after_s": self.retry_after_s,
            "expected_seq": self.expected_seq,
        }

    def row(self) -> dict[str, Any]:
        """Return the members of a row of ``/streams`` beside its status."""
        return {name: value for name, value in self.frame().items() if name not in ("type", "status")}


def _log_refusal(error: HetsynError) -> None:
    if not log.isEnabledFor(logging.INFO) or (left_out := limit.admit()) is None:
        return
    if left_out:
        log.info("%d more requests were refused that have no line of their own", left_out)
    detail = shortened(str(error))
    if not detail.isprintable():  # it may repeat a client's text, and must be one line
        detail = "".join(char if char.isprintable() else repr(char)[1:-1] for char in detail)
    log.info("refused, %d %s: %s", error.status, error.code, detail, extra={"problem": error.code})


def shortened(detail: str) -> str:
    """Leave out the middle of a long detail: it repeats what a client sent."""
    return detail if len(detail) <= 2 * LONGEST_PART else f"{detail[:LONGEST_PART]} ... {detail[-LONGEST_PART:]}"
