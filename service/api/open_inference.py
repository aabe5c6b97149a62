"""Serves ``/v2``: the Open Inference Protocol over HTTP, for Triton's clients."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from fastapi import Response
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from service.admission.budget import client_of
from service.admission.uploads import SHORTER, Upload
from service.api import problems
from service.api.exchange import Planner
from service.api.messages import Head
from service.api.origins import check_sender
from service.errors import HetsynError, InputError, NotFound
from service.ingress import Encoded, Ingress
from service.keys.routes import methods_of
from service.observe.timings import Transport
from service.open_inference.json_body import parse_request, reply_body
from service.open_inference.service import ModelCall, OpenInference
from service.session.session import Answer
from service.settings import Limits
from service.wire.content_types import JSON_TYPE, check_not_compressed
from service.wire.schema import InferRequest
from service.wire.sound import SoundLimit

PREFIX = "/v2"
READY = "/v2/health/ready"
HEADER_LENGTH = "inference-header-content-length"
LONGEST_CONTROL = 64 * 1024  # limit of other requests' bodies


Json = dict[str, Any] | list[Any] | None
"""None is an empty body."""


class OpenInferenceEndpoint:
    """An ASGI application for the paths that begin with ``PREFIX``, without inferences.

    Args:
        ingress: reads bodies, and counts refusals.
        rest: has ``/health/ready``.
        cors_origins: origins of pages that may send requests.
    """

    def __init__(
        self,
        service: OpenInference,
        ingress: Ingress,
        rest: ASGIApp,
        cors_origins: Collection[str] = (),
    ) -> None:
        self._service = service
        self._ingress = ingress
        self._rest = rest
        self._cors_origins = cors_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if (taken := methods_of(path)) and scope["method"] not in taken:
            raise HTTPException(405)
        if path == READY:
            inner = READY.removeprefix(PREFIX)
            await self._rest(
                {**scope, "path": scope.get("root_path", "") + inner, "raw_path": inner.encode()}, receive, send
            )
            return
        try:
            answer = await self._answer(scope, path, receive)
        except Exception as error:
            await problems.response(self._ingress.refused(error, f"{scope['method']} {path}"))(scope, receive, send)
        else:
            body = b"" if answer is None else json.dumps(answer).encode()
            await Response(body, media_type=JSON_TYPE)(scope, receive, send)

    async def _answer(self, scope: Scope, path: str, receive: Receive) -> Json:
        parts = path.removeprefix(PREFIX).strip("/").split("/")
        method, headers = scope["method"], dict(scope["headers"])
        check_sender(headers, self._cors_origins)
        match (method, *parts):
            case ("GET" | "HEAD", "health", "live"):
                return None
            case ("GET", ""):
                return self._service.server()
            case ("GET", "models", "stats"):
                return self._service.statistics()
            case ("GET", "models", name, *rest) if (about := self._about(name, rest)) is not None:
                return about()
            case ("POST", "repository", "index"):
                return self._service.index((await self._control(scope, headers, receive)).get("ready") is True)
            case ("POST", "repository", "models", _, "load" | "unload"):
                self._service.change_models()
        raise NotFound(
            f"there is nothing for {method} at {path[:200]}: GET {PREFIX} lists the extensions of this server"
        )

    def _about(self, name: str, rest: list[str]) -> Callable[[], Json] | None:
        """Return the function that answers a question about a model."""
        version = None
        if rest[:1] == ["versions"] and len(rest) > 1:
            version, rest = rest[1], rest[2:]
        service = self._service
        match rest:
            case []:
                return partial(service.model, name, version)
            case ["config"]:
                return partial(service.config, name, version)
            case ["stats"]:
                return partial(service.statistics, name, version)
            case ["ready"]:
                return partial(service.check_model, name, version)
        return None

    async def _control(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> dict[str, Any]:
        """Read the JSON object of a request without a chunk."""
        check_not_compressed(headers.get(b"content-encoding", b""))
        with self._ingress.arriving(client_of(scope["client"])) as upload:
            body = await upload.read(receive, headers.get(b"content-length", b""), LONGEST_CONTROL)
        try:
            value = from_json(body) if body else {}
        except ValueError as error:
            raise InputError(f"the body is not JSON ({error}): send one object") from error
        if not isinstance(value, dict):
            raise InputError("the body is no JSON object: send one")
        return value


class InferencePlan:
    """The ``Plan`` of a request for an inference."""

    transport: Transport = "v2"
    advice = SHORTER

    def __init__(
        self,
        head: Head,
        service: OpenInference,
        limits: Limits,
        origins: Collection[str],
        name: str,
        version: str | None,
    ) -> None:
        self.request = f"POST {head.path}"
        self.max_bytes = limits.max_body_bytes
        self._service = service
        self._call = ModelCall(service, name, version)
        self._length = head.fields.get(HEADER_LENGTH.encode(), b"")
        try:
            check_sender(head.fields, origins)
            check_not_compressed(head.fields.get(b"content-encoding", b""))
        except HetsynError:
            self.failed()
            raise

    def encoded(self, body: bytes, upload: Upload | None) -> Encoded:
        return Encoded(len(body), partial(self._decoded, body), upload)

    def _decoded(self, body: bytes, _: SoundLimit) -> InferRequest:
        call = self._call
        manifest = self._service.manifest(call.name, call.version)
        return call.decoded(parse_request(call.name, call.version, body, self._length, manifest))

    def reply(self, answer: Answer) -> tuple[bytes, bytes]:
        header_length, content = reply_body(self._call.reply(answer), self._call.request)
        if header_length is None:
            return b"content-type: %b\r\n" % JSON_TYPE.encode(), content
        length = b"%b: %d\r\n" % (HEADER_LENGTH.encode(), header_length)
        return b"content-type: application/octet-stream\r\n" + length, content

    def failed(self) -> None:
        self._call.failed()


def inference_planner(
    service: OpenInference, limits: Limits, cors_origins: Collection[str], path: str
) -> Planner | None:
    """Find the planner of a path: None for all but those of inferences."""
    if path.startswith(f"{PREFIX}/"):
        match path.removeprefix(PREFIX).strip("/").split("/"):
            case ["models", name, "infer"]:
                return lambda head: InferencePlan(head, service, limits, cors_origins, name, None)
            case ["models", name, "versions", version, "infer"]:
                return lambda head: InferencePlan(head, service, limits, cors_origins, name, version)
    return None
