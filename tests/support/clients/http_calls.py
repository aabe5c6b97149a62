"""Calls of the HTTP interface, and checks of their responses."""

from __future__ import annotations

from typing import Any

import httpx

from service.store.record import MEDIA_TYPE as STATE_TYPE
from tests.support.clients.json_input import Json

PROBLEM = "application/problem+json"


async def ok(client: httpx.AsyncClient, **body: Any) -> Json:
    """The reply to a chunk that is applied."""
    response = await client.post("/infer", json=body)
    assert response.status_code == 200, response.text
    reply: Json = response.json()
    return reply


async def both_go_on(client: httpx.AsyncClient, chunks: list[Json]) -> None:
    """Check that the session "disturbed" answers as "undisturbed" does."""
    for chunk in chunks:
        disturbed = await ok(client, session="disturbed", **chunk)
        assert await ok(client, session="undisturbed", **chunk) == disturbed | {"session": "undisturbed"}


async def put_state(client: httpx.AsyncClient, session: str, content: bytes, **query: Any) -> httpx.Response:
    return await client.put(
        f"/sessions/{session}/state", content=content, params=query, headers={"Content-Type": STATE_TYPE}
    )


def is_problem(response: httpx.Response, status: int, sentence: str) -> Json:
    """The problem that the response is."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    problem: Json = response.json()
    assert problem["status"] == status
    assert sentence in problem["detail"], problem["detail"]
    assert problem["error"] == problem["detail"]
    assert problem["type"].startswith("urn:hetsyn:problem:")
    assert problem["title"]
    return problem


def metric(text: str, name: str) -> float:
    """The value of one metric on the page of ``/metrics``."""
    (value,) = [line.rpartition(" ")[2] for line in text.splitlines() if line.rpartition(" ")[0] == name]
    return float(value)


def applied(url: str) -> float:
    """How many chunks a server has applied."""
    return metric(httpx.get(f"{url}/metrics").text, 'hetsyn_chunks_total{outcome="applied"}')
