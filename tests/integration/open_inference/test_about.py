"""What a server says of itself and of its models, and the control of its models: the same over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.open_inference.service import EXTENSIONS
from tests.support.artifacts.fake_graph import CHANNELS, OUTPUTS
from tests.support.clients.open_inference import (
    Chunk,
    Live,
    by_grpc,
    by_grpc_aio,
    by_grpc_aio_stream,
    by_http,
    by_http_aio,
    live_server,
)

ROWS = np.eye(4, CHANNELS, dtype=bool)


@pytest.fixture(params=["http", "grpc"])
def triton(request: pytest.FixtureRequest, live: Live) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A client of Triton, and what makes its answers JSON."""
    if request.param == "http":
        import tritonclient.http as http

        with http.InferenceServerClient(live.http) as client:
            yield client, {}
    else:
        import tritonclient.grpc as grpc

        with grpc.InferenceServerClient(live.grpc) as client:
            yield client, {"as_json": True}


def test_health(triton: tuple[Any, dict[str, Any]]) -> None:
    client, _ = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "2")
    assert not client.is_model_ready("nothing")


def test_metadata(triton: tuple[Any, dict[str, Any]]) -> None:
    client, json = triton
    server = client.get_server_metadata(**json)
    assert (server["name"], tuple(server["extensions"])) == ("hetsyn", EXTENSIONS)
    for model, name, datatype, shape in (
        ("digits", "audio", "FP32", [-1]),
        ("spiking", "spikes", "BOOL", [-1, CHANNELS]),
        ("sensor", "values", "FP32", [-1, CHANNELS]),
    ):
        described = client.get_model_metadata(model, **json)
        (tensor,) = described["inputs"]
        assert (described["name"], described["versions"], described["platform"]) == (model, ["1"], "hetsyn")
        assert (tensor["name"], tensor["datatype"], list(map(int, tensor["shape"]))) == (name, datatype, shape)
        assert [output["name"] for output in described["outputs"]] == ["probabilities", "label", "total_steps"]
        assert list(map(int, described["outputs"][0]["shape"])) == [OUTPUTS]
    outputs = client.get_model_metadata("tracer", "1", **json)["outputs"]
    assert [(output["name"], list(map(int, output["shape"]))) for output in outputs] == [
        ("readout", [-1, OUTPUTS]), ("total_steps", [1]),
    ]  # fmt: skip


def test_config(triton: tuple[Any, dict[str, Any]]) -> None:
    client, json = triton
    config = client.get_model_config("digits", **json)
    config = config.get("config", config)
    assert config["name"] == "digits"
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert [output["data_type"] for output in config["output"]] == ["TYPE_FP32", "TYPE_STRING", "TYPE_INT64"]
    assert int(config["sequence_batching"]["max_sequence_idle_microseconds"]) == 600_000_000


async def test_statistics(live: Live, triton: tuple[Any, dict[str, Any]]) -> None:
    client, json = triton

    def statistics() -> dict[str, Any]:
        (found,) = client.get_inference_statistics("spiking", "1", **json)["model_stats"]
        return dict(found)

    def count(found: dict[str, Any], kind: str) -> int:
        return int(found["inference_stats"].get(kind, {}).get("count", 0))

    before = statistics()
    await by_http(live, "spiking", "spikes", [Chunk(ROWS), Chunk(ROWS)])
    await by_grpc(live, "spiking", "spikes", [Chunk(ROWS)])
    with pytest.raises(Exception, match="begins with seq 0"):
        await by_http(live, "spiking", "spikes", [Chunk(ROWS, {"sequence_id": 77})])
    after = statistics()
    assert int(after["inference_count"]) - int(before.get("inference_count", 0)) == 3
    assert [count(after, kind) - count(before, kind) for kind in ("success", "fail", "queue", "compute_infer")] == [
        3, 1, 3, 3,
    ]  # fmt: skip
    assert count(after, "cache_hit") == count(after, "cache_miss") == 0
    assert int(after["inference_stats"]["success"]["ns"]) >= int(after["inference_stats"]["compute_infer"]["ns"]) > 0
    assert int(after["last_inference"]) > 0
    everything = client.get_inference_statistics(**json)["model_stats"]
    assert {found["name"] for found in everything} == {"digits", "sensor", "spiking", "tracer"}


