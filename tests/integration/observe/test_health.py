"""Whether a server lives, and whether it is ready."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from service.errors import ArtifactError, HetsynError, RuntimeUnavailable
from tests.support.artifacts.gate import Gate
from tests.support.clients.http_calls import is_problem, metric, ok
from tests.support.clients.json_input import events
from tests.support.servers.in_process import HttpServer, ServeHttp
from tests.support.stores.failing_store import FailingStore


async def test_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/live")).json() == {"status": "live"}
    assert (await client.get("/health/ready")).json() == {"status": "ready"}
    for path in ("/health/live", "/health/ready"):
        assert (await client.head(path)).status_code == 200


async def test_a_server_whose_model_is_damaged_does_not_start(models: Path, serve: ServeHttp) -> None:
    (models / "digits/1/exact.onnx").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="copy the artifact again"):
        await serve()


@pytest.mark.parametrize(("error", "status"), [(ArtifactError, 500), (RuntimeUnavailable, 503)])
async def test_a_server_that_cannot_run_its_models_says_so(
    gate: Gate, error: type[HetsynError], status: int, client: httpx.AsyncClient
) -> None:
    gate.failure = error("it does not run")
    assert (await client.get("/health/live")).status_code == 200
    is_problem(await client.post("/infer", json={"input": events(3)}), status, "it does not run")


async def test_a_server_is_ready_once_its_store_has_answered(serve: ServeHttp) -> None:
    store = FailingStore()
    store.down = True
    client = (await serve(store=store)).client
    is_problem(await client.get("/health/ready"), 503, "session store failed")
    assert (await client.get("/health/live")).status_code == 200
    store.down = False
    assert (await client.get("/health/ready")).status_code == 200
    store.down = True  # every replica's store: none would do better
    assert (await client.get("/health/ready")).status_code == 200


async def test_a_server_that_is_about_to_end_is_not_ready_and_then_takes_nothing(
    server: HttpServer, client: httpx.AsyncClient
) -> None:
    sessions = server.app.state.server
    await ok(client, session="abc", seq=0, input=events(25))
    sessions.admission.leave_rotation()
    refused = is_problem(await client.get("/health/ready"), 503, "shutting down")
    assert refused["type"].endswith("shutting-down")
    assert metric((await client.get("/metrics")).text, "hetsyn_ready") == 0
    await ok(client, session="abc", input=events(25, 1))
    await sessions.admission.stop()
    response = await client.post("/infer", json={"session": "abc", "input": events(25)})
    is_problem(response, 503, "shutting down")
    assert int(response.headers["Retry-After"]) >= 1
    assert (await client.get("/health/live")).status_code == 200
