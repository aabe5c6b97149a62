"""Two keys on one channel of gRPC, and servers with and without keys that share a store and the keys of tokens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from tests.support.tools import NO_TRITONCLIENT

pytest.importorskip("tritonclient", reason=NO_TRITONCLIENT)
pytest.importorskip("grpc_health", reason=NO_TRITONCLIENT)

import grpc
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from hetsyn_client.columns import pack_sessions, unpack_opened
from service.keys.caller import Scope
from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.clients.json_input import events
from tests.support.clients.open_inference import Live, inputs, live_server
from tests.support.clients.sync_websocket import connect
from tests.support.servers.keyed import add_key, bearer, keyed_server
from tests.support.stores.memory_store import MemoryStore


class Shared(NamedTuple):
    """Two servers that share a store.

    Attributes:
        keyed: asks for keys.
        plain: asks for none.
        alice: a key of the first.
    """

    keyed: Live
    plain: Live
    alice: str

    def send(self, at: Live, session: str, seq: int) -> httpx.Response:
        headers = bearer(self.alice) if at is self.keyed else {}
        return httpx.post(f"{at.url}/infer", json={"session": session, "seq": seq, "input": events(9)}, headers=headers)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder, store = tmp_path_factory.mktemp("shared"), MemoryStore()
    alice = add_key(folder / "keys.json", "alice", Scope)
    with keyed_server(folder, folder / "keys.json", store) as keyed, live_server(folder / "plain", store) as plain:
        yield Shared(keyed, plain, alice)


@pytest.mark.parametrize("store", [False, True])
async def test_two_keys_on_one_channel_of_grpc_have_sequences_of_their_own(tmp_path: Path, store: bool) -> None:
    path = tmp_path / "keys.json"
    keys = {name: add_key(path, name) for name in ("alice", "bob")}

    def request(steps: int, **more: bool) -> Any:
        message = service_pb2.ModelInferRequest(model_name="spiking")
        message.parameters["sequence_id"].string_param = "s"
        for name, value in more.items():
            message.parameters[name].bool_param = value
        tensor = message.inputs.add(name="spikes", datatype="BOOL", shape=[steps, CHANNELS])
        tensor.contents.bool_contents.extend([False] * steps * CHANNELS)
        return message

    def total(response: Any) -> int:
        index = [tensor.name for tensor in response.outputs].index("total_steps")
        return int(np.frombuffer(response.raw_output_contents[index], "<i8")[0])

    with keyed_server(tmp_path, path, MemoryStore() if store else None) as live:
        async with grpc.aio.insecure_channel(live.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            metadata = {name: [("authorization", f"Bearer {key}")] for name, key in keys.items()}
            await stub.ModelInfer(request(1, sequence_start=True), metadata=metadata["alice"])
            with pytest.raises(grpc.aio.AioRpcError, match="'s'") as refused:
                await stub.ModelInfer(request(1), metadata=metadata["bob"])
            assert "alice" not in str(refused.value.details())
            done = {"alice": 1, "bob": 0}
            streams = {name: stub.ModelStreamInfer(metadata=one) for name, one in metadata.items()}
            begins = {"alice": False, "bob": True}
            for steps in (2, 3, 5):
                for name, stream in streams.items():
                    await stream.write(request(steps * len(name), sequence_start=begins[name]))
                for name, stream in streams.items():
                    answer = await stream.read()
                    done[name] += steps * len(name)
                    assert (answer.error_message, total(answer.infer_response)) == ("", done[name])
                    begins[name] = False
                both = [stub.ModelInfer(request(len(name)), metadata=metadata[name]) for name in keys]
                for name, call in zip(keys, both, strict=True):
                    done[name] += len(name)
                    assert total(await call) == done[name]
            await asyncio.gather(*(stream.done_writing() for stream in streams.values()))


def test_a_shared_store_hands_no_session_from_keys_to_none(shared: Shared) -> None:
    for seq in range(2):
        assert shared.send(shared.keyed, "s", seq).status_code == 200
    url = shared.plain.url
    for name in ("alice/s", "alice%2Fs", "alice%252Fs", "../alice/s"):
        for method, tail in (("GET", ""), ("DELETE", ""), ("GET", "/state")):
            assert httpx.request(method, f"{url}/sessions/{name}{tail}").status_code in (404, 405)
        answer = httpx.post(f"{url}/infer?session={name}&seq=2", content=b"", headers={"Content-Type": "audio/wav"})
        assert answer.status_code == 422
    assert shared.send(shared.plain, "alice/s", 2).status_code == 422
    assert shared.send(shared.plain, "s", 2).status_code == 404
    body = {
        "parameters": {"sequence_id": "alice/s"},
        "inputs": [{"name": "spikes", "datatype": "BOOL", "shape": [1, CHANNELS], "data": [False] * CHANNELS}],
    }
    assert httpx.post(f"{url}/v2/models/digits/infer", json=body).status_code in (400, 422)
    with connect(url.replace("http", "ws") + "/streams?encoding=events&model=digits") as socket:
        json.loads(socket.recv())
        socket.send(pack_sessions([1, 2], ["alice/s", "s"]))
        opened = unpack_opened(socket.recv(decode=False))
    assert opened.status.tolist() == [422, 200]
    assert opened.next_seq.tolist()[1] == 0

    with triton.InferenceServerClient(shared.plain.grpc) as client:
        given = inputs(triton, "spikes", np.zeros((1, CHANNELS), bool))
        with pytest.raises(triton.InferenceServerException):
            client.infer("digits", given, sequence_id="alice/s")
    described = httpx.get(f"{shared.keyed.url}/sessions/s", headers=bearer(shared.alice)).json()
    assert described["expected_seq"] == 2


def test_a_shared_store_hands_no_session_from_none_to_keys(shared: Shared) -> None:
    assert shared.send(shared.plain, "open", 0).status_code == 200
    assert shared.send(shared.keyed, "open", 1).status_code == 404
    with httpx.Client(base_url=shared.keyed.url, headers=bearer(shared.alice)) as client:
        assert client.get("/sessions/open").status_code == 404
        assert client.get("/sessions/open/state").status_code == 404
        assert client.delete("/sessions/open").status_code == 404
    assert shared.send(shared.keyed, "open", 0).status_code == 200
    assert shared.send(shared.plain, "open", 1).json()["total_steps"] == 18
    assert httpx.delete(f"{shared.plain.url}/sessions/open").status_code == 204
    assert shared.send(shared.keyed, "open", 1).json()["total_steps"] == 18


def test_tokens_go_neither_way(shared: Shared) -> None:
    def send(url: str, headers: dict[str, str], **more: str) -> httpx.Response:
        return httpx.post(f"{url}/infer", json={"carry": True, "input": events(9), **more}, headers=headers)

    ways: list[tuple[str, dict[str, str]]] = [(shared.keyed.url, bearer(shared.alice)), (shared.plain.url, {})]
    for (url, headers), (other, others) in (ways, ways[::-1]):
        token = send(url, headers).json()["token"]
        refused = send(other, others, token=token)
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:hetsyn:problem:token-forged")
        assert send(url, headers, token=token).json()["seq"] == 1
