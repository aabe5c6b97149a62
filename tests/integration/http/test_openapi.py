"""The OpenAPI document: it names every status that an operation answers with, and the server keeps to it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.api.problems import MEDIA_TYPE as PROBLEM_TYPE
from service.carried.carry_keys import CarryKeys
from service.models.catalog import ModelCatalog
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import load_fake
from tests.support.product import make_app
from tests.support.servers.socket_server import serving

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
CASES = {"POST /infer": 1000, "PUT /sessions/{session_id}/state": 400}  # these have most to go wrong
OTHER_CASES = 150
OPERATIONS = (
    "DELETE /sessions/{session_id}",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
    "GET /models",
    "GET /models/{name}",
    "GET /models/{name}/example",
    "GET /sessions/{session_id}",
    "GET /sessions/{session_id}/state",
    "HEAD /health/live",
    "HEAD /health/ready",
    "POST /infer",
    "PUT /sessions/{session_id}/state",
)
KNOWN = st.sampled_from((None, None, "a", "b"))  # sessions that are often met again
CHECKS: list[Callable[..., Any]] = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder, "digits")
    write_artifact(folder, "tracer", rule="trace")
    app = make_app(
        ModelCatalog(with_default(folder, "digits"), load=load_fake), keys=CarryKeys([bytes(32)]), max_sessions=100
    )
    with serving(app) as url:
        yield url


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{url}/openapi.json").json()
    return document


def test_every_operation_is_tried(document: dict[str, Any]) -> None:
    documented = [f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods]
    assert sorted(documented) == list(OPERATIONS)


def test_references_lead_somewhere_and_problems_have_a_schema(url: str, document: dict[str, Any]) -> None:
    for reference in re.findall(r'"\$ref": "([^"]*)"', json.dumps(document)):
        assert reference.startswith("#/components/schemas/"), reference
        assert reference.rpartition("/")[2] in document["components"]["schemas"], reference
    for operations in document["paths"].values():
        for operation in operations.values():
            contents = [answer.get("content", {}) for answer in operation["responses"].values()]
            kinds = [content[PROBLEM_TYPE] for content in contents if PROBLEM_TYPE in content]
            assert kinds == [{"schema": {"$ref": "#/components/schemas/Problem"}}] * len(kinds)
    assert document["paths"]["/infer"]["post"]["security"] == [{}, {"key": []}]  # this server asks for none
    schema = document["components"]["schemas"]["Problem"]
    assert set(httpx.get(f"{url}/models/none").json()) == set(schema["required"])


@pytest.mark.long
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_server_answers_as_documented(name: str, url: str, document: dict[str, Any]) -> None:
    method, path = name.split(" ")
    operation = schemathesis.openapi.from_dict(document)[path][method]
    cases = operation.as_strategy()
    if name in CASES or "{" in path:
        cases |= operation.as_strategy(schemathesis.GenerationMode.NEGATIVE)

    @settings(
        max_examples=CASES.get(name, OTHER_CASES),
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=cases, known=KNOWN)
    def answers(case: schemathesis.Case[Any], known: str | None) -> None:
        if known is not None and "{session_id}" in path:
            case.path_parameters["session_id"] = known
        if known is not None and isinstance(case.body, dict):
            case.body["session"] = known
        response = case.call(base_url=url, session=client)
        assert response.status_code != 500
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400 and method != "HEAD":
            problem = response.json()
            assert response.headers["content-type"] == [PROBLEM_TYPE]
            assert problem["status"] == response.status_code
            assert problem["detail"]

    with requests.Session() as client:
        answers()


def test_other_methods_are_refused_with_the_ones_that_are_taken(url: str, document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        taken = {method.upper() for method in operations}
        for method in set(METHODS) - taken:
            response = httpx.request(method, url + path.format(session_id="a", name="digits"))
            assert response.status_code == 405, (method, path)
            assert set(response.headers["Allow"].split(", ")) == taken, (method, path)


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("", {"GET"}),
        ("/health/ready", {"GET", "HEAD"}),
        ("/models/digits", {"GET"}),
        ("/models/digits/versions/1/config", {"GET"}),
        ("/models/digits/infer", {"POST"}),
        ("/models/digits/versions/1/infer", {"POST"}),
        ("/repository/index", {"POST"}),
        ("/repository/models/digits/load", {"POST"}),
    ],
)
def test_open_inference_refuses_other_methods_the_same_way(url: str, path: str, taken: set[str]) -> None:
    for method in set(METHODS) - taken:
        response = httpx.request(method, f"{url}/v2{path}")
        assert response.status_code == 405, method
        assert set(response.headers["Allow"].split(", ")) == taken, method


def test_a_session_is_described_as_documented(url: str, document: dict[str, Any]) -> None:
    sound = {"content": bytes(2000), "headers": {"Content-Type": "audio/pcm;encoding=pcm_s16le;rate=8000"}}
    assert httpx.post(f"{url}/infer?session=described&seq=0", **sound).status_code == 200  # type: ignore[arg-type]
    described = httpx.get(f"{url}/sessions/described").json()
    schema = document["components"]["schemas"]["SessionDescription"]
    assert list(described) == list(schema["properties"]) == schema["required"]
