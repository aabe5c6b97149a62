"""``/asyncapi.json`` is an AsyncAPI 3.0 document, and says of every frame what the server sends and takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NotRequired, get_origin, get_type_hints

import httpx
import jsonschema_rs
import pytest

from service.live.many_query import PARAMETERS
from service.live.query import _ENVELOPE, _OWN
from service.live.text_frames import CLIENT_FRAMES, SERVER_FRAMES, STREAMS_CLIENT_FRAMES, STREAMS_SERVER_FRAMES
from tests.support.tools import ASYNCAPI_SCHEMA, NO_ASYNCAPI_SCHEMA


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    response = await client.get("/asyncapi.json")
    assert response.status_code == 200
    content: dict[str, Any] = response.json()
    return content


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


async def test_its_references_lead_somewhere_and_its_schemas_are_schemas(document: dict[str, Any]) -> None:
    for reference in references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "http://json-schema.org/draft-07/schema#", **schema})


@pytest.mark.process
@pytest.mark.skipif(not ASYNCAPI_SCHEMA.exists(), reason=NO_ASYNCAPI_SCHEMA)
async def test_it_is_valid_by_the_official_schema(document: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for(json.loads(ASYNCAPI_SCHEMA.read_text()))
    validator.validate(document)
    document["channels"]["stream"]["adress"] = "/stream"
    assert not validator.is_valid(document)


async def test_every_frame_and_parameter_is_in_it(document: dict[str, Any]) -> None:
    expected = {
        "stream": ["Chunk", *(kind.__name__ for kind in (*CLIENT_FRAMES, *SERVER_FRAMES))],
        "streams": [
            "Sessions", "Chunks", "Opened", "Results",
            *(kind.__name__ for kind in (*STREAMS_CLIENT_FRAMES, *STREAMS_SERVER_FRAMES)),
        ],
    }  # fmt: skip
    assert set(document["components"]["messages"]) == {name for names in expected.values() for name in names}
    for channel, names in expected.items():
        assert set(document["channels"][channel]["messages"]) == set(names)
        sides = [
            message["$ref"].rpartition("/")[2]
            for operation in document["operations"].values()
            if operation["channel"]["$ref"] == f"#/channels/{channel}"
            for message in operation["messages"]
        ]
        assert sorted(sides) == sorted(names)
    query = document["channels"]["stream"]["bindings"]["ws"]["query"]
    assert list(query["properties"]) == [*_ENVELOPE, *_OWN]
    many = document["channels"]["streams"]["bindings"]["ws"]["query"]["properties"]
    assert list(many) == list(PARAMETERS)
    assert many["encoding"]["enum"] == ["events", "pcm_s16le", "values"]


@pytest.mark.parametrize(
    "kind", dict.fromkeys((*CLIENT_FRAMES, *SERVER_FRAMES, *STREAMS_CLIENT_FRAMES, *STREAMS_SERVER_FRAMES))
)
async def test_a_frame_has_the_members_of_its_type(document: dict[str, Any], kind: Any) -> None:
    schema = document["components"]["schemas"][kind.__name__]
    members = get_type_hints(kind, include_extras=True)
    assert set(schema["properties"]) == set(members)
    optional = {name for name, hint in members.items() if get_origin(hint) is NotRequired}
    assert set(schema["required"]) == kind.__required_keys__ - optional


@pytest.mark.parametrize("path", ["/stream", "/streams"])
async def test_a_request_that_is_no_handshake_says_so(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(f"{path}?encoding=events")
    assert (response.status_code, response.headers["upgrade"]) == (426, "websocket")
    assert (await client.post(path)).status_code == 405
