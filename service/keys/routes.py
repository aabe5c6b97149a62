"""The table of scopes that requests need, for all interfaces. Nobody may send a request that is not in it.

``tests/integration/keys/test_keys_table.py`` walks the routes of the server, and fails for one without a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPMethod
from typing import Literal

from service.keys.caller import Scope

Need = Scope | Literal["open"]
"""``open``: nobody needs a key."""

HTTP: Mapping[tuple[str, str], Need] = {
    # for balancers and container platforms, which have no key; they say nothing of anybody
    ("GET", "/health/live"): "open",
    ("GET", "/health/ready"): "open",
    ("GET", "/v2/health/live"): "open",
    ("GET", "/v2/health/ready"): "open",
    ("HEAD", "/health/live"): "open",
    ("HEAD", "/health/ready"): "open",
    ("HEAD", "/v2/health/live"): "open",
    ("HEAD", "/v2/health/ready"): "open",
    # the page and the documents are the same for all; the page asks for a key
    ("GET", "/"): "open",
    ("HEAD", "/"): "open",
    ("GET", "/page/{path:path}"): "open",
    ("HEAD", "/page/{path:path}"): "open",
    ("GET", "/docs"): "open",
    ("GET", "/docs/start.js"): "open",
    ("GET", "/docs/files/{path:path}"): "open",
    ("HEAD", "/docs/files/{path:path}"): "open",
    ("GET", "/openapi.json"): "open",
    ("HEAD", "/openapi.json"): "open",
    ("GET", "/asyncapi.json"): "open",
    ("POST", "/infer"): Scope.infer,
    ("GET", "/stream"): Scope.infer,  # as a WebSocket, and as a question why none would be opened
    ("GET", "/streams"): Scope.infer,
    ("GET", "/sessions/{session_id}"): Scope.infer,
    ("DELETE", "/sessions/{session_id}"): Scope.infer,
    ("GET", "/sessions/{session_id}/state"): Scope.infer,
    ("PUT", "/sessions/{session_id}/state"): Scope.infer,
    ("GET", "/models"): Scope.infer,
    ("GET", "/models/{name}"): Scope.infer,
    ("GET", "/models/{name}/example"): Scope.infer,
    ("GET", "/metrics"): Scope.metrics,
    ("GET", "/v2"): Scope.infer,
    ("GET", "/v2/models/stats"): Scope.metrics,  # of all keys together
    ("GET", "/v2/models/{name}"): Scope.infer,
    ("GET", "/v2/models/{name}/config"): Scope.infer,
    ("GET", "/v2/models/{name}/ready"): Scope.infer,
    ("GET", "/v2/models/{name}/stats"): Scope.metrics,
    ("POST", "/v2/models/{name}/infer"): Scope.infer,
    ("GET", "/v2/models/{name}/versions/{version}"): Scope.infer,
    ("GET", "/v2/models/{name}/versions/{version}/config"): Scope.infer,
    ("GET", "/v2/models/{name}/versions/{version}/ready"): Scope.infer,
    ("GET", "/v2/models/{name}/versions/{version}/stats"): Scope.metrics,
    ("POST", "/v2/models/{name}/versions/{version}/infer"): Scope.infer,
    ("POST", "/v2/repository/index"): Scope.infer,
    ("POST", "/v2/repository/models/{name}/load"): Scope.infer,  # which says how models change
    ("POST", "/v2/repository/models/{name}/unload"): Scope.infer,
}

GRPC: Mapping[str, Need] = {
    "/grpc.health.v1.Health/Check": "open",
    "/inference.GRPCInferenceService/ServerLive": "open",
    "/inference.GRPCInferenceService/ServerReady": "open",
    "/inference.GRPCInferenceService/ServerMetadata": Scope.infer,
    "/inference.GRPCInferenceService/ModelReady": Scope.infer,
    "/inference.GRPCInferenceService/ModelMetadata": Scope.infer,
    "/inference.GRPCInferenceService/ModelConfig": Scope.infer,
    "/inference.GRPCInferenceService/ModelInfer": Scope.infer,
    "/inference.GRPCInferenceService/ModelStreamInfer": Scope.infer,
    "/inference.GRPCInferenceService/ModelStatistics": Scope.metrics,
    "/inference.GRPCInferenceService/RepositoryIndex": Scope.infer,
    "/inference.GRPCInferenceService/RepositoryModelLoad": Scope.infer,
    "/inference.GRPCInferenceService/RepositoryModelUnload": Scope.infer,
}


def need_of(method: str, path: str) -> Need | None:
    """Look up the scope that an HTTP request needs; None if the table lacks it.

    Args:
        path: decoded, without a proxy's prefix.
    """
    if path == "/v2" or path.startswith("/v2/"):  # read as ``api.open_inference`` reads it
        path = f"/v2/{path[3:].strip('/')}".rstrip("/")
    if (need := HTTP.get((method, path))) is not None:
        return need
    return next((need for of, pattern, need in _PATTERNS if of == method and pattern.fullmatch(path)), None)


def methods_of(path: str) -> list[str]:
    """Return the methods that a path takes; none for an unknown path."""
    return [method.value for method in HTTPMethod if need_of(method, path) is not None]


def _pattern(template: str) -> re.Pattern[str]:
    text = re.sub(r"\{\w+\}", "[^/]+", re.escape(template).replace(r"\{", "{").replace(r"\}", "}").replace(r"\:", ":"))
    return re.compile(text.replace("{path:path}", ".+"), re.DOTALL)


_PATTERNS = [(method, _pattern(path), need) for (method, path), need in HTTP.items() if "{" in path]
