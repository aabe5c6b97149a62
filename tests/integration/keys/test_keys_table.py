"""Every route and every transport: what a key needs, and that no key reads, advances or learns of another's session."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route
from websockets.exceptions import InvalidStatus

from tests.support.tools import NO_TRITONCLIENT

pytest.importorskip("tritonclient", reason=NO_TRITONCLIENT)
pytest.importorskip("grpc_health", reason=NO_TRITONCLIENT)

import grpc
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2

from hetsyn_client.columns import pack_chunks, pack_sessions, unpack_opened, unpack_results
from service.grpc.servicer import Health, Servicer
from service.keys.caller import Scope
from service.keys.routes import GRPC, HTTP, need_of
from service.store.record import MEDIA_TYPE as STATE_TYPE
from tests.support.clients.json_input import events
from tests.support.clients.open_inference import Live, inputs
from tests.support.clients.sync_websocket import connect
from tests.support.servers.keyed import add_key, bearer, keyed_server
from tests.support.servers.socket_server import keeps
from tests.support.stores.memory_store import MemoryStore

VALUES = {"session_id": "s", "name": "digits", "version": "1", "path:path": "app.js"}
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


in_each_store = pytest.mark.parametrize("world", ["memory", "store"], indirect=True)


class World(NamedTuple):
    """A server with the session ``s`` of alice.

    Attributes:
        live: the server.
        alice: her key.
        bob: his.
        nothing: a key that may nothing that the others may.
    """

    live: Live
    alice: str
    bob: str
    nothing: str

    def http(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=self.live.url, headers=bearer(key))

    def seen_by_alice(self) -> dict[str, Any]:
        with self.http(self.alice) as client:
            described: dict[str, Any] = client.get("/sessions/s").json()
        del described["idle_s"]
        return described


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("keyed")
    path = folder / "keys.json"
    alice, bob = add_key(path, "alice", Scope), add_key(path, "bob", Scope)
    nothing = add_key(path, "nobody", [Scope.metrics])
    with keyed_server(folder, path, MemoryStore() if keeps(request) == "store" else None) as live:
        yield World(live, alice, bob, nothing)


@pytest.fixture
def of_alice(world: World) -> Iterator[None]:
    """Two chunks of alice's session ``s``; afterwards it is as it was then."""
    with world.http(world.alice) as client:
        for seq in range(2):
            assert client.post("/infer", json={"session": "s", "seq": seq, "input": events(9, seq)}).status_code == 200
        before = world.seen_by_alice()
        yield
        assert world.seen_by_alice() == before
        for key in (world.alice, world.bob):
            for name in ("s", "t"):
                client.delete(f"/sessions/{name}", headers=bearer(key))


def routes_of(app: Any) -> Iterator[tuple[str, str]]:
    """Methods and paths of all routes, mounts and included routers too."""
    for route in getattr(app, "routes", ()):
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/{{path:path}}"
        elif isinstance(route, APIRoute | Route):
            for method in route.methods or ():
                yield method, route.path
        else:
            yield from routes_of(getattr(route, "original_router", route))


def test_every_route_has_a_row(world: World) -> None:
    found = set(routes_of(world.live.app))
    assert {("POST", "/infer"), ("GET", "/metrics"), ("DELETE", "/sessions/{session_id}")} <= found
    documented = {
        (method.upper(), path)
        for path, operations in world.live.app.openapi()["paths"].items()
        for method in operations
    }
    for method, path in found | documented:
        assert need_of(method, filled(path)) is not None, f"{method} {path} has no row in service/keys/routes.py"


def test_every_row_is_a_route(world: World) -> None:
    with world.http(world.alice) as client:
        for method, template in HTTP:
            path = filled(template.replace("/docs/files/{path:path}", "/docs/files/favicon.png"))
            response = client.request(method, path, json={})
            unknown = response.status_code == 404 and "there is nothing" in response.text
            assert not unknown, (method, template, response.text)


