"""The one table from domain errors to HTTP, as RFC 9457 problems.

A problem has type, title, status, detail, and ``error``, the detail again, for clients of the Open Inference
Protocol; ``expected_seq`` where the client can mend it by sending that chunk.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect as RequestDisconnect

from service import errors
from service.admission.body import ClientDisconnect

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "X-Request-ID"


class Problem(NamedTuple):
    """What a client is told of an error.

    Attributes:
        status: of HTTP.
        slug: last part of the problem's type, a URN.
        title: the same for every such problem.
    """

    status: int
    slug: str
    title: str


PROBLEMS: Mapping[type[errors.HetsynError], Problem] = {
    errors.ArtifactError: Problem(500, "model-damaged", "The model cannot be run"),
    errors.RuntimeUnavailable: Problem(503, "runtime-unavailable", "The server lacks its runtime"),
    errors.InputError: Problem(422, "bad-input", "The input cannot be used"),
    errors.TooLarge: Problem(413, "too-large", "The input is too large"),
    errors.TooSlow: Problem(408, "too-slow", "The input came too slowly"),
    errors.UnsupportedInput: Problem(415, "unsupported-input", "This kind of input is not taken"),
    errors.NotFound: Problem(404, "not-found", "There is no such thing"),
    errors.OutOfOrder: Problem(409, "out-of-order", "Another chunk is expected"),
    errors.ConflictingChunk: Problem(409, "conflicting-chunk", "The chunk number was used for other content"),
    errors.SessionEnded: Problem(409, "session-ended", "The session has ended"),
    errors.ModelMismatch: Problem(409, "model-mismatch", "The session runs on another model"),
    errors.SessionExists: Problem(409, "session-exists", "There is a session of this id"),
    errors.SessionGone: Problem(410, "session-gone", "The session was dropped"),
    errors.StateForeign: Problem(409, "state-foreign", "This is no packed session"),
    errors.StateFormat: Problem(409, "state-format", "The packed session has another format"),
    errors.StateTruncated: Problem(409, "state-truncated", "The packed session is cut off"),
    errors.StateCorrupt: Problem(409, "state-corrupt", "The packed session is damaged"),
    errors.StateMismatch: Problem(409, "state-mismatch", "The packed session does not fit its model"),
    errors.ModelChanged: Problem(409, "model-changed", "The session's model is not the one that is here"),
    errors.ModelAbsent: Problem(503, "model-absent", "The session's model is not here"),
    errors.TokenForeign: Problem(422, "token-foreign", "This is no token"),
    errors.TokenFormat: Problem(409, "token-format", "The token has another format"),
    errors.TokenTruncated: Problem(422, "token-truncated", "The token is cut off"),
    errors.TokenKeyUnknown: Problem(409, "token-key", "The token's key is not here"),
    errors.TokenForged: Problem(422, "token-forged", "The token is not as it was sealed"),
    errors.TokenExpired: Problem(410, "token-expired", "The token has expired"),
    errors.CarryUnavailable: Problem(501, "carry-unavailable", "The server carries no sessions"),
    errors.StoreUnavailable: Problem(503, "store-unavailable", "The sessions cannot be reached"),
    errors.StoreUnusable: Problem(503, "store-unusable", "The session store cannot be used"),
    errors.Overloaded: Problem(503, "overloaded", "The server is full"),
    errors.ShuttingDown: Problem(503, "shutting-down", "The server is about to end"),
}

log = logging.getLogger("hetsyn.api")


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as a response.

    Args:
        kind: the last part of its type, a URN.
        extra: further members.
    """
    body = {"type": f"urn:hetsyn:problem:{kind}", "title": title, "status": status, "detail": detail, "error": detail}
    content = json.dumps(body | dict(extra or {})).encode()
    return Response(content, status, dict(headers or {}), media_type=MEDIA_TYPE)


def from_error(error: errors.HetsynError, status: int | None = None) -> Response:
    """The response to a domain error.

    Args:
        status: instead of the table's.
    """
    usual, slug, title = next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    extra: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(error, errors.OutOfOrder | errors.ConflictingChunk):
        extra["expected_seq"] = error.expected_seq
    if isinstance(error, errors.Overloaded | errors.StoreUnavailable | errors.ModelAbsent):
        headers["Retry-After"] = str(ceil(error.retry_after_s))
    if isinstance(error, errors.TooSlow):
        headers["Connection"] = "close"  # the rest of the body may come for a long time yet
    return problem(status or usual, slug, title, str(error), extra, headers)


def from_domain_error(error: errors.HetsynError) -> Response:
    """``from_error``, and a line in the log where an operator has to mend it."""
    if isinstance(error, errors.ArtifactError | errors.RuntimeUnavailable):
        log.error("%s", error, exc_info=error)
    return from_error(error)


def from_unexpected(request: str, error: Exception, headers: Mapping[str, str] | None = None) -> Response:
    """The response to an error of ours, which goes to the log.

    Args:
        request: method and path.
    """
    log.error("%s failed", request, exc_info=error)
    detail = "the server failed on this request: a session in it is as it was; its log has more"
    return problem(500, "internal", "Internal Server Error", detail, headers=headers)


def install(app: FastAPI) -> None:
    """Make the app answer every error with a problem, FastAPI's own and unexpected ones included."""

    @app.exception_handler(errors.HetsynError)
    async def domain(_: Request, error: errors.HetsynError) -> Response:
        return from_domain_error(error)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        detail = {
            404: f"there is nothing at {request.url.path}: see /docs for what there is",
            405: f"{request.url.path} does not take {request.method}: see /docs",
        }.get(error.status_code, str(error.detail))
        title = HTTPStatus(error.status_code).phrase
        return problem(error.status_code, "http", title, detail, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def validation(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return problem(*PROBLEMS[errors.InputError], f"{field}: {first['msg']}")

    @app.exception_handler(RequestDisconnect)
    @app.exception_handler(ClientDisconnect)
    async def disconnected(_: Request, error: Exception) -> Response:  # noqa: ARG001
        return Response(status_code=400)  # nobody reads it; nothing was applied

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        # the middleware that echoes it is inside of what calls this handler
        echoed = {REQUEST_ID: request.headers[REQUEST_ID]} if REQUEST_ID in request.headers else {}
        return from_unexpected(f"{request.method} {request.url.path}", error, echoed)
