"""Makes HTTP responses of problems."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service.errors import HetsynError, InputError
from service.keys.routes import methods_of
from service.observe.counters import Counters
from service.problem import Problem, shortened

MEDIA_TYPE = "application/problem+json"


def response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Make the response that reports a problem."""
    content = json.dumps(problem.members()).encode()
    return Response(content, problem.status, {**problem.headers(), **(headers or {})}, media_type=MEDIA_TYPE)


def of_http(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Make the response to a request that HTTP itself, or the table of routes, refuses."""
    return response(Problem(status, "http", HTTPStatus(status).phrase, shortened(detail)), headers)


def wrong_method(method: str, path: str) -> Response:
    """Make the response to a method that a path does not take."""
    methods = methods_of(path)
    return of_http(
        405, f"{path} does not take {method}: send {' or '.join(methods)}, see /docs", {"Allow": ", ".join(methods)}
    )


def documented(problems: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Describe the problems of an OpenAPI operation, by the description of each status."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": text, "content": content} for status, text in problems.items()}


def install(app: FastAPI, refused: Callable[[Exception, str], Problem], counters: Counters) -> None:
    """Make the application reply to every error with a problem, FastAPI's own and unexpected ones included.

    Args:
        refused: counts and reports an error of a request.
    """

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        counters.chunks_refused["http"] += 1
        path = request.scope["path"]
        if error.status_code == 405:  # starlette lists only the methods of the path's first route
            return wrong_method(request.method, path)
        detail = f"there is nothing at {path}: {_nearest(path)}" if error.status_code == 404 else str(error.detail)
        return of_http(error.status_code, detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return await failed(request, InputError(f"{field}: {first['msg']}"))

    @app.exception_handler(HetsynError)
    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return response(refused(error, f"{request.method} {request.scope['path']}"))


def _nearest(path: str) -> str:
    """Say what to do about an unknown path."""
    stripped = path.rstrip("/")
    return f"send the request to {stripped}" if stripped != path and methods_of(stripped) else "see /docs for the paths"
