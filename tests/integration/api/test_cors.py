"""Pages of other origins use the server where ``--cors-origin`` allows theirs, and read nothing elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clients.json_input import events
from tests.support.servers.in_process import ServeHttp

OURS, OTHER = "https://a.example:8443", "https://b.example"


@pytest.mark.parametrize(("origin", "allowed"), [(OURS, OURS), (OTHER, None)])
async def test_requests_of_allowed_origins_are_answered(
    models: Path, serve: ServeHttp, origin: str, allowed: str | None
) -> None:
    client = (await serve(models, cors_origins=("https://A.example:8443", "http://localhost:3000"))).client
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, authorization",
    }
    before = await client.options("/infer", headers=asked)
    assert before.status_code == (200 if allowed else 400)
    assert before.headers.get("access-control-allow-origin") == allowed
    if allowed:
        assert "authorization" in before.headers["access-control-allow-headers"]
    body = {"session": "page", "begin": True, "model": "digits", "input": events(2)}
    answered = await client.post("/infer", json=body, headers={"Origin": origin})
    assert (answered.status_code, answered.headers.get("access-control-allow-origin")) == (200, allowed)
    refused = await client.post("/infer", json=body | {"begin": False, "seq": 7}, headers={"Origin": origin})
    assert (refused.status_code, refused.headers.get("access-control-allow-origin")) == (409, allowed)
    other = await client.get("/models", headers={"Origin": origin})
    assert (other.status_code, other.headers.get("access-control-allow-origin")) == (200, allowed)
    for response in (answered, refused, other):
        assert response.headers["vary"] == "Origin" if allowed else True
        assert "access-control-allow-credentials" not in response.headers


async def test_there_is_nothing_for_other_origins_without_the_option(models: Path, serve: ServeHttp) -> None:
    client = (await serve(models)).client
    response = await client.get("/models", headers={"Origin": OURS})
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert (await client.options("/infer", headers={"Origin": OURS})).status_code == 405
