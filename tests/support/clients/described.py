"""``/asyncapi.json`` as tests use it: every text frame that a server sends in a test has to be as it says."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema_rs

from service.api.routes.web_socket_pages import asyncapi_document


@cache
def document() -> Any:
    """The document."""
    return json.loads(asyncapi_document())


@cache
def _validator(kind: str) -> jsonschema_rs.Validator:
    """Of the frames of a type; ``/stream`` and ``/streams`` have a ``Begin`` of their own each."""
    components = document()["components"]
    known = [
        schema
        for schema in components["schemas"].values()
        if schema.get("properties", {}).get("type", {}).get("const") == kind
    ]
    assert known, f"/asyncapi.json has no frame of type {kind!r}"
    return jsonschema_rs.validator_for({"anyOf": known, "components": components})


def check_described(frame: dict[str, Any]) -> None:
    """Fail unless the document describes a frame, with all of its members."""
    _validator(frame["type"]).validate(frame)
    named = {
        name
        for schema in document()["components"]["schemas"].values()
        if schema.get("properties", {}).get("type", {}).get("const") == frame["type"]
        for name in schema["properties"]
    }
    assert set(frame) <= named, f"/asyncapi.json does not name {set(frame) - named}"
