"""What is counted."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.keys.caller import Scope
from service.keys.document import utc_now
from service.runtime.onnx import operator_status
from service.settings import AccessSettings
from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.artifacts.gate import Gate
from tests.support.clients.http_calls import metric, ok
from tests.support.clients.json_input import events
from tests.support.clients.live import NOTHING, opened
from tests.support.clients.many import hub, silence
from tests.support.paths import ROOT
from tests.support.servers.in_process import ServeHttp
from tests.support.servers.keyed import add_key, bearer
from tests.support.servers.socket_server import Listening, listening
from tests.support.stores.failing_store import FailingStore
from tests.support.tools import NO_TRITONCLIENT

PAGE = ROOT / "docs/reference/metrics.md"
PARTS = ("queue", "engine", "store_commit")
Door = Callable[[Listening], Awaitable[str]]


async def test_every_refusal_is_counted_once(serve: ServeHttp) -> None:
    server = await serve(max_waiting=1, max_body_bytes=60_000, keys=None)
    client = server.client
    sound_type = {"Content-Type": "audio/pcm;encoding=pcm_s16le;rate=8000"}
    await client.post("/infer", content=bytes(60_001), headers=sound_type)
    await client.post("/infer", content=b"{", headers={"Content-Type": "application/json"})
    await client.post("/infer", content=b"", headers={"Content-Type": "audio/aac"})
    await client.post("/infer", json={"seq": 3, "input": events(3)})
    await client.post("/infer", json={"carry": True, "input": events(3)})
    with server.app.state.server.admission.permit("another"):
        await client.post("/infer", json={"input": events(3)})
    await server.app.state.server.admission.stop()
    await client.post("/infer", json={"input": events(3)})
    text = (await client.get("/metrics")).text
    for error in (
        "too-large", "bad-input", "unsupported-input", "not-found", "carry-unavailable", "overloaded", "shutting-down",
    ):  # fmt: skip
        assert metric(text, f'hetsyn_chunks_refused_total{{error="{error}"}}') == 1


async def test_a_refusal_counts_whatever_was_asked(serve: ServeHttp) -> None:
    client = (await serve()).client
    paths = ("/models/none", "/sessions/none", "/v2/models/none", "/v2/none", "/stream?encoding=events&model=none")
    for path in paths:
        assert (await client.get(path)).status_code == 404
    assert (await client.get("/models/digits/example?index=x")).status_code == 422
    assert (await client.get("/nowhere")).status_code == 404
    assert (await client.get("/infer")).status_code == 405
    text = (await client.get("/metrics")).text
    assert metric(text, 'hetsyn_chunks_refused_total{error="not-found"}') == len(paths)
    assert metric(text, 'hetsyn_chunks_refused_total{error="bad-input"}') == 1
    assert metric(text, 'hetsyn_chunks_refused_total{error="http"}') == 2


async def by_infer(server: Listening) -> str:
    async with server.http() as client:
        return str((await client.post("/infer", json={"input": events(3)})).json()["type"])


async def by_v2(server: Listening) -> str:
    spikes = {"name": "spikes", "datatype": "BOOL", "shape": [1, CHANNELS], "data": [False] * CHANNELS}
    async with server.http() as client:
        return str((await client.post("/v2/models/digits/infer", json={"inputs": [spikes]})).json()["type"])


async def by_stream(server: Listening) -> str:
    socket, _ = await opened(server)
    await socket.send(NOTHING)
    return (await socket.refused())[0]


async def by_streams(server: Listening) -> str:
    many, _ = await hub(server)
    await many.opens("a")
    return str((await many.chunks(silence([0], 0))).more[0]["problem"])


async def by_grpc(server: Listening) -> str:
    pytest.importorskip("tritonclient.grpc", reason=NO_TRITONCLIENT)
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name="digits")
    request.inputs.add(name="spikes", datatype="BOOL", shape=[1, CHANNELS]).contents.bool_contents.extend(
        [False] * CHANNELS
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.parts.grpc.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    return str(caught.value.code().name)


@pytest.mark.parametrize("send", [by_infer, by_v2, by_stream, by_streams, by_grpc])
async def test_an_unexpected_error_is_counted_at_every_door(models: Path, gate: Gate, send: Door) -> None:
    async with listening(models, gate, grpc_port=0 if send is by_grpc else None) as server, server.http() as client:
        line = 'hetsyn_chunks_refused_total{error="internal"}'
        assert metric((await client.get("/metrics")).text, line) == 0
        gate.failure = ZeroDivisionError("a defect")
        for count in (1, 2):
            assert (await send(server)).lower().endswith("internal")
            assert metric((await client.get("/metrics")).text, line) == count


async def test_the_process_is_measured(serve: ServeHttp) -> None:
    client = (await serve(max_session_bytes=7_000_000, max_held_bytes=20_000_000)).client
    before = (await client.get("/metrics")).text
    assert metric(before, f'hetsyn_build_info{{version="{metadata.version("hetsyn")}"}}') == 1
    assert 177e6 < metric(before, "hetsyn_memory_planned_bytes") < 178e6  # with the models
    assert metric(before, "process_resident_memory_bytes") > 1e7
    assert 0 < metric(before, "process_open_fds") < metric(before, "process_max_fds")
    assert metric(before, "process_start_time_seconds") < time.time()
    began_s = time.process_time()
    while time.process_time() < began_s + 0.3:  # the event loop of the server blocks: three wakes are late
        pass
    after = (await client.get("/metrics")).text
    assert metric(after, "process_cpu_seconds_total") >= metric(before, "process_cpu_seconds_total") + 0.25

    def late(text: str) -> float:
        all_, soon = "hetsyn_event_loop_lag_seconds_count", 'hetsyn_event_loop_lag_seconds_bucket{le="0.1"}'
        return metric(text, all_) - metric(text, soon)

    assert late(after) >= late(before) + 1


async def test_a_store_that_is_down_shows(serve: ServeHttp) -> None:
    store = FailingStore()
    server = await serve(store=store)
    for store.down in (False, True, False):
        await server.app.state.server.registry._sweep(0.0)
        text = (await server.client.get("/metrics")).text
        assert metric(text, "hetsyn_store_up") == (not store.down)
    assert "\nhetsyn_store_up " not in (await (await serve()).client.get("/metrics")).text


async def test_the_key_that_expires_next_shows(serve: ServeHttp, tmp_path: Path) -> None:
    path, now = tmp_path / "keys.json", utc_now()
    names = ("reader", "later", "soon", "renewed")
    reader, *_ = (add_key(path, name, (Scope.metrics,)) for name in names)

    async def shown() -> list[float]:
        server.app.state.server.access_keys.refresh()
        text = (await server.client.get("/metrics", headers=bearer(reader))).text
        found = re.findall(r"^hetsyn_key_expiration_timestamp_seconds (\S+)", text, re.MULTILINE)
        return [float(value) - now.timestamp() for value in found]

    server = await serve(access=AccessSettings(keys=path))
    server.clock.now_s = now.timestamp()
    assert await shown() == []
    document = json.loads(path.read_text())
    for key, after_s in zip(document["keys"], (None, 200, 100, 10), strict=True):
        (secret,) = key["secrets"]
        if after_s is not None:
            secret["expires_at"] = (now + timedelta(seconds=after_s)).isoformat()
    key["secrets"].append({**secret, "id": "0" * len(secret["id"]), "expires_at": None})  # so the key stays
    path.write_text(json.dumps(document))
    for next_s in ([100.0], [200.0], []):
        assert await shown() == next_s
        server.clock.now_s += 101


async def test_metrics_count_and_name_no_session(serve: ServeHttp) -> None:
    client = (await serve(store=FailingStore())).client
    for seq in (0, 0, 1):
        await ok(client, session="secret-name", seq=seq, input=events(25, seq))
    await client.post("/infer", json={"session": "secret-name", "seq": 9, "input": events(25)})
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    text = response.text
    assert "secret-name" not in text
    assert metric(text, 'hetsyn_chunks_total{outcome="applied"}') == 2
    assert metric(text, 'hetsyn_chunks_total{outcome="replayed"}') == 1
    assert metric(text, 'hetsyn_chunks_refused_total{error="out-of-order"}') == 1
    assert metric(text, "hetsyn_steps_total") == 50
    assert metric(text, "hetsyn_sessions_held") == 1
    for name in ("request", "queue", "engine", "store_commit"):  # a replay and a refusal count in none of them
        assert metric(text, f'hetsyn_{name}_seconds_count{{model="digits",transport="http"}}') == 2
    assert metric(text, 'hetsyn_batch_chunks_count{model="digits"}') >= 2  # one a segment
    assert metric(text, "hetsyn_store_committed_bytes_total") > 0
    assert metric(text, "hetsyn_ready") == 1
    operator = operator_status()
    labels = f'built="{str(operator.built).lower()}",kernel="{operator.kernel or "none"}"'
    assert metric(text, f"hetsyn_operator{{{labels}}}") == operator.in_use
    assert all(re.match(r"(# (HELP|TYPE) )?(hetsyn|process)_", line) for line in text.splitlines())


async def test_the_text_is_what_a_parser_takes(serve: ServeHttp) -> None:
    client = (await serve(store=FailingStore())).client
    for seq in range(3):
        await ok(client, session="a", seq=seq, input=events(25, seq))
    text = (await client.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name in ("request", "queue", "engine", "store_commit"):
        family = families[f"hetsyn_{name}_seconds"]
        assert family.type == "histogram"
        buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
        counts = [sample.value for sample in buckets]
        assert counts == sorted(counts)
        assert [sample.labels["le"] for sample in buckets[:2]] == ["0.0001", "0.00025"]
        assert (buckets[-1].labels["le"], counts[-1]) == ("+Inf", 3)
    parts = (metric(text, f'hetsyn_{name}_seconds_sum{{model="digits",transport="http"}}') for name in PARTS)
    whole = metric(text, 'hetsyn_request_seconds_sum{model="digits",transport="http"}')
    assert whole == pytest.approx(sum(parts))


async def test_the_page_of_metrics_lists_each_of_them_and_no_other(serve: ServeHttp) -> None:
    text = (await (await serve()).client.get("/metrics")).text
    kinds = dict(re.findall(r"^# TYPE (hetsyn_\S+) (\w+)$", text, re.MULTILINE))
    rows = re.findall(r"^\| `(hetsyn_\w+)` \| (\w+) \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    assert {name: kind for name, kind, _ in rows} == kinds
    assert len(rows) == len(kinds)
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(hetsyn_\w+?)(?:_bucket|_sum|_count)?\{(.*)\}", text, re.MULTILINE):
        found.setdefault(name, set()).update(set(re.findall(r"(\w+)=", labels)) - {"le"})
    for name, _, labels in rows:
        if name in found:
            assert set(re.findall(r"`(\w+)`", labels)) == found[name], name


async def test_names_that_clients_make_up_are_no_labels(serve: ServeHttp) -> None:
    client = (await serve()).client
    before = (await client.get("/metrics")).text.count("\n")
    for number in range(20):
        response = await client.post("/infer", json={"model": f"made-up-{number}", "input": events(3)})
        assert response.status_code == 404
        assert (await client.post(f"/v2/models/made-up-{number}/infer", content=b"{}")).status_code == 404
    text = (await client.get("/metrics")).text
    assert "made-up" not in text
    assert text.count("\n") == before


async def test_dropped_sessions_are_counted_by_reason(serve: ServeHttp) -> None:
    server = await serve(session_idle_s=60)
    await ok(server.client, session="a", seq=0, input=events(3))
    server.clock.now_s += 61
    list(server.app.state.server.registry.sessions.quota.sweeping(server.clock()))
    text = (await server.client.get("/metrics")).text
    assert "hetsyn_store_commit_seconds_count{" not in text  # there is no store
    assert metric(text, 'hetsyn_sessions_dropped_total{reason="idle"}') == 1
    assert metric(text, 'hetsyn_sessions_total{event="dropped"}') == 1
    assert metric(text, 'hetsyn_sessions_by_age{age="<1m"}') == 0
