"""What is counted."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.runtime.onnx import operator_status
from tests.support.clients.http_calls import metric, ok
from tests.support.clients.json_input import events
from tests.support.paths import ROOT
from tests.support.servers.in_process import ServeHttp
from tests.support.stores.failing_store import FailingStore

PAGE = ROOT / "docs/reference/metrics.md"
PARTS = ("queue", "engine", "store_commit")


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
    assert all(line.startswith(("hetsyn_", "# HELP hetsyn_", "# TYPE hetsyn_")) for line in text.splitlines())


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
    kinds = {name: kind for _, name, kind in re.findall(r"^# (TYPE) (\S+) (\w+)$", text, re.MULTILINE)}
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
