"""``/v2``: the Open Inference Protocol over HTTP, as Triton's clients speak it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from pydantic_core import from_json
from starlette.types import ASGIApp, Receive, Scope, Send

from service.admission.budget import client_of
from service.admission.presence import presence_of
from service.admission.uploads import ClientDisconnect
from service.api import problems
from service.errors import HetsynError, InputError, NotFound
from service.ingress import Encoded, Ingress, Outcome, Source
from service.keys.caller import caller_of
from service.observe.counters import Counters
from service.open_inference.json_body import parse_request, reply_body
from service.open_inference.service import ModelCall, OpenInference
from service.problem import Problem
from service.settings import Limits
from service.wire.content_types import JSON_TYPE, check_not_compressed
from service.wire.encodings import SoundLimit
from service.wire.schema import InferRequest

PREFIX = "/v2"
READY = "/v2/health/ready"
HEADER_LENGTH = "inference-header-content-length"
LONGEST_CONTROL = 64 * 1024  # the body of any other request


class Reply(NamedTuple):
    """A response with status 200.

    Attributes:
        headers: of the response.
        body: of the response.
    """

    headers: list[tuple[bytes, bytes]]
    body: bytes


Answer = Reply | Problem | dict[str, Any] | list[Any] | None
"""The last three are JSON values, or an empty body."""


class OpenInferenceEndpoint:
    """See above; an ASGI application for the paths that begin with ``PREFIX``.

    Args:
        service: what answers.
        ingress: applies chunks.
        counters: count abandoned chunks.
        limits: of a body.
        rest: has ``/health/ready``.
    """

    def __init__(
        self,
        service: OpenInference,
        ingress: Ingress,
        counters: Counters,
        limits: Limits,
        rest: ASGIApp,
    ) -> None:
        self._service = service
        self._ingress = ingress
        self._counters = counters
        self._max_bytes = limits.max_body_bytes
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == READY and scope["method"] in ("GET", "HEAD"):
            inner = READY.removeprefix(PREFIX)
            await self._rest(
                {**scope, "path": scope.get("root_path", "") + inner, "raw_path": inner.encode()}, receive, send
            )
            return
        try:
            answer = await self._answer(scope, path, receive)
        except ClientDisconnect:
            self._counters.chunks_abandoned += 1  # nobody would read a response; nothing was applied
        except Exception as error:
            await problems.response(self._ingress.refused(error, f"{scope['method']} {path}"))(scope, receive, send)
        else:
            if isinstance(answer, Problem):
                await problems.response(answer)(scope, receive, send)
                return
            if not isinstance(answer, Reply):
                body = b"" if answer is None else json.dumps(answer).encode()
                answer = Reply([(b"content-type", JSON_TYPE.encode()), (b"content-length", b"%d" % len(body))], body)
            await send({"type": "http.response.start", "status": 200, "headers": answer.headers})
            await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, path: str, receive: Receive) -> Answer:
        parts = path.removeprefix(PREFIX).strip("/").split("/")
        method, headers = scope["method"], dict(scope["headers"])
        match (method, *parts):
            case ("POST", "models", name, "infer"):
                return await self._infer(name, None, scope, headers, receive)
            case ("POST", "models", name, "versions", version, "infer"):
                return await self._infer(name, version, scope, headers, receive)
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

    def _about(self, name: str, rest: list[str]) -> Callable[[], Answer] | None:
        """What answers a question about a model."""
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
        """The JSON object of a request that is no chunk."""
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

    async def _infer(
        self, name: str, version: str | None, scope: Scope, headers: dict[bytes, bytes], receive: Receive
    ) -> Reply | Problem:
        call, request = ModelCall(self._service, name, version), f"POST {scope['path']}"
        try:
            outcome = await self._outcome(call, request, scope, headers, receive)
        except HetsynError as error:
            outcome = self._ingress.refused(error, request)
        if isinstance(outcome, Problem):
            call.failed()
            return outcome
        return _reply(*reply_body(call.reply(outcome), call.request))

    async def _outcome(
        self, call: ModelCall, request: str, scope: Scope, headers: dict[bytes, bytes], receive: Receive
    ) -> Outcome:
        client = client_of(scope["client"])
        with self._ingress.arriving(client) as upload:
            check_not_compressed(headers.get(b"content-encoding", b""))
            body = await upload.read(receive, headers.get(b"content-length", b""), self._max_bytes)
            decode = partial(self._decode, call, body, headers.get(HEADER_LENGTH.encode(), b""))
            source = Source(request, "v2", client, caller_of(scope), presence_of(scope))
            encoded = Encoded(len(body), decode, upload)
            del body, decode  # ``encoded`` frees them when the chunk is decoded
            (outcome,) = await self._ingress.apply([(source, encoded)])
        return outcome

    def _decode(self, call: ModelCall, body: bytes, length: bytes, _: SoundLimit) -> InferRequest:
        manifest = self._service.manifest(call.name, call.version)
        return call.decoded(parse_request(call.name, call.version, body, length, manifest))


def _reply(header_length: int | None, content: bytes) -> Reply:
    kind = JSON_TYPE if header_length is None else "application/octet-stream"
    headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(content))]
    if header_length is not None:
        headers.append((HEADER_LENGTH.encode(), b"%d" % header_length))
    return Reply(headers, content)
