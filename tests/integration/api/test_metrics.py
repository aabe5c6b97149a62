"""What is counted."""

from __future__ import annotations

from service.runtime.onnx import operator_status
from tests.support.failing_store import FailingStore
from tests.support.http_calls import metric, ok
from tests.support.http_server import ServeHttp
from tests.support.json_input import events


async def test_every_refusal_is_counted_once(serve: ServeHttp) -> None:
    server = await serve(max_waiting=1, max_body_bytes=60_000)
    client = server.client
    sound_type = {"Content-Type": "audio/L16;rate=8000"}
    await client.post("/infer", content=bytes(60_001), headers=sound_type)
    await client.post("/infer", content=b"{", headers={"Content-Type": "application/json"})
    await client.post("/infer", content=b"", headers={"Content-Type": "audio/mpeg"})
    await client.post("/infer", json={"seq": 3, "input": events(3)})
    await client.post("/infer", json={"carry": True, "input": events(3)})
    with server.app.state.server.admission.permit("another"):
        await client.post("/infer", json={"input": events(3)})
    await server.app.state.server.admission.stop()
    await client.post("/infer", json={"input": events(3)})
    text = (await client.get("/metrics")).text
    for error in (
        "TooLarge", "InputError", "UnsupportedInput", "NotFound", "CarryUnavailable", "Overloaded", "ShuttingDown",
    ):  # fmt: skip
        assert metric(text, f'hetsyn_chunks_refused_total{{error="{error}"}}') == 1


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
    assert metric(text, 'hetsyn_chunks_refused_total{error="OutOfOrder"}') == 1
    assert metric(text, "hetsyn_steps_total") == 50
    assert metric(text, "hetsyn_sessions_held") == 1
    assert metric(text, "hetsyn_store_commit_seconds_count") == 2
    assert metric(text, "hetsyn_store_committed_bytes_total") > 0
    assert metric(text, "hetsyn_ready") == 1
    operator = operator_status()
    labels = f'built="{str(operator.built).lower()}",kernel="{operator.kernel or "none"}"'
    assert metric(text, f"hetsyn_operator{{{labels}}}") == operator.in_use
    assert all(line.startswith(("hetsyn_", "# HELP hetsyn_", "# TYPE hetsyn_")) for line in text.splitlines())
