"""The one table from domain errors to HTTP, as problem details (RFC 9457).

A problem has the members ``type``, ``title``, ``status`` and ``detail`` of the RFC. ``error`` repeats the detail for
clients of the Open Inference Protocol. ``expected_seq`` is present where sending that chunk solves the problem.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPMethod, HTTPStatus
from math import ceil
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect as RequestDisconnect
from starlette.routing import Match
from starlette.types import Scope

from service import errors
from service.admission.body import ClientDisconnect
from service.live.refusal import RESTART, Refusal

MEDIA_TYPE = "application/problem+json"


class Problem(NamedTuple):
    """How HTTP reports one kind of error (RFC 9457, section 3.1).

    Attributes:
        status: HTTP status code.
        slug: last part of ``type``, a URN.
        title: the same for every occurrence.
    """

    status: int
    slug: str
    title: str


PROBLEMS: Mapping[type[errors.HetsynError], Problem] = {
    errors.ArtifactError: Problem(500, "model-damaged", "The model cannot be run"),
    errors.RuntimeUnavailable: Problem(503, "runtime-unavailable", "The server cannot run models"),
    errors.InputError: Problem(422, "bad-input", "The input cannot be used"),
    errors.TooLarge: Problem(413, "too-large", "The input is too large"),
    errors.TooSlow: Problem(408, "too-slow", "The input came too slowly"),
    errors.UnsupportedInput: Problem(415, "unsupported-input", "This kind of input is not accepted"),
    errors.OriginRefused: Problem(403, "foreign-origin", "A page of another origin"),
    errors.ModelControlOff: Problem(403, "model-control-off", "Clients may not load models"),
    errors.KeyRefused: Problem(401, "key-refused", "A key is asked for"),
    errors.KeyLacksScope: Problem(403, "key-scope", "The key may not do this"),
    errors.KeysUnusable: Problem(500, "keys-unusable", "The keys cannot be used"),
    errors.NotFound: Problem(404, "not-found", "Not found"),
    errors.OutOfOrder: Problem(409, "out-of-order", "Another chunk is expected"),
    errors.ConflictingChunk: Problem(409, "conflicting-chunk", "The chunk number was used for other content"),
    errors.SessionEnded: Problem(409, "session-ended", "The session has ended"),
    errors.ModelMismatch: Problem(409, "model-mismatch", "The session runs on another model"),
    errors.StateBroken: Problem(409, "state-broken", "The session's state is broken"),
    errors.SessionExists: Problem(409, "session-exists", "A session of this id exists"),
    errors.SessionTaken: Problem(409, "session-taken", "Another connection streams the session"),
    errors.StreamIdle: Problem(408, "idle", "The client was silent for too long"),
    errors.SessionGone: Problem(410, "session-gone", "The session is gone"),
    errors.StateForeign: Problem(409, "state-foreign", "Not a session record"),
    errors.StateFormat: Problem(409, "state-format", "The session record has another format"),
    errors.StateTruncated: Problem(409, "state-truncated", "The session record is cut off"),
    errors.StateCorrupt: Problem(409, "state-corrupt", "The session record is damaged"),
    errors.StateMismatch: Problem(409, "state-mismatch", "The session record does not fit its model"),
    errors.ModelChanged: Problem(409, "model-changed", "The session's model has other files here"),
    errors.ModelAbsent: Problem(503, "model-absent", "The server does not have the session's model"),
    errors.TokenForeign: Problem(422, "token-foreign", "Not a token"),
    errors.TokenFormat: Problem(409, "token-format", "The token has another format"),
    errors.TokenTruncated: Problem(422, "token-truncated", "The token is cut off"),
    errors.TokenKeyUnknown: Problem(409, "token-key", "The server does not have the token's key"),
    errors.TokenForged: Problem(422, "token-forged", "The token was changed"),
    errors.TokenExpired: Problem(410, "token-expired", "The token has expired"),
    errors.CarryUnavailable: Problem(501, "carry-unavailable", "Carried sessions are not available"),
    errors.StoreUnavailable: Problem(503, "store-unavailable", "The session store cannot be reached"),
    errors.StoreFull: Problem(503, "store-full", "The session store is full"),
    errors.StoreUnusable: Problem(503, "store-unusable", "The session store cannot be used"),
    errors.Overloaded: Problem(503, "overloaded", "The server is full"),
    errors.KeyLimitReached: Problem(429, "key-limit", "The key has as much as it may"),
    errors.ShuttingDown: Problem(503, "shutting-down", "The server is shutting down"),
}

LONGEST_PART = 500  # characters at either end of a detail that is too long

log = logging.getLogger("hetsyn.api")


def problem(
    status: int,
    slug: str,
    title: str,
    detail: str,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build the response of a problem.

    Args:
        status: see ``Problem``.
        slug: see ``Problem``.
        title: see ``Problem``.
        detail: a sentence that says what to do about this occurrence.
        extra: extension members (RFC 9457, section 3.2).
        headers: of the response.
    """
    if len(detail) > 2 * LONGEST_PART:  # it repeats something of the request, such as an id of the path
        detail = f"{detail[:LONGEST_PART]} ... {detail[-LONGEST_PART:]}"
    body = {"type": f"urn:hetsyn:problem:{slug}", "title": title, "status": status, "detail": detail, "error": detail}
    content = json.dumps(body | dict(extra or {})).encode()
    return Response(content, status, dict(headers or {}), media_type=MEDIA_TYPE)


