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
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect as RequestDisconnect

from service import errors
from service.admission.body import ClientDisconnect

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "X-Request-ID"

STATUS: Mapping[type[errors.HetsynError], int] = {
    errors.ArtifactError: 500,
    errors.RuntimeUnavailable: 503,
    errors.InputError: 422,
    errors.TooLarge: 413,
    errors.TooSlow: 408,
    errors.UnsupportedInput: 415,
    errors.NotFound: 404,
    errors.OutOfOrder: 409,
    errors.ConflictingChunk: 409,
    errors.SessionEnded: 409,
    errors.ModelMismatch: 409,
    errors.SessionExists: 409,
    errors.SessionGone: 410,
    errors.StateForeign: 409,
    errors.StateFormat: 409,
    errors.StateTruncated: 409,
    errors.StateCorrupt: 409,
    errors.StateMismatch: 409,
    errors.ModelChanged: 409,
    errors.ModelAbsent: 503,
    errors.TokenForeign: 422,
    errors.TokenFormat: 409,
    errors.TokenTruncated: 422,
    errors.TokenKeyUnknown: 409,
    errors.TokenForged: 422,
    errors.TokenExpired: 410,
    errors.CarryUnavailable: 501,
    errors.StoreUnavailable: 503,
    errors.StoreUnusable: 503,
    errors.Overloaded: 503,
    errors.ShuttingDown: 503,
}
TITLES: Mapping[type[errors.HetsynError], tuple[str, str]] = {
    errors.ArtifactError: ("model-damaged", "The model cannot be run"),
    errors.RuntimeUnavailable: ("runtime-unavailable", "The server lacks its runtime"),
    errors.InputError: ("bad-input", "The input cannot be used"),
    errors.TooLarge: ("too-large", "The input is too large"),
    errors.TooSlow: ("too-slow", "The input came too slowly"),
    errors.UnsupportedInput: ("unsupported-input", "This kind of input is not taken"),
    errors.NotFound: ("not-found", "There is no such thing"),
    errors.OutOfOrder: ("out-of-order", "Another chunk is expected"),
    errors.ConflictingChunk: ("conflicting-chunk", "The chunk number was used for other content"),
    errors.SessionEnded: ("session-ended", "The session has ended"),
    errors.ModelMismatch: ("model-mismatch", "The session runs on another model"),
    errors.SessionExists: ("session-exists", "There is a session of this id"),
    errors.SessionGone: ("session-gone", "The session was dropped"),
    errors.StateForeign: ("state-foreign", "This is no packed session"),
    errors.StateFormat: ("state-format", "The packed session has another format"),
    errors.StateTruncated: ("state-truncated", "The packed session is cut off"),
    errors.StateCorrupt: ("state-corrupt", "The packed session is damaged"),
    errors.StateMismatch: ("state-mismatch", "The packed session does not fit its model"),
    errors.ModelChanged: ("model-changed", "The session's model is not the one that is here"),
    errors.ModelAbsent: ("model-absent", "The session's model is not here"),
    errors.TokenForeign: ("token-foreign", "This is no token"),
    errors.TokenFormat: ("token-format", "The token has another format"),
    errors.TokenTruncated: ("token-truncated", "The token is cut off"),
    errors.TokenKeyUnknown: ("token-key", "The token's key is not here"),
    errors.TokenForged: ("token-forged", "The token is not as it was sealed"),
    errors.TokenExpired: ("token-expired", "The token has expired"),
    errors.CarryUnavailable: ("carry-unavailable", "The server carries no sessions"),
    errors.StoreUnavailable: ("store-unavailable", "The sessions cannot be reached"),
    errors.StoreUnusable: ("store-unusable", "The session store cannot be used"),
    errors.Overloaded: ("overloaded", "The server is full"),
    errors.ShuttingDown: ("shutting-down", "The server is about to end"),
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
    """A problem as a response. kind: the last part of its type, a URN."""
    body = {"type": f"urn:hetsyn:problem:{kind}", "title": title, "status": status, "detail": detail, "error": detail}
    content = json.dumps(body | dict(extra or {})).encode()
    return Response(content, status, dict(headers or {}), media_type=MEDIA_TYPE)


def of_error(error: errors.HetsynError, status: int | None = None) -> Response:
    """The response to a domain error. status: in place of the table's."""
    known = next(kind for kind in type(error).__mro__ if kind in STATUS)
    slug, title = TITLES[known]
    extra: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(error, errors.OutOfOrder | errors.ConflictingChunk):
        extra["expected_seq"] = error.expected_seq
    if isinstance(error, errors.Overloaded | errors.StoreUnavailable | errors.ModelAbsent):
        headers["Retry-After"] = str(ceil(error.retry_after_s))
    if isinstance(error, errors.TooSlow):
        headers["Connection"] = "close"  # the rest of the body may come for a long time yet
    return problem(status or STATUS[known], slug, title, str(error), extra, headers)


def of_domain(error: errors.HetsynError) -> Response:
    """``of_error``, and a line in the log where an operator has to mend it."""
    if isinstance(error, errors.ArtifactError | errors.RuntimeUnavailable):
        log.error("%s", error, exc_info=error)
    return of_error(error)


def of_defect(request: str, error: Exception, headers: Mapping[str, str] | None = None) -> Response:
    """The response to an error of ours, which goes to the log. request: method and path."""
    log.error("%s failed", request, exc_info=error)
    detail = "the server failed on this request: a session in it is as it was; its log has more"
    return problem(500, "internal", "Internal Server Error", detail, headers=headers)


def install(app: FastAPI) -> None:
    """Make the app answer every error with a problem, FastAPI's own and unexpected ones included."""

    @app.exception_handler(errors.HetsynError)
    async def domain(_: Request, error: errors.HetsynError) -> Response:
        return of_domain(error)

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
        place = ".".join(str(part) for part in first["loc"])
        slug, title = TITLES[errors.InputError]
        return problem(422, slug, title, f"{place}: {first['msg']}")

    @app.exception_handler(RequestDisconnect)
    @app.exception_handler(ClientDisconnect)
    async def disconnected(_: Request, error: Exception) -> Response:  # noqa: ARG001
        return Response(status_code=400)  # nobody reads it; nothing was applied

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        # the middleware that echoes it is inside of what calls this handler
        echoed = {REQUEST_ID: request.headers[REQUEST_ID]} if REQUEST_ID in request.headers else {}
        return of_defect(f"{request.method} {request.url.path}", error, echoed)
