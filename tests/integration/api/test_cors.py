"""Pages of other origins use the server where ``--cors-origin`` allows theirs, and read nothing elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.artifacts.fake_graph import CHANNELS
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


FORMS = ("text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "Multipart/Form-Data; boundary=x")
CHUNK = {"inputs": [{"name": "spikes", "shape": [1, CHANNELS], "datatype": "BOOL", "data": [0] * CHANNELS}]}
INFER, INDEX = "/v2/models/digits/infer", "/v2/repository/index"


@pytest.mark.parametrize("path", [INFER, INDEX])
async def test_open_inference_takes_nothing_that_a_foreign_page_may_send(
    models: Path, serve: ServeHttp, path: str
) -> None:
    client = (await serve(models, cors_origins=("https://A.example:8443",))).client
    begin = {"sequence_id": "kept", "sequence_start": True}
    body = json.dumps(CHUNK | {"parameters": begin}).encode()

    async def status(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await client.post(path, content=body, headers=named)).status_code

    for origin in (OTHER, "null", "http://["):
        assert await status(Origin=origin, Content_Type="application/json") == 403
        assert await status(Origin=origin) == 403  # a blob without a type
    for form in FORMS:
        assert await status(Content_Type=form) == 415
        assert await status(Content_Type=form, Origin=OTHER) == 403
    assert (await client.get("/sessions/kept")).status_code == 404
    own = f"http://{client.base_url.netloc.decode()}"
    for page in ({}, {"Origin": OURS}, {"Origin": own}):
        for kind in ({}, {"Content_Type": "application/json"}, {"Content_Type": "application/octet-stream"}):
            assert await status(**page, **kind) == 200, (page, kind)
