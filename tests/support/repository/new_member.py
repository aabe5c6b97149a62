"""Prints where a client finds a member of what the network says.

Run ``python -m tests.support.repository.new_member NAME``.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np

from docs.tables import member_table
from hetsyn_client import LiveStream, LiveStreams, StreamingClient
from tests.support.clients.open_inference import live_server

RATE_HZ = 8_000
SOUND = np.arange(800, dtype=np.int16)


def found(name: str, url: str, grpc: str) -> dict[str, bool]:
    """Say of each transport and each description whether it has a member."""
    seen: dict[str, bool] = {}
    sound = {"kind": "audio", "encoding": "pcm_s16le", "sample_rate": RATE_HZ}
    chunk = {"session": "a", "seq": 0, "input": {**sound, "data": base64.b64encode(SOUND.tobytes()).decode()}}
    with httpx.Client(base_url=url) as http, StreamingClient(url) as client:
        seen["/infer"] = name in http.post("/infer", json=chunk).json()
        seen["/infer, again"] = name in http.post("/infer", json=chunk).json()
        seen["/infer, carried"] = name in client.session(carry=True).send(SOUND, RATE_HZ)
        seen["exported"] = _is_kept(http, name)
        with LiveStream(url, sample_rate_hz=RATE_HZ, session="b") as stream:
            stream.send(SOUND)
            seen["/stream"] = all(name in frame for frame in stream.wait())
            stream.send(SOUND)
            seen["/stream, plain"] = all(name in frame for frame in stream.wait())
            (end,) = (frame for frame in stream.finalize() if frame["type"] == "UtteranceEnd")
            seen["Finalize"] = end.get(name) is not None
            again = {**chunk, "session": "b", "seq": 1}
            reply = http.post("/infer", json=again).json()
            seen["/infer, after Finalize"] = reply.get(name, "") is None and reply["events"][-1].get(name) is not None
            seen["/stream, end"] = name in stream.end()
        with LiveStreams(url, sample_rate_hz=RATE_HZ) as streams:
            handles = streams.open(["c"])
            for key in ("/streams", "/streams, plain"):
                sent = [*streams.send(handles, [SOUND]), *streams.wait()]
                seen[key] = all(name in one.more.get(0, {}) for one in sent)
            ended = [*streams.end(handles), *streams.wait()]
            seen["/streams, end"] = all(name in one.more.get(0, {}) for one in ended)
        seen["Open Inference"] = _has_output(name, http.get("/v2/models/digits").json())
        body = {"name": "audio", "datatype": "INT16", "shape": [len(SOUND)], "data": SOUND.tolist()}
        seen["Open Inference, reply"] = _has_output(
            name, http.post("/v2/models/digits/infer", json={"inputs": [body]}).json()
        )
        seen["gRPC"] = _by_grpc(name, grpc)
        schemas = [http.get(path).json()["components"]["schemas"] for path in ("/openapi.json", "/asyncapi.json")]
    for schema, kind in ((schemas[0], "Reply"), (schemas[1], "Result"), (schemas[1], "UtteranceEnd")):
        seen[f"schema of {kind}"] = bool(schema[kind]["properties"].get(name, {}).get("description"))
    seen["docs/reference/http-api.md"] = f"| `{name}` |" in member_table()
    return seen


def _is_kept(http: httpx.Client, name: str) -> bool:
    """Whether a session has the member after it was exported and imported."""
    state = http.get("/sessions/a/state")
    http.put("/sessions/d/state", content=state.content, headers={"content-type": state.headers["content-type"]})
    chunk = {"session": "d", "seq": 1, "end": True}
    first, again = (http.post("/infer", json=chunk).json() for _ in range(2))
    return first == again and name in again


def _has_output(name: str, described: Any) -> bool:
    return name in [output["name"] for output in described["outputs"]]


def _by_grpc(name: str, address: str) -> bool:
    import tritonclient.grpc as triton

    tensor = triton.InferInput("audio", [len(SOUND)], "INT16")
    tensor.set_data_from_numpy(SOUND)
    with triton.InferenceServerClient(address) as client:
        return client.infer("digits", [tensor]).as_numpy(name) is not None


if __name__ == "__main__":
    with TemporaryDirectory() as folder, live_server(Path(folder)) as live:
        print(json.dumps(found(sys.argv[1], live.url, live.grpc)))
