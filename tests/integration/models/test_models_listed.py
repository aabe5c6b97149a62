"""The models that a server lists, and the interface that it describes."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.values import content_type
from service.runtime.onnx import operator_status
from service.runtime.operators import MODE
from service.wire.decode import decode_json
from tests.support.artifacts.artifact import Takes, write_artifact
from tests.support.clients.http_calls import is_problem, ok
from tests.support.clients.json_input import events
from tests.support.servers.in_process import ServeHttp


@pytest.mark.parametrize(
    ("takes", "inputs"),
    [
        ("spikes", ["events", "dense"]),
        ("audio", ["audio", "events", "dense"]),
        ("values", ["values", "events", "dense"]),
        ("rows", ["values", "events", "dense"]),
        ("frames", ["audio", "values", "events", "dense"]),
    ],
)
async def test_a_model_says_what_it_takes(tmp_path: Path, serve: ServeHttp, takes: Takes, inputs: list[str]) -> None:
    write_artifact(tmp_path, takes=takes)
    client = (await serve(tmp_path)).client
    assert (await client.get("/models")).json()["models"][0]["inputs"] == inputs
    described = (await client.get("/models/digits")).json()
    assert described["inputs"] == inputs
    assert described["input"]["kind"] == ("values" if takes in ("values", "frames") else "spikes")
    assert (described["encoder"] is None) == (takes in ("spikes", "values"))


async def test_models_are_listed_and_described(tmp_path: Path, serve: ServeHttp) -> None:
    for name, version in (("digits", "9"), ("digits", "10"), ("words", "1")):
        write_artifact(tmp_path, name, version)
    server = await serve(tmp_path)
    client = server.client
    listed = (await client.get("/models")).json()
    assert listed["default_model"] is None
    operator = operator_status()
    expected = {"in_use": operator.in_use, "built": operator.built, "kernel": operator.kernel}
    assert listed["operator"] == expected
    assert [(model["name"], model["version"], model["versions"]) for model in listed["models"]] == [
        ("digits", "10", ["9", "10"]),
        ("words", "1", ["1"]),
    ]
    described = (await client.get("/models/digits")).json()
    assert (described["version"], described["versions"]) == ("10", ["9", "10"])
    assert described["network"]["state_bytes"] == 32
    assert (await client.get("/models/digits", params={"version": "9"})).json()["version"] == "9"
    is_problem(await client.get("/models/nothing"), 404, "the server has 'digits', 'words'")
    is_problem(await client.get("/models/digits?version=3"), 404, "it has '9', '10'")
    is_problem(await client.post("/infer", json={"input": events(3)}), 404, "name a model")
    assert (await ok(client, model="words", input=events(3)))["model"] == "words"
    assert (await ok(client, model="digits", version="9", input=events(3)))["version"] == "9"


async def test_openapi_describes_the_body_with_examples_that_work(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    infer = document["paths"]["/infer"]["post"]
    content = infer["requestBody"]["content"]
    assert list(content) == [
        "application/json", "audio/pcm;encoding=pcm_s16le;rate=8000", "audio/wav", "audio/flac", "audio/ogg",
        "audio/mpeg", "audio/L16;rate=8000;endianness=big-endian", "audio/L24;rate=8000", "audio/PCMU", "audio/PCMA",
        "audio/basic", EVENTS_TYPE, content_type(3),
    ]  # fmt: skip
    assert "$ref" not in json.dumps(content)
    for example in content["application/json"]["examples"].values():
        decode_json(json.dumps(example["value"]).encode())
    assert {parameter["name"] for parameter in infer["parameters"]} == {
        "session", "model", "version", "seq", "begin", "end", "carry", "endpointing", "spikes", "timing",
    }  # fmt: skip
    assert {"200", "404", "409", "410", "413", "415", "422", "501", "503"} <= set(infer["responses"])


async def test_a_server_on_plain_onnx_says_so(
    tmp_path: Path, serve: ServeHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODE, "off")
    write_artifact(tmp_path)
    client = (await serve(tmp_path)).client
    assert (await client.get("/models")).json()["operator"] == {"in_use": False, "built": False, "kernel": None}
    assert 'hetsyn_operator{built="false",kernel="none"} 0.0' in (await client.get("/metrics")).text
