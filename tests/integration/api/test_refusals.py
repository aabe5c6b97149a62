"""What is refused gets a problem, and leaves the session as it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import httpx
import pytest

from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.events import pack_events
from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.clients.http_calls import both_go_on, is_problem, ok
from tests.support.clients.json_input import Json, audio, dense, events
from tests.support.data.signals import sound
from tests.support.data.wav import wav
from tests.support.servers.in_process import HttpServer, ServeHttp

BAD_JSON: Mapping[str, tuple[Json, int, str]] = {
    "unknown model": ({"model": "digitz", "input": events(5)}, 409, "the session runs on model 'digits'"),
    "unknown kind": ({"input": {"kind": "video"}}, 415, "send one of audio, events, dense"),
    "unknown field": ({"input": {**events(5), "label": "seven"}}, 422, "input.label is not a field"),
    "misspelt field": ({"spike": True, "input": events(5)}, 422, "spike is not a field of this request: leave it out; "
        "did you mean spikes?"),
    "misspelt input": ({"inptu": events(5)}, 422, "did you mean input?"),
    "misspelt member": (
        {"input": {"kind": "events", "step": 2, "times": [0], "units": [0]}}, 422,
        "input.step is not a field of this request: leave it out (1 more); did you mean steps?",
    ),
    "misspelt kind": ({"input": {"knd": "events", "steps": 2}}, 422, "input.kind is missing (is it knd?): send one of"),
    "misspelt setting": ({"endpointing": {"silence": 0.5}, "input": events(5)}, 422, "did you mean silence_s?"),
    "unit out of range": (
        {"input": {"kind": "events", "steps": 2, "times": [0], "units": [CHANNELS]}}, 422, f"0-{CHANNELS - 1}"
    ),
    "negative unit": ({"input": {"kind": "events", "steps": 2, "times": [0], "units": [-1]}}, 422, "units[0] is -1"),
    "time outside": ({"input": {"kind": "events", "steps": 2, "times": [2], "units": [0]}}, 422, "times[0] is 2"),
    "lengths differ": ({"input": {"kind": "events", "steps": 2, "times": [0], "units": []}}, 422, "1 times and 0"),
    "NaN": ({"input": {"kind": "dense", "spikes": [[float("nan")] * CHANNELS]}}, 422, "spikes[0][0] is nan"),
    "not 0 or 1": ({"input": {"kind": "dense", "spikes": [[0, 0, 2, 0, 0, 0]]}}, 422, "spikes[0][2] is 2"),
    "wrong width": (
        {"input": {"kind": "dense", "spikes": [[0, 1]]}},
        422,
        "2 values, but model 'digits' has 6 channels",
    ),
    "empty": ({}, 422, "the chunk is empty"),
    "no steps": ({"input": {"kind": "events", "steps": 0, "times": [], "units": []}}, 422, "the chunk is empty"),
    "too many steps": ({"input": {"kind": "events", "steps": 501, "times": [], "units": []}}, 413, "at most 500"),
    "other kind": ({"input": audio(sound(10))}, 422, "the session began with spikes"),
    "other version": ({"version": "9", "input": events(5)}, 409, "version '1', not '9'"),
    "a form": ({"form": "bank", "input": events(5)}, 422, "form is not a parameter any more: leave it out"),
    "gap": ({"seq": 3, "input": events(5)}, 409, "send seq 1 next"),
    "conflict": ({"seq": 0, "input": events(5, seed=9)}, 409, "other content"),
    "bad seq": ({"seq": -1, "input": events(5)}, 422, "seq: "),
    "bad spikes": ({"spikes": 1, "input": events(5)}, 422, "spikes: send true or false"),
    "bad timing": ({"timing": "yes", "input": events(5)}, 422, "timing: send true or false"),
}  # fmt: skip


PCM = "audio/pcm;encoding=pcm_s16le;rate=8000"


@pytest.mark.parametrize("name", BAD_JSON)
async def test_bad_input_gets_a_problem_and_leaves_the_session(client: httpx.AsyncClient, name: str) -> None:
    fields, status, sentence = BAD_JSON[name]
    for session in ("disturbed", "undisturbed"):
        await ok(client, session=session, seq=0, input=events(12))
    content = json.dumps({"session": "disturbed", **fields})
    response = await client.post("/infer", content=content, headers={"Content-Type": "application/json"})
    problem = is_problem(response, status, sentence)
    if name in ("gap", "conflict"):
        assert problem["expected_seq"] == 1
    await both_go_on(client, [{"seq": 1, "input": events(20, 1)}, {"input": dense(7, 2), "end": True}])


BAD_SOUND: Mapping[str, tuple[Json, int, str]] = {
    "truncated base64": ({"input": {**audio(sound(10)), "data": "AAABA"}}, 422, "not complete base64"),
    "data URL": (
        {"input": {**audio(sound(10)), "data": "DATA:audio/wav;base64,AAAA"}}, 422,
        "input.data is a data URL: send what follows its comma",
    ),
    "base64url": (
        {"input": {**audio(sound(10)), "data": "AA-_"}}, 422,
        "input.data is base64url: send base64, with + for -, / for _, and its padding",
    ),
    "half a sample": ({"input": {**audio(sound(10)), "data": "AAAA"}}, 422, "3 bytes are not a whole number"),
    "other rate": ({"input": audio(sound(10), 16_000)}, 422, "8000 Hz, this chunk's is 16000 Hz"),
    "no rate": ({"input": audio(sound(10), 0)}, 422, "sample rate 0 Hz"),
    "other encoding": ({"input": {**audio(sound(10)), "encoding": "aac"}}, 422, "input.encoding"),
    "spikes": ({"input": events(5)}, 422, "the session began with audio"),
    "too long": ({"input": audio(sound(24_000))}, 413, "longer than 60000 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SOUND)
async def test_bad_sound_gets_a_problem_and_leaves_the_session(client: httpx.AsyncClient, name: str) -> None:
    fields, status, sentence = BAD_SOUND[name]
    for session in ("disturbed", "undisturbed"):
        await ok(client, session=session, seq=0, input=audio(sound(1030)))
    is_problem(await client.post("/infer", json={"session": "disturbed", **fields}), status, sentence)
    await both_go_on(client, [{"seq": 1, "input": audio(sound(999, 1))}, {"input": audio(sound(5, 2)), "end": True}])


@pytest.mark.parametrize(
    ("content_type", "content", "query", "status", "sentence"),
    [
        ("application/json", b"{", "", 422, "the body is not JSON"),
        ("application/json; charset=utf-8", b"[1]", "", 422, "the body: send one JSON object"),
        ("application/json", b"{}", "?session=a", 422, "'session': with a JSON body, put it into the body"),
        ("audio/wav", b"RIFF", "", 422, "cut off within its header"),
        ("audio/wav", wav(bytes(100), width=1).replace(b"\x08\0data", b"\x0c\0data"), "", 422, "12-bit"),
        ("audio/wav", wav(bytes(200))[:-10], "", 422, "declares 200 bytes"),
        ("audio/wav", wav(b""), "", 422, "the chunk is empty"),
        ("audio/wav", b"", "", 422, "the chunk is empty"),
        ("audio/wav", b"", "?end=true", 422, "the session is empty"),
        ("audio/L16", bytes(20), "", 422, "needs its sample rate: send content type 'audio/pcm;encoding=pcm_s16le"),
        ("audio/L16;rate=8000", bytes(20), "", 422, "send 'audio/pcm;encoding=pcm_s16le;rate=8000' for the low one"),
        (PCM, bytes(21), "", 422, "21 bytes are not a whole number"),
        ("audio/L16;rate=8000;rate=8000", bytes(20), "", 422, "'rate' occurs twice"),
        (PCM, bytes(20), "?seqq=1", 422, "seqq is not a query parameter"),
        (PCM, bytes(20), "?sesion=a", 422, "spikes, timing; did you mean session?"),
        (PCM, bytes(20), "?seqq=1" + "&" * 31, 422, "seqq is not a query parameter"),
        (PCM, bytes(20), "?seqq=1" + "&" * 32, 422, "the query has more than 32 parameters"),
        (PCM, bytes(20), "?seq=one", 422, "seq: "),
        (PCM, bytes(20), "?seq=1", 404, "begins with seq 0"),
        (PCM, bytes(20), "?spikes=1.5", 422, "spikes: send true or false"),
        (PCM, bytes(20), "?timing=x", 422, "timing: send true or false"),
        (PCM, bytes(20), "?spikes=true&spikes=true", 422, "'spikes' occurs twice"),
        (PCM, bytes(20), "?model=digitz", 404, "no model 'digitz': the server has 'digits'"),
        (PCM, bytes(20), "?version=7", 404, "no version '7', it has '1'"),
        (PCM, bytes(20), "?form=bank", 422, "form is not a parameter any more: leave it out"),
        (PCM, bytes(20), "?session=a%20b", 422, "session is not an id"),
        (EVENTS_TYPE, b"HSE1", "", 422, "does not begin with HSE1"),
        (EVENTS_TYPE, pack_events(5, [1], [1]) + b"x", "", 422, "the body has 17"),
        (EVENTS_TYPE, pack_events(501, [1], [1]), "", 413, "at most 500"),
        ("audio/aac", bytes(20), "", 415, "'audio/aac' is not accepted: send one of application/json"),
        ("audio/webm;codecs=opus", bytes(20), "", 415, "a page sends PCM from an AudioWorklet"),
        ("video/webm", bytes(20), "", 415, "in place of a MediaRecorder's file"),
        ("multipart/form-data; boundary=x", bytes(20), "", 415, "the file itself as the body, with its content type"),
        ("application/x-www-form-urlencoded", b"{}", "", 415, "send one of application/json"),
        ("", b"{}", "", 415, "has no content type"),
        (PCM, bytes(60_001), "", 413, "longer than 60000 bytes"),
    ],
)
async def test_bad_bodies_get_a_problem_and_open_nothing(
    client: httpx.AsyncClient, content_type: str, content: bytes, query: str, status: int, sentence: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await client.post(f"/infer{query}", content=content, headers=headers)
    is_problem(response, status, sentence)
    is_problem(await client.get("/sessions/a"), 404, "no session 'a'")


async def test_a_full_server_says_when_to_come_back(serve: ServeHttp) -> None:
    server = await serve(max_sessions=1, max_waiting=2, client_share=1.0)
    client = server.client
    await ok(client, session="a", seq=0, input=events(9))
    refused = await client.post("/infer", json={"session": "b", "seq": 0, "input": events(9)})
    is_problem(refused, 503, "as many sessions as it takes")
    assert int(refused.headers["Retry-After"]) >= 1
    assert server.gate.entered.acquire(blocking=False)
    server.gate.opened.clear()
    running = [asyncio.create_task(ok(client, session="a", input=events(9, seed))) for seed in range(2)]
    await server.entered()
    refused = await client.post("/infer", json={"session": "a", "input": events(9)})
    is_problem(refused, 503, "as many requests as it takes")
    assert refused.headers["Retry-After"] == "1"
    server.gate.opened.set()
    assert [reply["seq"] for reply in await asyncio.gather(*running)] == [1, 2]


async def test_unexpected_errors_are_problems_without_a_traceback(
    server: HttpServer, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await ok(client, session="disturbed", seq=0, input=events(9))
    await ok(client, session="undisturbed", seq=0, input=events(9))
    server.gate.failure = ZeroDivisionError("secret")
    response = await client.post(
        "/infer", json={"session": "disturbed", "input": events(9)}, headers={"X-Request-ID": "r-1"}
    )
    is_problem(response, 500, "the server failed on this request")
    assert "secret" not in response.text
    assert response.headers["X-Request-ID"] == "r-1"
    assert "secret" in caplog.text
    server.gate.failure = None
    await both_go_on(client, [{"seq": 1, "input": events(20, 1)}])


async def test_unexpected_errors_of_other_paths_are_problems_too(
    server: HttpServer, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(session_id: str) -> None:
        raise ZeroDivisionError(f"secret of {session_id}")

    monkeypatch.setattr(server.app.state.server.registry, "describe", fails)
    response = await client.get("/sessions/a", headers={"X-Request-ID": "r-2"})
    is_problem(response, 500, "the server failed on this request")
    assert "secret" not in response.text
    assert response.headers["X-Request-ID"] == "r-2"


async def test_request_ids_are_echoed(client: httpx.AsyncClient) -> None:
    headers = {"X-Request-ID": "r-7"}
    for response in (
        await client.get("/health/live", headers=headers),
        await client.get("/nowhere", headers=headers),
        await client.post("/infer", json={}, headers=headers),
    ):
        assert response.headers["X-Request-ID"] == "r-7"
    assert "X-Request-ID" not in (await client.get("/health/live")).headers


async def test_the_frameworks_own_errors_are_problems(client: httpx.AsyncClient) -> None:
    is_problem(await client.get("/nowhere"), 404, "nothing at /nowhere: see /docs")
    is_problem(await client.get("/nowhere/"), 404, "nothing at /nowhere/: see /docs")
    for method, path in (("POST", "/infer"), ("GET", "/models"), ("GET", "/sessions/a/state"), ("GET", "/metrics")):
        response = await client.request(method, f"{path}/", headers={"Host": "elsewhere.example"})
        is_problem(response, 404, f"nothing at {path}/: send the request to {path}")
        assert "Location" not in response.headers
    response = await client.get("/infer")
    is_problem(response, 405, "/infer does not take GET")
    assert response.headers["Allow"] == "POST"