def from_error(error: errors.HetsynError, status: int | None = None) -> Response:
    """Build the response to a domain error.

    Args:
        error: looked up in ``PROBLEMS`` by its class, or by the nearest base class.
        status: replaces the table's.
    """
    usual_status, slug, title = next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    extra: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(error, errors.OutOfOrder | errors.ConflictingChunk):
        extra["expected_seq"] = error.expected_seq
    if isinstance(error, errors.Overloaded | errors.StoreError | errors.ModelAbsent):
        headers["Retry-After"] = str(ceil(error.retry_after_s))
    if isinstance(error, errors.KeyRefused):
        headers["WWW-Authenticate"] = 'Bearer realm="hetsyn"'
    if isinstance(error, errors.TooSlow):
        headers["Connection"] = "close"  # the rest of the body may keep coming for a long time
    return problem(status or usual_status, slug, title, str(error), extra, headers)


def refusal_of(error: errors.HetsynError) -> Refusal:
    """A domain error as a stream reports it; logged if an operator has to solve it."""
    if isinstance(error, errors.ArtifactError | errors.RuntimeUnavailable):
        log.error("%s", error, exc_info=error)
    status, slug, _ = next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    later = errors.Overloaded | errors.StoreError | errors.ModelAbsent
    return Refusal(
        slug,
        status,
        str(error)[: 2 * LONGEST_PART],
        retry_after_s=error.retry_after_s if isinstance(error, later) else None,
        expected_seq=error.expected_seq if isinstance(error, errors.OutOfOrder | errors.ConflictingChunk) else None,
        code=RESTART if isinstance(error, errors.ShuttingDown) else None,
    )


def from_domain_error(error: errors.HetsynError) -> Response:
    """Build the response to a domain error, and log the error if an operator has to solve it."""
    if isinstance(error, errors.ArtifactError | errors.RuntimeUnavailable):
        log.error("%s", error, exc_info=error)
    return from_error(error)


def refusal_of_unexpected(request: str, error: Exception) -> Refusal:
    """``from_unexpected``, as a stream reports it."""
    response = json.loads(bytes(from_unexpected(request, error).body))
    return Refusal("internal", 500, response["detail"])


def from_unexpected(request: str, error: Exception) -> Response:
    """Log an error that no code foresaw, and build its response.

    Args:
        request: method and path.
        error: the defect.
    """
    log.error("%r failed", request[:LONGEST_PART], exc_info=error)
    detail = "the server failed on this request: its session is unchanged; the server's log has the details"
    return problem(500, "internal", "Internal Server Error", detail)


def documented(problems: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """The part of an OpenAPI operation that describes its problems.

    Args:
        problems: description of each status.
    """
    return {status: {"description": text, "content": {MEDIA_TYPE: {}}} for status, text in problems.items()}


def install(app: FastAPI) -> None:
    """Make the application reply to every error with a problem, FastAPI's own and unexpected ones included."""

    @app.exception_handler(errors.HetsynError)
    async def domain(_: Request, error: errors.HetsynError) -> Response:
        return from_domain_error(error)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        path = request.scope["path"]
        detail = {
            404: f"there is nothing at {path}: {_nearest(app, request.scope)}",
            405: f"{path} does not take {request.method}: see /docs",
        }.get(error.status_code, str(error.detail))
        title = HTTPStatus(error.status_code).phrase
        headers = error.headers
        if error.status_code == 405:  # starlette lists the methods of the path's first route alone
            headers = {"Allow": ", ".join(_methods_of_path(app, request.scope))}
        return problem(error.status_code, "http", title, detail, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def validation(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return problem(*PROBLEMS[errors.InputError], f"{field}: {first['msg']}")

    @app.exception_handler(RequestDisconnect)
    @app.exception_handler(ClientDisconnect)
    async def disconnected(_: Request, error: Exception) -> Response:  # noqa: ARG001
        return Response(status_code=400)  # nobody reads this; nothing was applied

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return from_unexpected(f"{request.method} {request.scope['path']}", error)


def _nearest(app: FastAPI, scope: Scope) -> str:
    """What to do about a path that there is not."""
    path = scope["path"].rstrip("/")
    if path != scope["path"] and _methods_of_path(app, {**scope, "path": path}):
        return f"send the request to {path}"
    return "see /docs for the paths"


def _methods_of_path(app: FastAPI, scope: Scope) -> list[str]:
    """The methods that the application takes at a request's path."""
    return [
        method
        for method in HTTPMethod
        if any(route.matches({**scope, "method": method.value})[0] is Match.FULL for route in app.routes)
    ]
