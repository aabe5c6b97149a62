"""Values through HTTP: every encoding, sessions with their guarantees, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hetsyn_client.carried_frame import MEDIA_TYPE as CARRIED_TYPE
from hetsyn_client.carried_frame import pack_frame, unpack_frame
from hetsyn_client.values import content_type, pack_values
from service.runtime.onnx import Array
from tests.support.artifacts.artifact import Takes, write_artifact
from tests.support.artifacts.fake_graph import CHANNELS, ROW, TAIL
from tests.support.clients.http_calls import is_problem, ok, put_state
from tests.support.clients.json_input import audio, events
from tests.support.data.signals import sound
from tests.support.servers.in_process import ServeHttp

STEPS = 30


def rows(channels: int = CHANNELS, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(STEPS, channels)).astype(np.float32)


def in_json(values: Array) -> dict[str, Any]:
    return {"kind": "values", "values": values.tolist()}


@pytest.fixture
async def client(tmp_path: Path, serve: ServeHttp) -> httpx.AsyncClient:
    kinds: tuple[Takes, ...] = ("spikes", "values", "rows", "frames")
    for takes in kinds:
        write_artifact(tmp_path, takes, takes=takes)
    return (await serve(tmp_path)).client


@pytest.mark.parametrize("takes", ["values", "rows", "frames"])
async def test_every_encoding_and_any_chunks_give_the_same_answer(client: httpx.AsyncClient, takes: str) -> None:
    values = rows(ROW if takes == "rows" else CHANNELS)
    expected = await ok(client, model=takes, input=in_json(values), end=True)
    assert expected["steps"] == STEPS + TAIL
    packed, kind = pack_values(values)
    for content, query in ((packed, f"model={takes}&end=true"), (packed, f"model={takes}&end=true&session=a&seq=0")):
        answer = (await client.post(f"/infer?{query}", content=content, headers={"Content-Type": kind})).json()
        assert answer["probabilities"] == expected["probabilities"]
    token = b""
    for seq, part in enumerate(np.split(values, [1, 5, 22])):
        content, kind = pack_values(part)
        end = str(seq == 3).lower()
        answer = (
            await client.post(
                f"/infer?model={takes}&session=b&seq={seq}&end={end}", content=content, headers={"Content-Type": kind}
            )
        ).json()
        framed = await client.post(
            f"/infer?model={takes}&end={end}",
            content=pack_frame(token, kind, content),
            headers={"Content-Type": CARRIED_TYPE},
        )
        assert framed.status_code == 200, framed.text
        token = unpack_frame(framed.content).token
    assert answer["probabilities"] == expected["probabilities"]
    assert json.loads(unpack_frame(framed.content).body)["probabilities"] == expected["probabilities"]


async def test_a_chunk_counts_once_in_whichever_encoding_it_comes_again(client: httpx.AsyncClient) -> None:
    values = rows()
    first = await ok(client, model="values", session="a", seq=0, input=in_json(values))
    packed, kind = pack_values(values)
    again = await client.post("/infer?session=a&seq=0", content=packed, headers={"Content-Type": kind})
    assert again.json() == first
    other = await client.post("/infer", json={"session": "a", "seq": 0, "input": in_json(rows(seed=1))})
    is_problem(other, 409, "")
    described = (await client.get("/sessions/a")).json()
    assert (described["kind"], described["total_steps"], described["expected_seq"]) == ("values", STEPS, 1)


async def test_a_session_of_values_moves(client: httpx.AsyncClient, tmp_path: Path, serve: ServeHttp) -> None:
    values = rows()
    other = (await serve(tmp_path)).client
    await ok(client, model="values", session="a", seq=0, input=in_json(values[:7]))
    exported = (await client.get("/sessions/a/state")).content
    assert (await put_state(other, "a", exported)).status_code == 201
    rest = {"session": "a", "input": in_json(values[7:]), "end": True}
    assert (await ok(other, **rest))["probabilities"] == (await ok(client, **rest))["probabilities"]


async def test_what_a_model_does_not_take_is_refused_with_a_sentence(client: httpx.AsyncClient) -> None:
    for model, chunk, status, sentence in (
        ("spikes", in_json(rows()), 415, "'spikes' takes spikes, not values: send kind 'events' or 'dense'"),
        ("spikes", audio(sound(9)), 415, "'spikes' takes spikes, not audio: send kind 'events' or 'dense'"),
        ("values", audio(sound(9)), 415, "'values' takes values and spikes, not audio: send kind 'values', 'events'"),
        ("values", in_json(rows(5)), 422, "the rows have 5 values, but model 'values' takes 6 a step"),
        ("rows", in_json(rows(5)), 422, "the rows have 5 values, but model 'rows' takes 3 a step"),
        ("values", {"kind": "values", "values": [[1, 2], [3]]}, 422, "values[1] has 1 values, but values[0] has 2"),
        ("values", {"kind": "value", "values": [[1]]}, 415, "send one of audio, events, dense, values"),
        (
            "rows",
            {"kind": "values", "values": [[1] * 3] * 20_001},
            413,
            "the chunk has 20001 steps of 0.01 s, at most 20000 are taken: cut it into several",
        ),
    ):
        is_problem(await client.post("/infer", json={"model": model, "input": chunk}), status, sentence)
    await ok(client, model="rows", session="a", seq=0, input=in_json(rows(ROW)))
    refused = await client.post("/infer", json={"session": "a", "input": events(3)})
    is_problem(refused, 422, "the session began with values: continue with that, or open another session for spikes")
    short = await client.post("/infer?model=values", content=bytes(23), headers={"Content-Type": content_type(6)})
    is_problem(short, 422, "23 bytes are not a whole number of rows of 6 float32")
