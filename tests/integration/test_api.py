"""The wire contract, through HTTP without a network; ``docs/http-api.md`` describes what is tested here."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.events import pack_events
from hetsyn_client.frames import MEDIA_TYPE as CARRIED_TYPE
from service.app import create_app
from service.carried.keys import CarryKeys
from service.errors import ArtifactError, RuntimeUnavailable
from service.models.catalog import ModelCatalog
from service.registry.registry import SessionRegistry
from service.runtime.onnx import Array
from service.settings import Settings
from service.store.base import Change, StateStore, Stored
from service.store.record import MEDIA_TYPE as STATE_TYPE
from service.wire.decode import decode_json
from tests.fakes import CHANNELS, LABELS, TAIL, FailingStore, Gate, sound, spikes, write_artifact
from tests.unit.service.wire.test_pcm import wav

PROBLEM = "application/problem+json"
Json = dict[str, Any]


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


class Server:
    """An app on fake models, a client of it, and the knobs of the tests."""

    def __init__(
        self,
        folder: Path,
        gate: Gate,
        default_model: str | None = None,
        *,
        store: StateStore | None = None,
        keys: CarryKeys | None = None,
        **limits: Any,
    ) -> None:
        self.gate = gate
        self.clock = Clock()
        settings = Settings(models=folder, default_model=default_model, engine_inline_s=0.0, **limits)
        catalog = ModelCatalog(folder, default_model, gate.load)
        self.app: FastAPI = create_app(settings, catalog, self.clock, store=store, wall=self.clock, keys=keys)

    def run(self, body: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        async def whole() -> None:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with (
                self.app.router.lifespan_context(self.app),
                httpx.AsyncClient(transport=transport, base_url="http://server") as client,
            ):
                try:
                    await asyncio.wait_for(as_coroutine(body(client)), timeout=30)
                finally:
                    self.gate.opened.set()

        asyncio.run(whole())

    async def entered(self) -> None:
        """Until a graph runs."""
        assert await asyncio.to_thread(self.gate.entered.acquire, timeout=10)


async def as_coroutine(body: Awaitable[None]) -> None:
    await body


async def overwrite(store: StateStore, session: str, change: Callable[[bytes], bytes]) -> bytes:
    """Put something else in place of a record, at revision 7; what it is."""
    (stored,) = await store.load([session])
    assert isinstance(stored, Stored)
    record = change(stored.record)
    await store.commit([Change(session, stored.revision, 7, record, 60.0)])
    return record


@pytest.fixture
def server(models: Path, gate: Gate) -> Server:
    return Server(models, gate, session_idle_s=60, ended_keep_s=10, max_body_bytes=60_000, max_chunk_steps=500)


def audio(samples: Array, rate_hz: int = 8000) -> Json:
    data = base64.b64encode(samples.astype("<i2").tobytes()).decode()
    return {"kind": "audio", "encoding": "pcm_s16le", "sample_rate": rate_hz, "data": data}


def events(steps: int, seed: int = 0) -> Json:
    times, units = spikes(steps, seed)
    return {"kind": "events", "steps": steps, "times": times.tolist(), "units": units.tolist()}


def dense(steps: int, seed: int = 0) -> Json:
    rows = np.zeros((steps, CHANNELS), int)
    rows[spikes(steps, seed)] = 1
    return {"kind": "dense", "spikes": rows.tolist()}


async def ok(client: httpx.AsyncClient, **body: Any) -> Json:
    response = await client.post("/infer", json=body)
    assert response.status_code == 200, response.text
    reply: Json = response.json()
    return reply


def is_problem(response: httpx.Response, status: int, sentence: str) -> Json:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    problem: Json = response.json()
    assert problem["status"] == status
    assert sentence in problem["detail"]
    assert problem["error"] == problem["detail"]
    assert problem["type"].startswith("urn:hetsyn:problem:")
    assert problem["title"]
    return problem


async def test_a_session_from_its_first_chunk_to_its_end(server: Server) -> None:
    # RUN server.run(body) ARGS client
    first = await ok(client, session="abc", model="digits", seq=0, end=False, input=events(25))
    assert set(first) == {
        "session", "model", "version", "form", "seq", "steps", "total_steps", "label", "labels", "probabilities",
        "end",
    }  # fmt: skip
    assert (first["session"], first["model"], first["version"], first["form"]) == ("abc", "digits", "1", "exact")
    assert (first["seq"], first["steps"], first["total_steps"], first["end"]) == (0, 25, 25, False)
    assert first["labels"] == list(LABELS)
    assert sum(first["probabilities"]) == pytest.approx(1)
    assert first["label"] == LABELS[int(np.argmax(first["probabilities"]))]
    last = await ok(client, session="abc", end=True)
    assert (last["seq"], last["steps"], last["total_steps"], last["end"]) == (1, TAIL, 25 + TAIL, True)


async def test_no_label_before_a_step_counts(server: Server) -> None:
    # RUN server.run(body) ARGS client
    reply = await ok(client, input={"kind": "events", "steps": 1, "times": [], "units": []})
    assert reply["label"] is None
    assert reply["probabilities"] == pytest.approx([1 / 3] * 3)


async def test_a_tracer_gives_readouts(tmp_path: Path, gate: Gate) -> None:
    write_artifact(tmp_path, "tracer", rule="trace")
    server = Server(tmp_path, gate)
    # RUN server.run(body) ARGS client
    reply = await ok(client, input=events(25), end=True)
    assert (reply["label"], reply["labels"], reply["probabilities"]) == (None, [], None)
    assert np.array(reply["readout"]).shape == (25 + TAIL, 3)


async def test_every_way_to_send_sound_gives_the_same_answer(server: Server) -> None:
    samples = sound(4000)
    # RUN server.run(body) ARGS client
    big, little = samples.astype(">i2").tobytes(), samples.astype("<i2").tobytes()
    expected = await ok(client, input=audio(samples), end=True)
    for content_type, content in (
        ("audio/wav", wav(little)),
        ("audio/x-wav", wav(little)),
        ("audio/wave", wav(little)),
        ("audio/L16;rate=8000", big),
        ("audio/l16; rate=8000; channels=1", big),
        ("audio/L16;rate=8000;endianness=little-endian", little),
        ("audio/L16;rate=8000;channels=2", samples.astype(">i2").repeat(2).tobytes()),
    ):
        response = await client.post(
            "/infer", params={"end": "true"}, content=content, headers={"Content-Type": content_type}
        )
        assert response.status_code == 200, response.text
        assert response.json() == expected | {"session": response.json()["session"]}


async def test_every_way_to_send_spikes_gives_the_same_answer(server: Server) -> None:
    # RUN server.run(body) ARGS client
    expected = await ok(client, input=events(40), end=True)
    twice = events(40)
    twice["times"], twice["units"] = twice["times"] * 2, twice["units"] * 2
    packed = await client.post(
        "/infer",
        params={"end": "true"},
        content=pack_events(40, *spikes(40)),
        headers={"Content-Type": EVENTS_TYPE},
    )
    for reply in (
        await ok(client, input=dense(40), end=True),
        await ok(client, input=twice, end=True),
        packed.json(),
    ):
        assert reply == expected | {"session": reply["session"]}


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 44_100])
@pytest.mark.parametrize("chunk_s", [0.007, 0.1])
async def test_any_length_of_chunks_gives_the_same_answer(server: Server, rate_hz: int, chunk_s: float) -> None:
    samples = sound(int(0.45 * rate_hz))
    # RUN server.run(body) ARGS client
    expected = await ok(client, input=audio(samples, rate_hz), end=True)
    length = int(chunk_s * rate_hz)
    for seq, begin in enumerate(range(0, len(samples), length)):
        response = await client.post(
            "/infer",
            params={"session": "s", "seq": seq},
            content=samples[begin : begin + length].astype(">i2").tobytes(),
            headers={"Content-Type": f"audio/L16;rate={rate_hz}"},
        )
        assert response.status_code == 200, response.text
    last = await ok(client, session="s", seq=seq + 1, end=True)
    assert last["probabilities"] == expected["probabilities"]
    assert last["total_steps"] == expected["total_steps"]


async def test_query_parameters_name_session_model_version_form_seq_and_end(server: Server) -> None:
    # RUN server.run(body) ARGS client
    query = {"session": "s", "model": "digits", "version": "1", "form": "bank", "seq": "0", "end": "true"}
    response = await client.post(
        "/infer", params=query, content=pack_events(9, [1], [1]), headers={"Content-Type": EVENTS_TYPE}
    )
    assert {name: str(response.json()[name]).lower() for name in query} == query


BAD_JSON: Mapping[str, tuple[Json, int, str]] = {
    "unknown model": ({"model": "digitz", "input": events(5)}, 409, "the session runs on model 'digits'"),
    "unknown kind": ({"input": {"kind": "video"}}, 415, "send one of audio, events, dense"),
    "unknown field": ({"input": {**events(5), "label": "seven"}}, 422, "input.label is not a field"),
    "unit out of range": (
        {"input": {"kind": "events", "steps": 2, "times": [0], "units": [CHANNELS]}}, 422, f"0-{CHANNELS - 1}"
    ),
    "negative unit": ({"input": {"kind": "events", "steps": 2, "times": [0], "units": [-1]}}, 422, "units[0] is -1"),
    "time outside": ({"input": {"kind": "events", "steps": 2, "times": [2], "units": [0]}}, 422, "times[0] is 2"),
    "lengths differ": ({"input": {"kind": "events", "steps": 2, "times": [0], "units": []}}, 422, "1 times and 0"),
    "NaN": ({"input": {"kind": "dense", "spikes": [[float("nan")] * CHANNELS]}}, 422, "spikes[0][0] is nan"),
    "not 0 or 1": ({"input": {"kind": "dense", "spikes": [[0, 0, 2, 0, 0, 0]]}}, 422, "spikes[0][2] is 2"),
    "wrong width": ({"input": {"kind": "dense", "spikes": [[0, 1]]}}, 422, "2 values, model 'digits' has 6 channels"),
    "empty": ({}, 422, "the chunk is empty"),
    "no steps": ({"input": {"kind": "events", "steps": 0, "times": [], "units": []}}, 422, "the chunk is empty"),
    "too many steps": ({"input": {"kind": "events", "steps": 501, "times": [], "units": []}}, 413, "at most 500"),
    "other kind": ({"input": audio(sound(10))}, 422, "the session began with spikes"),
    "other version": ({"version": "9", "input": events(5)}, 409, "version '1', not '9'"),
    "other form": ({"form": "bank", "input": events(5)}, 409, "form 'exact', not 'bank'"),
    "gap": ({"seq": 3, "input": events(5)}, 409, "send seq 1 next"),
    "conflict": ({"seq": 0, "input": events(5, seed=9)}, 409, "other content"),
    "bad seq": ({"seq": -1, "input": events(5)}, 422, "seq: "),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_JSON)
async def test_bad_input_gets_a_problem_and_leaves_the_session(server: Server, name: str) -> None:
    fields, status, sentence = BAD_JSON[name]
    # RUN server.run(body) ARGS client
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
    "half a sample": ({"input": {**audio(sound(10)), "data": "AAAA"}}, 422, "3 bytes are not a whole number"),
    "other rate": ({"input": audio(sound(10), 16_000)}, 422, "8000 Hz, this chunk's is 16000 Hz"),
    "no rate": ({"input": audio(sound(10), 0)}, 422, "sample rate 0 Hz"),
    "other encoding": ({"input": {**audio(sound(10)), "encoding": "mulaw"}}, 422, "input.encoding"),
    "spikes": ({"input": events(5)}, 422, "the session began with audio"),
    "too long": ({"input": audio(sound(24_000))}, 413, "longer than 60000 bytes"),
}


@pytest.mark.parametrize("name", BAD_SOUND)
async def test_bad_sound_gets_a_problem_and_leaves_the_session(server: Server, name: str) -> None:
    fields, status, sentence = BAD_SOUND[name]
    # RUN server.run(body) ARGS client
    for session in ("disturbed", "undisturbed"):
        await ok(client, session=session, input=audio(sound(1030)))
    is_problem(await client.post("/infer", json={"session": "disturbed", **fields}), status, sentence)
    await both_go_on(
        client, [{"seq": 1, "input": audio(sound(999, 1))}, {"input": audio(sound(5, 2)), "end": True}]
    )


async def both_go_on(client: httpx.AsyncClient, chunks: list[Json]) -> None:
    """The disturbed session answers as the undisturbed one does."""
    for chunk in chunks:
        disturbed = await ok(client, session="disturbed", **chunk)
        assert await ok(client, session="undisturbed", **chunk) == disturbed | {"session": "undisturbed"}


@pytest.mark.parametrize(
    ("content_type", "content", "query", "status", "sentence"),
    [
        ("application/json", b"{", "", 422, "the body is not JSON"),
        ("application/json; charset=utf-8", b"[1]", "", 422, "the body: send one JSON object"),
        ("application/json", b"{}", "?session=a", 422, "'session': with a JSON body, put it into the body"),
        ("audio/wav", b"RIFF", "", 422, "cut off within its header"),
        ("audio/wav", wav(bytes(100), width=1), "", 422, "8-bit"),
        ("audio/wav", wav(bytes(200))[:-10], "", 422, "declares 200 bytes"),
        ("audio/wav", wav(b""), "", 422, "the chunk is empty"),
        ("audio/wav", b"", "", 422, "the chunk is empty"),
        ("audio/wav", b"", "?end=true", 422, "the session is empty"),
        ("audio/L16", bytes(20), "", 422, "needs its sample rate"),
        ("audio/L16;rate=8000", bytes(21), "", 422, "21 bytes are not a whole number"),
        ("audio/L16;rate=8000;rate=8000", bytes(20), "", 422, "'rate' is there twice"),
        ("audio/L16;rate=8000", bytes(20), "?seqq=1", 422, "seqq is not a query parameter"),
        ("audio/L16;rate=8000", bytes(20), "?seq=one", 422, "seq: "),
        ("audio/L16;rate=8000", bytes(20), "?seq=1", 404, "begin it with seq 0"),
        ("audio/L16;rate=8000", bytes(20), "?model=digitz", 404, "no model 'digitz': the server has 'digits'"),
        ("audio/L16;rate=8000", bytes(20), "?version=7", 404, "no version '7', it has '1'"),
        ("audio/L16;rate=8000", bytes(20), "?form=sparse", 422, "form: "),
        ("audio/L16;rate=8000", bytes(20), "?session=a%20b", 422, "session is not an id"),
        (EVENTS_TYPE, b"HSE1", "", 422, "does not begin with HSE1"),
        (EVENTS_TYPE, pack_events(5, [1], [1]) + b"x", "", 422, "the body has 17"),
        (EVENTS_TYPE, pack_events(501, [1], [1]), "", 413, "at most 500"),
        ("audio/mpeg", bytes(20), "", 415, "'audio/mpeg' is not taken: send one of application/json"),
        ("application/x-www-form-urlencoded", b"{}", "", 415, "send one of application/json"),
        ("", b"{}", "", 415, "has no content type"),
        ("audio/L16;rate=8000", bytes(60_001), "", 413, "longer than 60000 bytes"),
    ],
)
async def test_bad_bodies_get_a_problem_and_open_nothing(
    server: Server, content_type: str, content: bytes, query: str, status: int, sentence: str
) -> None:
    # RUN server.run(body) ARGS client
    headers = {"Content-Type": content_type} if content_type else {}
    response = await client.post(f"/infer{query}", content=content, headers=headers)
    is_problem(response, status, sentence)
    is_problem(await client.get("/sessions/a"), 404, "no session 'a'")


async def test_a_deaf_model_takes_no_sound(tmp_path: Path, gate: Gate) -> None:
    write_artifact(tmp_path, "deaf", hears=False)
    server = Server(tmp_path, gate)
    # RUN server.run(body) ARGS client
    is_problem(await client.post("/infer", json={"input": audio(sound(10))}), 415, "'deaf' takes spikes, not audio")
    assert (await client.get("/models")).json()["models"][0]["inputs"] == ["events", "dense"]
    assert (await client.get("/models/deaf")).json()["encoder"] is None


async def test_a_repeated_chunk_gets_the_stored_reply(server: Server) -> None:
    # RUN server.run(body) ARGS client
    for seq, end in ((0, False), (1, False), (2, True)):
        chunk = {"session": "s", "seq": seq, "end": end, "input": events(9, seq)}
        first = await client.post("/infer", json=chunk)
        calls = server.gate.calls
        again = await client.post("/infer", json=chunk)
        assert again.content == first.content
        assert server.gate.calls == calls
    dense_again = await client.post("/infer", json=chunk | {"input": dense(9, 2)})
    assert dense_again.content == first.content
    is_problem(await client.post("/infer", json=chunk | {"end": False}), 409, "chunk 2 was applied with other")
    is_problem(await client.post("/infer", json=chunk | {"seq": 3}), 409, "the session has ended")
    is_problem(await client.post("/infer", json={"session": "s", "end": True}), 409, "the session has ended")
    problem = is_problem(await client.post("/infer", json=chunk | {"session": "new"}), 404, "begin it with seq 0")
    assert "expected_seq" not in problem


async def test_chunks_sent_at_once_run_in_order(server: Server) -> None:
    # RUN server.run(body) ARGS client
    server.gate.opened.clear()
    sent = [asyncio.create_task(ok(client, session="s", seq=seq, input=events(9, seq))) for seq in range(6)]
    await server.entered()
    server.gate.opened.set()
    replies = await asyncio.gather(*sent)
    assert [reply["total_steps"] for reply in replies] == [9, 18, 27, 36, 45, 54]
    for seq in range(6):
        alone = await ok(client, session="alone", input=events(9, seq))
    assert alone["probabilities"] == replies[-1]["probabilities"]


async def test_a_cancelled_request_may_be_repeated(server: Server) -> None:
    # RUN server.run(body) ARGS client
    await ok(client, session="s", seq=0, input=events(9))
    assert server.gate.entered.acquire(blocking=False)
    server.gate.opened.clear()
    running = asyncio.create_task(ok(client, session="s", seq=1, input=events(9, 1)))
    await server.entered()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    server.gate.opened.set()
    again = await ok(client, session="s", seq=1, input=events(9, 1))
    assert (again["seq"], again["total_steps"]) == (1, 18)
    last = await ok(client, session="s", seq=2, input=events(9, 2))
    for seq in range(3):
        alone = await ok(client, session="alone", input=events(9, seq))
    assert alone["probabilities"] == last["probabilities"]


async def test_an_idle_session_is_gone(server: Server) -> None:
    # RUN server.run(body) ARGS client
    await ok(client, session="s", seq=0, input=events(9))
    server.clock.now_s += 59
    await ok(client, session="s", seq=1, input=events(9))
    server.clock.now_s += 60
    is_problem(await client.post("/infer", json={"session": "s", "seq": 2, "input": events(9)}), 410, "60 s idle")
    is_problem(await client.get("/sessions/s"), 410, "begin another")
    is_problem(await client.delete("/sessions/s"), 410, "begin another")


async def test_a_full_server_says_when_to_come_back(models: Path, gate: Gate) -> None:
    server = Server(models, gate, max_sessions=1, max_waiting=2)
    # RUN server.run(body) ARGS client
    await ok(client, session="a", input=events(9))
    refused = await client.post("/infer", json={"session": "b", "input": events(9)})
    is_problem(refused, 503, "1 sessions are open")
    assert int(refused.headers["Retry-After"]) >= 1
    assert server.gate.entered.acquire(blocking=False)
    server.gate.opened.clear()
    running = [asyncio.create_task(ok(client, session="a", input=events(9, seed))) for seed in range(2)]
    await server.entered()
    refused = await client.post("/infer", json={"session": "a", "input": events(9)})
    is_problem(refused, 503, "2 requests are waiting")
    assert refused.headers["Retry-After"] == "1"
    server.gate.opened.set()
    assert [reply["seq"] for reply in await asyncio.gather(*running)] == [1, 2]


async def test_sessions_are_looked_at_and_dropped(server: Server) -> None:
    # RUN server.run(body) ARGS client
    is_problem(await client.get("/sessions/s"), 404, "no session 's'")
    is_problem(await client.delete("/sessions/s"), 404, "no session 's'")
    await ok(client, session="s", input=audio(sound(4000)))
    described = (await client.get("/sessions/s")).json()
    assert (described["expected_seq"], described["total_steps"], described["kind"]) == (1, 50, "audio")
    deleted = await client.delete("/sessions/s")
    assert (deleted.status_code, deleted.content) == (204, b"")
    is_problem(await client.get("/sessions/s"), 404, "no session 's'")
    assert (await ok(client, session="s", seq=0, input=events(9)))["total_steps"] == 9


async def test_models_are_listed_and_described(tmp_path: Path, gate: Gate) -> None:
    for name, version in (("digits", "9"), ("digits", "10"), ("words", "1")):
        write_artifact(tmp_path, name, version)
    server = Server(tmp_path, gate)
    # RUN server.run(body) ARGS client
    listed = (await client.get("/models")).json()
    assert listed["default_model"] is None
    assert [(model["name"], model["version"], model["versions"]) for model in listed["models"]] == [
        ("digits", "10", ["9", "10"]),
        ("words", "1", ["1"]),
    ]
    described = (await client.get("/models/digits")).json()
    assert (described["version"], described["versions"]) == ("10", ["9", "10"])
    assert described["forms"]["bank"]["state_bytes"] == 32
    assert (await client.get("/models/digits", params={"version": "9"})).json()["version"] == "9"
    is_problem(await client.get("/models/nothing"), 404, "the server has 'digits', 'words'")
    is_problem(await client.get("/models/digits?version=3"), 404, "it has '9', '10'")
    is_problem(await client.post("/infer", json={"input": events(3)}), 404, "name a model")
    assert (await ok(client, model="words", input=events(3)))["model"] == "words"
    assert (await ok(client, model="digits", version="9", input=events(3)))["version"] == "9"


async def test_health(server: Server) -> None:
    # RUN server.run(body) ARGS client
    assert (await client.get("/health/live")).json() == {"status": "live"}
    assert (await client.get("/health/ready")).json() == {"status": "ready"}
    for path in ("/health/live", "/health/ready"):
        assert (await client.head(path)).status_code == 200


async def test_a_server_whose_model_was_damaged_is_not_ready(models: Path, gate: Gate) -> None:
    server = Server(models, gate)
    (models / "digits/1/exact.onnx").write_bytes(b"other")
    # RUN server.run(body) ARGS client
    is_problem(await client.get("/health/ready"), 503, "copy the artifact again")
    assert (await client.head("/health/ready")).status_code == 503


@pytest.mark.parametrize(("error", "status"), [(ArtifactError, 500), (RuntimeUnavailable, 503)])
async def test_a_server_that_cannot_run_its_models_is_not_ready(
    models: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, error: type[Exception], status: int
) -> None:
    def broken(_: bytes) -> Any:
        raise error("it does not load")

    monkeypatch.setattr(gate, "load", broken)
    server = Server(models, gate)
    # RUN server.run(body) ARGS client
    assert (await client.get("/health/live")).status_code == 200
    is_problem(await client.get("/health/ready"), 503, "it does not load")
    is_problem(await client.post("/infer", json={"input": events(3)}), status, "it does not load")


async def test_unexpected_errors_are_problems_without_a_traceback(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    # RUN server.run(body) ARGS client
    await ok(client, session="disturbed", input=events(9))
    await ok(client, session="undisturbed", input=events(9))
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


async def test_request_ids_are_echoed(server: Server) -> None:
    # RUN server.run(body) ARGS client
    headers = {"X-Request-ID": "r-7"}
    for response in (
        await client.get("/health/live", headers=headers),
        await client.get("/nowhere", headers=headers),
        await client.post("/infer", json={}, headers=headers),
    ):
        assert response.headers["X-Request-ID"] == "r-7"
    assert "X-Request-ID" not in (await client.get("/health/live")).headers


async def test_the_frameworks_own_errors_are_problems(server: Server) -> None:
    # RUN server.run(body) ARGS client
    is_problem(await client.get("/nowhere"), 404, "nothing at /nowhere")
    response = await client.get("/infer")
    is_problem(response, 405, "/infer does not take GET")
    assert response.headers["Allow"] == "POST"


async def test_openapi_describes_the_body_with_examples_that_work(server: Server) -> None:
    # RUN server.run(body) ARGS client
    document = (await client.get("/openapi.json")).json()
    infer = document["paths"]["/infer"]["post"]
    content = infer["requestBody"]["content"]
    assert list(content) == [
        "application/json", "audio/wav", "audio/L16;rate=8000", EVENTS_TYPE, CARRIED_TYPE,
    ]  # fmt: skip
    assert "$ref" not in json.dumps(content)
    for example in content["application/json"]["examples"].values():
        decode_json(json.dumps(example["value"]).encode())
    assert {parameter["name"] for parameter in infer["parameters"]} == {
        "session", "model", "version", "form", "seq", "end", "carry",
    }  # fmt: skip
    assert {"200", "404", "409", "410", "413", "415", "422", "501", "503"} <= set(infer["responses"])


def metric(text: str, name: str) -> float:
    (value,) = [line.rpartition(" ")[2] for line in text.splitlines() if line.rpartition(" ")[0] == name]
    return float(value)


async def put_state(client: httpx.AsyncClient, session: str, content: bytes, **query: Any) -> httpx.Response:
    return await client.put(
        f"/sessions/{session}/state", content=content, params=query, headers={"Content-Type": STATE_TYPE}
    )


@pytest.mark.parametrize("stored", [False, True])
async def test_a_session_is_exported_and_imported(models: Path, gate: Gate, stored: bool) -> None:
    server = Server(models, gate, store=FailingStore() if stored else None)
    # RUN server.run(body) ARGS client
    for seq in range(2):
        await ok(client, session="abc", seq=seq, input=events(25, seq))
    exported = await client.get("/sessions/abc/state")
    assert exported.status_code == 200
    assert exported.headers["content-type"] == STATE_TYPE
    imported = await put_state(client, "def", exported.content)
    assert imported.status_code == 201, imported.text
    assert imported.json() == (await client.get("/sessions/def")).json()
    assert imported.json()["idle_s"] == 0
    assert imported.json()["expected_seq"] == 2
    last = [await ok(client, session=name, seq=2, end=True, input=events(25, 2)) for name in ("abc", "def")]
    assert last[1] == last[0] | {"session": "def"}
    is_problem(await put_state(client, "abc", exported.content), 409, "replace=true")
    replaced = await put_state(client, "abc", exported.content, replace="true")
    assert replaced.status_code == 200
    assert replaced.json()["ended"] is False
    again = await client.get("/sessions/abc/state")
    assert len(again.content) == len(exported.content)


async def test_an_export_needs_a_session_and_an_import_a_good_one(server: Server) -> None:
    # RUN server.run(body) ARGS client
    is_problem(await client.get("/sessions/abc/state"), 404, "no session 'abc'")
    await ok(client, session="abc", input=events(25))
    content = (await client.get("/sessions/abc/state")).content
    for bad, slug in (
        (b"", "state-truncated"),
        (b"anything else", "state-foreign"),
        (content[:-5], "state-truncated"),
        (content[:200] + bytes([content[200] ^ 8]) + content[201:], "state-corrupt"),
        (content[:4] + b"\x02" + content[5:], "state-format"),
    ):
        problem = is_problem(await put_state(client, "def", bad), 422, "packed session")
        assert problem["type"].endswith(slug)
    is_problem(await client.get("/sessions/def"), 404, "no session")
    wrong_type = await client.put("/sessions/def/state", content=content, headers={"Content-Type": "text/plain"})
    is_problem(wrong_type, 415, "application/vnd.hetsyn.session")
    is_problem(await put_state(client, "d%20f", content), 422, "session_id")
    is_problem(await put_state(client, "def", bytes(60_001)), 413, "60000 bytes")
    as_bytes = {"Content-Type": "application/octet-stream"}
    assert (await client.put("/sessions/def/state", content=content, headers=as_bytes)).status_code == 201


def test_an_import_needs_the_model_that_it_began_on(tmp_path: Path, gate: Gate) -> None:
    write_artifact(tmp_path / "one", "digits", "1")
    write_artifact(tmp_path / "other", "digits", "1", change={"provenance": {"seed": 8}})
    exported: list[bytes] = []

    async def export(client: httpx.AsyncClient) -> None:
        await ok(client, session="abc", input=events(25))
        exported.append((await client.get("/sessions/abc/state")).content)

    async def refuse(client: httpx.AsyncClient) -> None:
        problem = is_problem(await put_state(client, "abc", exported[0]), 422, "another content of model 'digits'")
        assert problem["type"].endswith("model-changed")

    Server(tmp_path / "one", gate).run(export)
    Server(tmp_path / "other", gate).run(refuse)


async def test_a_store_that_is_down_gives_503_and_the_session_goes_on(models: Path, gate: Gate) -> None:
    store = FailingStore()
    server = Server(models, gate, store=store)
    # RUN server.run(body) ARGS client
    await ok(client, session="abc", seq=0, input=events(25))
    store.down = True
    refused = await client.post("/infer", json={"session": "abc", "seq": 1, "input": events(25, 1)})
    is_problem(refused, 503, "session store failed")
    assert int(refused.headers["Retry-After"]) >= 1
    is_problem(await client.get("/sessions/abc"), 503, "session store failed")
    text = (await client.get("/metrics")).text
    assert metric(text, 'hetsyn_store_failures_total{error="StoreUnavailable"}') == 2
    store.down = False
    assert (await ok(client, session="abc", seq=1, input=events(25, 1)))["total_steps"] == 50
    assert store.closed


async def test_a_task_that_died_does_not_keep_the_store_from_being_closed(
    models: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(_: SessionRegistry) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(SessionRegistry, "sweep_forever", dies)
    store = FailingStore()
    server = Server(models, gate, store=store)
    # RUN server.run(body) ARGS client
    await ok(client, session="abc", seq=0, input=events(25))
    assert store.closed


async def test_what_is_damaged_in_the_store_is_a_conflict(models: Path, gate: Gate) -> None:
    store = FailingStore()
    server = Server(models, gate, store=store)
    # RUN server.run(body) ARGS client
    await ok(client, session="abc", seq=0, input=events(25))
    await overwrite(store, "abc", lambda record: record[:-1])
    refused = await client.post("/infer", json={"session": "abc", "seq": 1, "input": events(25, 1)})
    assert is_problem(refused, 409, "cut off")["type"].endswith("state-truncated")
    assert (await client.delete("/sessions/abc")).status_code == 204


async def test_a_server_is_ready_once_its_store_has_answered(models: Path, gate: Gate) -> None:
    store = FailingStore()
    store.down = True
    server = Server(models, gate, store=store)
    # RUN server.run(body) ARGS client
    is_problem(await client.get("/health/ready"), 503, "session store failed")
    assert (await client.get("/health/live")).status_code == 200
    store.down = False
    assert (await client.get("/health/ready")).status_code == 200
    store.down = True  # every replica's store: none would do better
    assert (await client.get("/health/ready")).status_code == 200


async def test_a_server_that_is_about_to_end_is_not_ready_and_then_takes_nothing(server: Server) -> None:
    # RUN server.run(body) ARGS client
    sessions = server.app.state.sessions
    await ok(client, session="abc", input=events(25))
    sessions.admissions.leave_rotation()
    refused = is_problem(await client.get("/health/ready"), 503, "shutting down")
    assert refused["type"].endswith("shutting-down")
    assert metric((await client.get("/metrics")).text, "hetsyn_ready") == 0
    await ok(client, session="abc", input=events(25, 1))
    await sessions.admissions.stop()
    response = await client.post("/infer", json={"session": "abc", "input": events(25)})
    is_problem(response, 503, "shutting down")
    assert int(response.headers["Retry-After"]) >= 1
    assert (await client.get("/health/live")).status_code == 200


async def test_every_refusal_is_counted_once(models: Path, gate: Gate) -> None:
    server = Server(models, gate, max_waiting=1, max_body_bytes=60_000)
    # RUN server.run(body) ARGS client
    sound_type = {"Content-Type": "audio/L16;rate=8000"}
    await client.post("/infer", content=bytes(60_001), headers=sound_type)
    await client.post("/infer", content=b"{", headers={"Content-Type": "application/json"})
    await client.post("/infer", content=b"", headers={"Content-Type": "audio/mpeg"})
    await client.post("/infer", json={"seq": 3, "input": events(3)})
    await client.post("/infer", json={"carry": True, "input": events(3)})
    with server.app.state.sessions.admission():
        await client.post("/infer", json={"input": events(3)})
    await server.app.state.sessions.admissions.stop()
    await client.post("/infer", json={"input": events(3)})
    text = (await client.get("/metrics")).text
    for error in (
        "TooLarge", "InputError", "UnsupportedInput", "NotFound", "CarryUnavailable", "Overloaded", "ShuttingDown",
    ):  # fmt: skip
        assert metric(text, f'hetsyn_chunks_refused_total{{error="{error}"}}') == 1


async def test_who_looks_at_sessions_takes_a_place_too(models: Path, gate: Gate) -> None:
    server = Server(models, gate, max_waiting=1)
    # RUN server.run(body) ARGS client
    await ok(client, session="abc", input=events(25))
    admissions = server.app.state.sessions.admissions

    async def ask() -> list[httpx.Response]:
        return [
            await client.get("/sessions/abc"),
            await client.get("/sessions/abc/state"),
            await client.delete("/sessions/abc"),
        ]

    with admissions:
        for response in await ask():
            is_problem(response, 503, "1 requests are waiting")
            assert response.headers["Retry-After"] == "1"
    assert admissions.in_flight == 0
    assert [response.status_code for response in await ask()] == [200, 200, 204]
    await admissions.stop()
    for response in await ask():
        is_problem(response, 503, "shutting down")


async def test_metrics_count_and_name_no_session(models: Path, gate: Gate) -> None:
    server = Server(models, gate, store=FailingStore())
    # RUN server.run(body) ARGS client
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
    assert all(line.startswith(("hetsyn_", "# HELP hetsyn_", "# TYPE hetsyn_")) for line in text.splitlines())
