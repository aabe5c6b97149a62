"""Bodies over HTTP, as other programs than Triton's clients write them, and those that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.open_inference.json_body import MAX_JSON_BYTES
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import CHANNELS, LABELS
from tests.support.data.signals import sound
from tests.support.servers.in_process import HttpServer, ServeHttp

URL = "/v2/models/digits/infer"
HEADER = "Inference-Header-Content-Length"
ROWS = np.eye(3, CHANNELS, dtype=np.uint8)
SPIKES = {"name": "spikes", "datatype": "BOOL", "shape": [3, CHANNELS]}
JSON = {"inputs": [{**SPIKES, "data": ROWS.tolist()}]}


def binary(body: dict[str, Any], *tensors: bytes) -> tuple[bytes, dict[str, str]]:
    described = json.dumps(body).encode()
    return described + b"".join(tensors), {HEADER: str(len(described))}


async def numbers(client: httpx.AsyncClient, body: Any = None, **more: Any) -> list[float]:
    """The probabilities of a reply in JSON."""
    response = await client.post(URL, json=body, **more) if body is not None else await client.post(URL, **more)
    assert response.status_code == 200, response.text
    found: list[float] = response.json()["outputs"][0]["data"]
    return found


async def test_numbers_flat_nested_true_and_raw_are_the_same(client: httpx.AsyncClient) -> None:
    expected = await numbers(client, JSON)
    flat, truths = ROWS.reshape(-1).tolist(), ROWS.astype(bool).tolist()
    for data in (flat, truths, ROWS.astype(float).tolist()):
        assert await numbers(client, {"inputs": [{**SPIKES, "data": data}]}) == expected
    as_floats = {**SPIKES, "datatype": "FP32", "data": flat}
    assert await numbers(client, {"inputs": [as_floats]}) == expected
    content, headers = binary({"inputs": [{**SPIKES, "parameters": {"binary_data_size": ROWS.size}}]}, ROWS.tobytes())
    assert await numbers(client, content=content, headers=headers) == expected
    assert await numbers(client, content=content, headers={**headers, "Content-Encoding": "identity"}) == expected


async def test_outputs_are_chosen_one_by_one(client: httpx.AsyncClient) -> None:
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}]
    body = {**JSON, "id": "r1", "outputs": wanted}
    response = await client.post(URL, json=body)
    length = int(response.headers[HEADER])
    header = json.loads(response.content[:length])
    assert (header["id"], header["model_name"], header["model_version"]) == ("r1", "digits", "1")
    probabilities, label = header["outputs"]
    assert probabilities["parameters"] == {"binary_data_size": 12}
    assert label["data"][0] in LABELS
    expected = await numbers(client, JSON)
    assert response.content[length:] == np.array(expected, np.float32).tobytes()


async def test_a_body_may_be_the_only_input(client: httpx.AsyncClient) -> None:
    samples = (sound(800) / np.float32(32_768)).astype("<f4")
    expected = await numbers(
        client, {"inputs": [{"name": "audio", "datatype": "FP32", "shape": [800], "data": samples.tolist()}]}
    )
    response = await client.post(URL, content=samples.tobytes(), headers={HEADER: "0"})
    assert response.status_code == 200
    length = int(response.headers[HEADER])
    assert response.content[length : length + 12] == np.array(expected, np.float32).tobytes()
    response = await client.post(URL, content=samples.tobytes()[:-1], headers={HEADER: "0"})
    assert (response.status_code, "whole rows" in response.json()["error"]) == (422, True)


async def test_sound_of_another_rate(client: httpx.AsyncClient) -> None:
    samples = sound(1600)
    tensor = {"name": "audio", "datatype": "INT16", "shape": [1600], "data": samples.tolist()}
    found = await numbers(client, {"inputs": [tensor], "parameters": {"sample_rate": 16_000}})
    raw = await client.post(
        "/infer?end=true",
        content=samples.astype("<i2").tobytes(),
        headers={"Content-Type": "audio/pcm;encoding=pcm_s16le;rate=16000"},
    )
    assert found == raw.json()["probabilities"]


async def test_a_long_reply_is_not_compressed(tmp_path: Path, serve: ServeHttp) -> None:
    write_artifact(tmp_path, "tracer", rule="trace")
    client = (await serve(tmp_path)).client
    body = {"inputs": [{**SPIKES, "shape": [400, CHANNELS], "data": [0, 1, 0] * (2 * 400)}]}
    reply = await client.post("/v2/models/tracer/infer", json=body, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in reply.headers
    assert reply.json()["outputs"][0]["shape"] == [403, 3]


NO_RATES: list[Any] = ["8000", 0, "", [], False]
BAD_JSON: list[tuple[Any, str | None]] = [
    ([], "the body: send an object"),
    ({"inputs": 5}, "inputs: send a list"),
    ({"inputs": [1]}, "inputs[0]: send an object"),
    ({"inputs": [{}] * 17}, "inputs has 17 items"),
    ({"inputs": [SPIKES]}, "inputs[0].data: send a list"),
    ({"inputs": [{**SPIKES, "data": [1]}]}, "has 1 numbers and the shape"),
    ({"inputs": [{**SPIKES, "data": ["1"] * 18}]}, "data that are no numbers"),
    ({"inputs": [{**SPIKES, "data": [None] * 18}]}, "data that are no numbers"),
    ({"inputs": [{**SPIKES, "data": [10**400] * 18}]}, "data that are no numbers"),
    ({"inputs": [{**SPIKES, "data": [2] * 18}]}, "cannot hold"),
    ({"inputs": [{**SPIKES, "data": [[0] * CHANNELS] * 2 + [1]}]}, "rows of other lengths"),
    ({"inputs": [{**SPIKES, "data": [[0] * 9] * 2}]}, "rows of other lengths"),
    ({"inputs": [{**SPIKES, "shape": None}]}, "inputs[0].shape: send a list"),
    ({"inputs": [{**SPIKES, "shape": [True, 18], "data": []}]}, "inputs[0].shape: send whole numbers"),
    ({"inputs": [{**SPIKES, "shape": [-1, 18], "data": [1] * 18}]}, "send [steps, channels]"),
    ({"inputs": [{**SPIKES, "shape": [2**31 - 1, 2**31 - 1], "data": [1]}]}, "has 1 numbers and the shape"),
    ({"inputs": [{**SPIKES, "shape": [1] * 9, "data": [1]}]}, "inputs[0].shape: send whole numbers"),
    ({"inputs": [{**SPIKES, "name": None, "data": [1]}]}, "inputs[0].name: send one of"),
    ({"inputs": [{**SPIKES, "name": "x", "data": [1]}]}, "no input 'x'"),
    ({"inputs": [{**SPIKES, "datatype": 1, "data": [1]}]}, "inputs[0].datatype: send a string"),
    ({"inputs": [{**SPIKES, "parameters": {"binary_data_size": 5}}]}, "binary_data_size: send the number"),
    ({"inputs": [{**SPIKES, "parameters": {"binary_data_size": -1}}]}, "binary_data_size: send the number"),
    ({"inputs": [{"name": "audio", "datatype": "INT16", "shape": [1], "data": [0.5]}]}, "cannot hold"),
    ({"inputs": [{"name": "audio", "datatype": "INT16", "shape": [1], "data": [40_000]}]}, "cannot hold"),
    ({**JSON, "parameters": []}, None),
    ({**JSON, "parameters": [1]}, "parameters: send an object"),
    ({**JSON, "parameters": {"sequence_id": True}}, "sequence_id: send a whole number or a string"),
    ({**JSON, "parameters": {"sequence_id": -1}}, "sequence_id: send a whole number up to"),
    ({**JSON, "parameters": {"sequence_id": 2**64}}, "sequence_id: send a whole number up to"),
    ({**JSON, "parameters": {"sequence_id": 1, "sequence_start": 1}}, "sequence_start: send true or false"),
    ({**JSON, "parameters": {"timeout": "1"}}, "timeout: send a whole number of microseconds"),
    *(({**JSON, "parameters": {"sample_rate": rate}}, "sample_rate: send") for rate in NO_RATES),
    *(({**JSON, "parameters": {"priority": priority}}, "priority: send a whole") for priority in ("x", -1, True, 1.5)),
    ({**JSON, "parameters": {"priority": 3}}, None),
    ({**JSON, "parameters": {"binary_data_output": "yes"}}, "binary_data_output: send true or false"),
    ({**JSON, "parameters": {"sequence_end": "yes"}}, "sequence_end: send true or false"),
    ({**JSON, "parameters": {"triton_enable_empty_final_response": 1}}, "final_response: send true or false"),
    ({**JSON, "outputs": [{"name": "label", "parameters": {"binary_data": "yes"}}]}, "binary_data: send true or"),
    ({**JSON, "outputs": [{}]}, "outputs[0].name: send a string"),
    ({**JSON, "outputs": [{"name": "readout"}]}, "no output 'readout': ask for probabilities, label, total_steps"),
    ({**JSON, "id": 3}, "id: send a string"),
    ({**JSON, "id": "x" * 1001}, "id: send at most 1000 characters"),
    ({**JSON, "outputs": [{"name": "label", "parameters": {"classification": 3}}]}, "outputs[0]: parameter 'class"),
    ({"inputs": [{**SPIKES, "data": [], "parameters": {"shared_memory_region": "x"}}]}, "inputs[0]: parameter 'shared"),
    ({"inputs": JSON["inputs"] * 2}, "2 inputs: send one of"),
    ({}, "is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "sentence"), BAD_JSON)
async def test_json_that_is_refused(client: httpx.AsyncClient, body: Any, sentence: str | None) -> None:
    response = await client.post(URL, json=body)
    if sentence is None:
        assert response.status_code == 200, response.text
    else:
        assert response.status_code == 422, response.text
        assert sentence in response.json()["error"]


async def test_bodies_that_are_refused(serve: ServeHttp) -> None:
    server: HttpServer = await serve(max_body_bytes=3_000_000)
    content, headers = binary({"inputs": [{**SPIKES, "parameters": {"binary_data_size": 18}}]}, ROWS.tobytes())
    for body, more, status, sentence in (
        (b"{", {}, 422, "not JSON"),
        (b"\xff\xfe", {}, 422, "not JSON"),
        (b"[" * 100_000, {}, 422, "not JSON"),
        (content, {HEADER: "x"}, 422, "send the length of the JSON"),
        (content, {HEADER: str(len(content) + 1)}, 422, "send the length of the JSON"),
        (content, {HEADER: "9" * 400}, 422, "send the length of the JSON"),
        (content + b"x", headers, 422, "1 bytes follow the last tensor"),
        (content[:-1], headers, 422, "binary_data_size: send the number"),
        (b" " * (MAX_JSON_BYTES + 1), {}, 413, "the JSON is longer than"),
        (bytes(3_000_001), {HEADER: "0"}, 413, "the body is longer than"),
        (content, {"Content-Encoding": "GZIP", **headers}, 415, "'gzip' is not accepted: send the body uncompressed"),
        (content, {"Content-Encoding": "deflate", **headers}, 415, "send the body uncompressed"),
        (content, {"Content-Encoding": "identity, gzip", **headers}, 415, "send the body uncompressed"),
    ):
        response = await server.client.post(URL, content=body, headers=more)
        assert (response.status_code, sentence in response.json()["error"]) == (status, True), (
            body[:40],
            response.text,
        )
    assert server.app.state.server.uploads.bytes == 0
    for method, path in (("GET", "/v2/models/digits/other"), ("DELETE", "/v2/models")):
        response = await server.client.request(method, path)
        assert (response.status_code, "GET /v2 lists" in response.json()["error"]) == (404, True)
    index = "/v2/repository/index"
    for content in (b"[1]", b"{"):
        assert (await server.client.post(index, content=content)).status_code == 422
    assert (await server.client.post(index, content=b"{}", headers={"Content-Encoding": "gzip"})).status_code == 415
    assert (await server.client.head("/v2/health/live")).status_code == 200


async def test_many_spikes_count_with_the_memory_that_they_take(serve: ServeHttp) -> None:
    """A byte of a tensor is a spike of sixteen."""
    server = await serve(max_body_bytes=1_000_000, max_held_bytes=4_000_000, client_share=1.0, max_chunk_steps=20_000)
    rows = np.ones((100_000, CHANNELS), np.uint8)
    shape = [100_000, CHANNELS]
    content, headers = binary(
        {"inputs": [{**SPIKES, "shape": shape, "parameters": {"binary_data_size": rows.size}}]}, rows.tobytes()
    )
    response = await server.client.post(URL, content=content, headers=headers)
    assert response.status_code == 503
    assert "no room for more bytes of bodies" in response.json()["error"]
    assert server.app.state.server.uploads.bytes == 0
