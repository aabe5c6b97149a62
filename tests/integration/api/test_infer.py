"""Chunks and replies, through HTTP without a network; ``docs/reference/http-api.md`` describes what is tested here."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest

from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.events import pack_events
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import LABELS, TAIL
from tests.support.clients.http_calls import is_problem, ok
from tests.support.clients.json_input import audio, dense, events
from tests.support.data.signals import sound, spikes
from tests.support.servers.in_process import HttpServer, ServeHttp


async def test_a_session_from_its_first_chunk_to_its_end(client: httpx.AsyncClient) -> None:
    first = await ok(client, session="abc", model="digits", seq=0, end=False, input=events(25))
    assert set(first) == {
        "session", "model", "version", "seq", "steps", "total_steps", "label", "labels", "probabilities",
        "end",
    }  # fmt: skip
    assert (first["session"], first["model"], first["version"]) == ("abc", "digits", "1")
    assert (first["seq"], first["steps"], first["total_steps"], first["end"]) == (0, 25, 25, False)
    assert first["labels"] == list(LABELS)
    assert sum(first["probabilities"]) == pytest.approx(1)
    assert first["label"] == LABELS[int(np.argmax(first["probabilities"]))]
    last = await ok(client, session="abc", end=True)
    assert (last["seq"], last["steps"], last["total_steps"], last["end"]) == (1, TAIL, 25 + TAIL, True)


async def test_no_label_before_a_step_counts(client: httpx.AsyncClient) -> None:
    reply = await ok(client, input={"kind": "events", "steps": 1, "times": [], "units": []})
    assert reply["label"] is None
    assert reply["probabilities"] == pytest.approx([1 / 3] * 3)


async def test_a_tracer_gives_readouts(tmp_path: Path, serve: ServeHttp) -> None:
    write_artifact(tmp_path, "tracer", rule="trace")
    client = (await serve(tmp_path)).client
    reply = await ok(client, input=events(25), end=True)
    assert (reply["label"], reply["labels"], reply["probabilities"]) == (None, [], None)
    assert np.array(reply["readout"]).shape == (25 + TAIL, 3)


async def test_every_way_to_send_spikes_gives_the_same_answer(client: httpx.AsyncClient) -> None:
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


@pytest.mark.parametrize(("rate_hz", "chunk_s"), [(8000, 0.1), (11_025, 0.007), (44_100, 0.007)])
async def test_any_length_of_chunks_gives_the_same_answer(
    client: httpx.AsyncClient, rate_hz: int, chunk_s: float
) -> None:
    samples = sound(int(0.45 * rate_hz))
    expected = await ok(client, input=audio(samples, rate_hz), end=True)
    length = int(chunk_s * rate_hz)
    for seq, begin in enumerate(range(0, len(samples), length)):
        response = await client.post(
            "/infer",
            params={"session": "s", "seq": seq},
            content=samples[begin : begin + length].astype("<i2").tobytes(),
            headers={"Content-Type": f"audio/pcm;encoding=pcm_s16le;rate={rate_hz}"},
        )
        assert response.status_code == 200, response.text
    last = await ok(client, session="s", seq=seq + 1, end=True)
    assert last["probabilities"] == expected["probabilities"]
    assert last["total_steps"] == expected["total_steps"]


async def test_query_parameters_name_session_model_version_form_seq_and_end(client: httpx.AsyncClient) -> None:
    query = {"session": "s", "model": "digits", "version": "1", "seq": "0", "end": "true"}
    response = await client.post(
        "/infer", params=query, content=pack_events(9, [1], [1]), headers={"Content-Type": EVENTS_TYPE}
    )
    assert {name: str(response.json()[name]).lower() for name in query} == query


async def test_a_repeated_chunk_gets_the_stored_reply(server: HttpServer, client: httpx.AsyncClient) -> None:
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
    problem = is_problem(await client.post("/infer", json=chunk | {"session": "new"}), 404, "begins with seq 0")
    assert "expected_seq" not in problem


async def test_chunks_sent_at_once_run_in_order(server: HttpServer, client: httpx.AsyncClient) -> None:
    server.gate.opened.clear()
    sent = [asyncio.create_task(ok(client, session="s", seq=seq, input=events(9, seq))) for seq in range(6)]
    await server.entered()
    server.gate.opened.set()
    replies = await asyncio.gather(*sent)
    assert [reply["total_steps"] for reply in replies] == [9, 18, 27, 36, 45, 54]
    for seq in range(6):
        alone = await ok(client, session="alone", seq=seq, input=events(9, seq))
    assert alone["probabilities"] == replies[-1]["probabilities"]


async def test_a_cancelled_request_may_be_repeated(server: HttpServer, client: httpx.AsyncClient) -> None:
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
        alone = await ok(client, session="alone", seq=seq, input=events(9, seq))
    assert alone["probabilities"] == last["probabilities"]
