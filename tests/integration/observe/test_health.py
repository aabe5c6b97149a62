"""Whether a server lives, and whether it is ready."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from service.errors import ArtifactError, HetsynError, RuntimeUnavailable, StoreUnusable
from tests.support.artifacts.gate import Gate
from tests.support.clients.http_calls import is_problem, metric, ok
from tests.support.clients.json_input import events
from tests.support.servers.in_process import HttpServer, ServeHttp
from tests.support.stores.failing_store import FailingStore

WITH_GRPC = find_spec("tritonclient") is not None and find_spec("grpc_health") is not None


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


async def readiness(server: HttpServer) -> dict[str, bool]:
    """What each door says of the server."""
    client = server.client
    said = {path: (await client.get(path)).status_code == 200 for path in ("/health/ready", "/v2/health/ready")}
    said["metric"] = metric((await client.get("/metrics")).text, "hetsyn_ready") == 1
    if WITH_GRPC:
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.app.state.server.grpc.port}") as channel:
            inference = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            said["ServerReady"] = (await inference.ServerReady(service_pb2.ServerReadyRequest())).ready
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            said["Check"] = health.status == health_pb2.HealthCheckResponse.SERVING
    return said


async def test_all_doors_agree_on_whether_the_server_is_ready(
    serve: ServeHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def says(*, ready: bool) -> None:
        said = await readiness(server)
        assert said == dict.fromkeys(said, ready)

    async def would_lose_sessions() -> None:
        raise StoreUnusable("it evicts")

    store = FailingStore()
    store.down = True
    server = await serve(store=store, grpc_port=0 if WITH_GRPC else None)
    sweep, client = partial(server.app.state.server.registry._sweep, 0.0), server.client
    await says(ready=False)
    is_problem(await client.get("/health/ready"), 503, "session store failed")
    assert (await client.get("/health/live")).status_code == 200
    store.down = False
    await sweep()
    await says(ready=True)
    store.down = True  # every replica's store: none would do better
    is_problem(
        await client.post("/infer", json={"session": "abc", "seq": 0, "input": events(3)}), 503, "session store failed"
    )
    await sweep()
    await says(ready=True)
    store.down = False
    with monkeypatch.context() as patch:
        patch.setattr(store, "health", would_lose_sessions)
        await sweep()
        await says(ready=False)
    await sweep()
    await says(ready=True)
    server.app.state.server.admission.leave_rotation()
    await says(ready=False)


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