async def test_statistics_add_up(tmp_path: Path) -> None:
    """A failure counts wherever it comes from, and no part of the time exceeds the whole."""
    with live_server(tmp_path, inline_s=0.0) as live:

        def statistics() -> dict[str, Any]:
            found = httpx.get(f"{live.url}/v2/models/spiking/versions/1/stats").json()["model_stats"][0]
            return dict(found)

        short, long = np.ones((10, CHANNELS), np.float32), np.ones((4_000, CHANNELS), np.float32)
        ways = [by_grpc_aio_stream, by_http_aio, by_grpc_aio, by_grpc_aio_stream] * 4
        await asyncio.gather(*(way(live, "spiking", "spikes", [Chunk(short)] * 4) for way in ways))
        found = statistics()
        kinds = found["inference_stats"]
        assert found["inference_count"] == kinds["success"]["count"] == 64
        assert 0 < found["execution_count"] < 64
        parts = ("queue", "compute_input", "compute_infer", "compute_output")
        assert 0 < kinds["queue"]["ns"] <= sum(kinds[kind]["ns"] for kind in parts) <= kinds["success"]["ns"]
        assert kinds["fail"]["count"] == 0
        failures, admission = 0, live.app.state.server.admission
        for way in (by_http, by_grpc):
            for index, wrong in enumerate((np.full((1, CHANNELS), 0.5, np.float32), np.ones((1, 9), bool), long)):
                admission.ledger._most = 0 if index == 2 else 1_000
                with pytest.raises(Exception, match=r"spikes|channel|as many requests"):
                    await way(live, "spiking", "spikes", [Chunk(wrong)])
                failures += 1
                assert statistics()["inference_stats"]["fail"]["count"] == failures
        admission.ledger._most = 1_000
        with pytest.raises(Exception, match="no model 'none'"):
            await by_http(live, "none", "spikes", [Chunk(long)])
        assert statistics()["inference_count"] == 64
        await by_http(live, "spiking", "spikes", [Chunk(long)])
        assert statistics()["execution_count"] > found["execution_count"] + 1  # a long chunk takes several batches


def names(client: Any, json: dict[str, Any]) -> dict[str, str]:
    index = client.get_model_repository_index(**json)
    entries = index["models"] if json else index
    return {entry["name"]: entry["state"] for entry in entries}


async def test_clients_neither_load_nor_unload_models(triton: tuple[Any, dict[str, Any]]) -> None:
    client, json = triton
    from tritonclient.utils import InferenceServerException

    for act in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="which the server reads again") as caught:
            act("digits")
        assert caught.value.status() in ("403", "StatusCode.PERMISSION_DENIED")
    assert set(names(client, json).values()) == {"READY"}


async def test_a_model_that_left_the_folder_finishes_its_sequences(tmp_path: Path) -> None:
    with live_server(tmp_path) as live:
        rows = np.ones((2, CHANNELS), np.float32)
        await by_http(live, "sensor", "values", [Chunk(rows, {"sequence_id": "begun", "sequence_start": True})])
        shutil.rmtree(tmp_path / "sensor")
        live.reload()
        assert httpx.get(f"{live.url}/v2/models/sensor/ready").status_code == 404
        index = httpx.post(f"{live.url}/v2/repository/index", json={}).json()
        states = {entry["name"]: entry["state"] for entry in index}
        assert (states["sensor"], states["digits"]) == ("UNAVAILABLE", "READY")
        index = httpx.post(f"{live.url}/v2/repository/index", json={"ready": True}).json()
        assert {entry["state"] for entry in index} == {"READY"}
        (answer,) = await by_grpc(
            live, "sensor", "values", [Chunk(rows, {"sequence_id": "begun", "sequence_end": True})]
        )
        assert answer["total_steps"] >= 4
        with pytest.raises(Exception, match="no model 'sensor'"):
            await by_http(live, "sensor", "values", [Chunk(rows)])