def test_the_description_says_what_asks_for_a_key(world: World) -> None:
    document = httpx.get(f"{world.live.url}/openapi.json").json()
    assert document["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            asks = HTTP[method.upper(), path] != "open"
            assert operation.get("security") == ([{"key": []}] if asks else None), (method, path)
            assert ({"401", "403", "429"} <= operation["responses"].keys()) is asks, (method, path)
    for operation in (document["paths"]["/infer"]["post"], document["paths"]["/sessions/{session_id}/state"]["put"]):
        assert {"413", "415", "429", "503"} <= operation["responses"].keys()


def test_every_call_of_grpc_has_a_row() -> None:
    for module, name, servicer in ((service_pb2, "GRPCInferenceService", Servicer), (health_pb2, "Health", Health)):
        description = module.DESCRIPTOR.services_by_name[name]
        for method in description.methods:
            if method.name in vars(servicer):
                assert f"/{description.full_name}/{method.name}" in GRPC


def filled(template: str) -> str:
    for name, value in VALUES.items():
        template = template.replace(f"{{{name}}}", value)
    return template


@pytest.mark.parametrize(("method", "template"), list(HTTP))
def test_a_row_asks_for_its_scope(world: World, method: str, template: str) -> None:
    need, path = HTTP[method, template], filled(template)
    missing = httpx.request(method, world.live.url + path)
    if need == "open":
        assert missing.status_code not in (401, 403)
        return
    assert missing.status_code == 401
    assert missing.headers["www-authenticate"].startswith("Bearer")
    assert missing.json()["type"].endswith("key-refused")
    for wrong in ("nonsense", world.alice[:-1] + "~", world.alice[:-2] + "zz", "hsk_0000000000000000_" + "a" * 43):
        refused = httpx.request(method, world.live.url + path, headers=bearer(wrong))
        assert refused.status_code == 401, wrong
        assert wrong[-30:] not in refused.text
    lacking = httpx.request(method, world.live.url + path, headers=bearer(world.nothing))
    if need == Scope.metrics:
        assert lacking.status_code != 403
    else:
        assert lacking.status_code == 403
        assert f"lacks the scope '{need}'" in lacking.json()["detail"]


@pytest.mark.parametrize(
    "path", ["/inferr", "/v2/models/digits/secret", "/sessions/a/b", "/debug", "/v2//repository", "/v2health/live"]
)
@pytest.mark.parametrize("method", METHODS)
def test_what_has_no_row_is_not_there(world: World, method: str, path: str) -> None:
    assert httpx.request(method, world.live.url + path).status_code == 401
    answer = httpx.request(method, world.live.url + path, headers=bearer(world.nothing))
    assert answer.status_code == 404


@pytest.mark.parametrize("method", METHODS)
def test_no_other_method_gets_past_the_table(world: World, method: str) -> None:
    for template in dict.fromkeys(path for _, path in HTTP):
        if (method, template) not in HTTP:
            answer = httpx.request(method, world.live.url + filled(template), headers=bearer(world.nothing))
            assert answer.status_code == 405, (method, template)
            taken = {other for other, path in HTTP if path == template}
            assert set(answer.headers["Allow"].split(", ")) == taken, (method, template)


# --- sessions of others


def over_http(
    method: str, path: str, *, content_type: str = "application/json", **more: Any
) -> Callable[[World, str], tuple[int, Any]]:
    def send(world: World, session: str) -> tuple[int, Any]:
        with world.http(world.bob) as client:
            target = path.replace("SESSION", session)
            kept = {name: value for name, value in more.items() if name != "body"}
            if "body" in more:
                kept["content"] = json.dumps(more["body"]).replace("SESSION", session)
            response = client.request(method, target, headers={"Content-Type": content_type}, **kept)
        return response.status_code, response.text

    return send


def over_stream(world: World, session: str) -> tuple[int, Any]:
    """The first frame of a stream, and the answer to a chunk: as of a session that begins."""
    url = world.live.url.replace("http", "ws") + f"/stream?encoding=events&model=digits&session={session}"
    with connect(url, subprotocols=["hetsyn.v1", f"hetsyn.key.{world.bob}"]) as socket:
        begun = json.loads(socket.recv())
        assert socket.subprotocol == "hetsyn.v1"
        socket.send(json.dumps({"type": "CloseStream"}))
        with suppress(Exception):
            socket.recv()
    for member in ("expires_at",):
        begun.pop(member, None)
    return 101, begun


def over_streams(world: World, session: str) -> tuple[int, Any]:
    url = world.live.url.replace("http", "ws") + "/streams?encoding=events&model=digits"
    with connect(url, additional_headers=bearer(world.bob)) as socket:
        offer = json.loads(socket.recv())
        socket.send(pack_sessions([1], [session]))
        opened = unpack_opened(socket.recv(decode=False))
        socket.send(pack_chunks([1], [2], [0], b"", [3], [0]))
        results = unpack_results(socket.recv(decode=False))
        socket.send(pack_chunks([1], [0], [0], b"", [0], [2]))
        unpack_results(socket.recv(decode=False))
    return 101, (
        offer,
        *(np.asarray(part).tolist() for part in opened[:-1]),
        opened[-1],
        results.status.tolist(),
        results.more,
    )


def over_grpc(world: World, session: str, start: bool) -> tuple[int, Any]:
    given = inputs(triton, "spikes", np.zeros((3, 8), bool))
    with triton.InferenceServerClient(world.live.grpc) as client:
        try:
            found = client.infer(
                "digits",
                given,
                sequence_id=session,
                sequence_start=start,
                headers={"authorization": f"Bearer {world.bob}"},
            )
        except triton.InferenceServerException as error:
            return 0, str(error)
        return 0, found.get_response(as_json=True)


BODY = {"session": "SESSION", "input": events(9, 5)}
WAYS: dict[str, Callable[[World, str], tuple[int, Any]]] = {
    "describe": over_http("GET", "/sessions/SESSION"),
    "delete": over_http("DELETE", "/sessions/SESSION"),
    "export": over_http("GET", "/sessions/SESSION/state"),
    "import nothing": over_http("PUT", "/sessions/SESSION/state", content_type=STATE_TYPE, content=b"nothing"),
    "go on": over_http("POST", "/infer", body=BODY | {"seq": 2}),
    "repeat": over_http("POST", "/infer", body={"session": "SESSION", "seq": 1, "input": events(9, 1)}),
    "begin": over_http("POST", "/infer", body=BODY | {"seq": 0}),
    "next": over_http("POST", "/infer", body=BODY),
    "end": over_http("POST", "/infer", body={"session": "SESSION", "seq": 2, "end": True}),
    "raw": over_http(
        "POST", "/infer?session=SESSION&seq=2", content_type="application/vnd.hetsyn.events", content=b"x" * 12
    ),
    "why no stream": over_http("GET", "/stream?session=SESSION&encoding=events"),
    "stream": over_stream,
    "streams": over_streams,
    "grpc begins": lambda world, session: over_grpc(world, session, True),
    "grpc goes on": lambda world, session: over_grpc(world, session, False),
    "v2": over_http(
        "POST",
        "/v2/models/digits/infer",
        body={
            "parameters": {"sequence_id": "SESSION"},
            "inputs": [{"name": "spikes", "datatype": "BOOL", "shape": [1, 8], "data": [False] * 8}],
        },
    ),
    "statistics": over_http("GET", "/metrics"),
}


@in_each_store
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("of_alice")
def test_a_session_of_another_key_is_as_one_that_never_was(world: World, way: str) -> None:
    there = WAYS[way](world, "s")
    if way == "statistics":  # numbers of the whole server: they name no session and no key
        assert "alice" not in str(there)
        return
    with world.http(world.bob) as client:
        client.delete("/sessions/s")
        client.delete("/sessions/t")
    never = WAYS[way](world, "t")
    assert never[0] != 500
    assert repr(there).replace("'s'", "'?'").replace('"s"', '"?"').replace("\\'s\\'", "'?'") == repr(never).replace(
        "'t'", "'?'"
    ).replace('"t"', '"?"').replace("\\'t\\'", "'?'")


@in_each_store
@pytest.mark.usefixtures("of_alice")
def test_two_keys_use_one_id_for_two_sessions(world: World) -> None:
    with world.http(world.alice) as alice, world.http(world.bob) as bob:
        mine = bob.post("/infer", json={"session": "s", "seq": 0, "input": events(25, 7)}).json()
        assert (mine["session"], mine["seq"], mine["total_steps"]) == ("s", 0, 25)
        exported, other = alice.get("/sessions/s/state").content, bob.get("/sessions/s/state").content
        assert exported != other
        assert b"alice" not in exported
        assert b"bob" not in other
        taken = bob.put("/sessions/t/state", content=exported, headers={"Content-Type": STATE_TYPE})
        assert taken.json()["total_steps"] == 18  # alice may give it away
        for chunk in ({"seq": 0, "input": events(25, 7)}, {"input": events(9)}, {"end": True}, {"seq": 2, "end": True}):
            assert bob.post("/infer", json={"session": "s", **chunk}).json()["session"] == "s"
        assert (taken.json()["session"], bob.get("/sessions/s").json()["session"]) == ("t", "s")
        assert bob.delete("/sessions/s").status_code == 204
    named = httpx.post(f"{world.live.url}/infer", json={"input": events(9)}, headers=bearer(world.bob)).json()[
        "session"
    ]
    assert "/" not in named
    assert httpx.delete(f"{world.live.url}/sessions/{named}", headers=bearer(world.alice)).status_code == 404
    assert httpx.delete(f"{world.live.url}/sessions/{named}", headers=bearer(world.bob)).status_code == 204


@pytest.mark.parametrize("name", ["alice/s", "alice%2Fs", "../s", "alice%252Fs", "%2e%2e/alice/s"])
def test_no_id_reaches_into_another_key(world: World, name: str) -> None:
    with world.http(world.bob) as client:
        assert client.get(f"/sessions/{name}").status_code == 404
        assert client.post("/infer", json={"session": name, "seq": 2, "input": events(9)}).status_code == 422
        assert client.post(f"/infer?session={name}&seq=2", content=b"").status_code in (415, 422)


def test_a_carried_session_is_of_the_key_that_opened_it(world: World) -> None:
    def send(key: str, **more: Any) -> httpx.Response:
        with world.http(key) as client:
            return client.post("/infer", json={"carry": True, "input": events(9), **more})

    first = send(world.alice).json()
    assert send(world.alice, token=first["token"]).json()["seq"] == 1
    assert send(world.alice, token=first["token"], session=first["session"]).json()["session"] == first["session"]
    changed = bytearray(base64.b64decode(first["token"]))
    changed[-1] ^= 1
    others, forged = send(world.bob, token=first["token"]), send(world.alice, token=base64.b64encode(changed).decode())
    for refused, sentence in ((others, "the token belongs to a key"), (forged, "changed after it was sealed")):
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:hetsyn:problem:token-forged")
        assert sentence in refused.json()["detail"]


def test_a_stream_without_a_key_is_not_opened(world: World) -> None:
    wrong: list[Any] = ["hetsyn.v1", "hetsyn.key.x"]
    for query, protocols in (("", None), ("", wrong), (f"?key={world.bob}", None)):
        for path in ("/stream", "/streams"):
            with (
                pytest.raises(InvalidStatus) as caught,
                connect(world.live.url.replace("http", "ws") + path + query, subprotocols=protocols),
            ):
                pass
            assert caught.value.response.status_code == 401
            assert caught.value.response.headers["WWW-Authenticate"].startswith("Bearer")


def test_grpc_asks_for_a_key(world: World) -> None:
    def error(call: Callable[[], object]) -> str:
        with pytest.raises(triton.InferenceServerException) as caught:
            call()
        return str(caught.value)

    with triton.InferenceServerClient(world.live.grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert "UNAUTHENTICATED" in error(client.get_server_metadata)
        lacking = {"authorization": f"Bearer {world.nothing}"}
        assert "PERMISSION_DENIED" in error(lambda: client.get_server_metadata(headers=lacking))
        assert client.get_inference_statistics(headers=lacking).model_stats
        assert "PERMISSION_DENIED" in error(lambda: client.load_model("digits", headers=lacking))
        may = {"authorization": f"Bearer {world.bob}"}
        assert client.get_server_metadata(headers=may).name == "hetsyn"
        assert "which the server reads again" in error(lambda: client.load_model("digits", headers=may))
        for key in (may, lacking):
            assert "UNIMPLEMENTED" in error(lambda key=key: client.get_system_shared_memory_status(headers=key))  # type: ignore[misc]
    with grpc.insecure_channel(world.live.grpc) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([b""]))
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
