"""One server process, one recording, every door: equal bits, and again after a kill with chunks under way."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import httpx
import numpy as np
import pytest

from hetsyn_client import LiveStream, LiveStreams
from tests.support.clients.json_input import Json
from tests.support.clients.open_inference import CLIENTS, Chunk, Live
from tests.support.clients.recording_stream import TIMEOUT_S, persist, send
from tests.support.paths import MODELS, RECORDINGS, ROOT
from tests.support.servers.server_process import RestartableServer, free_port
from tests.support.tools import NO_TRITONCLIENT

MODEL, RECORDING, RATE_HZ = "speech-digits", RECORDINGS / "seven.wav", 8000
SAMPLES = np.frombuffer(RECORDING.read_bytes()[44:], "<i2")
PIECES = [SAMPLES[begin : begin + 800] for begin in range(0, len(SAMPLES), 800)]  # 0.1 s, as the terminal sends them
CHUNKS = [piece.tobytes() for piece in PIECES]
LAST = len(CHUNKS) - 1
WITH_GRPC = find_spec("tritonclient") is not None and find_spec("grpc_health") is not None
Server = tuple[RestartableServer, Live]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("first")
    shutil.copytree(MODELS / MODEL, folder / "models" / MODEL)
    grpc_port = free_port()
    with_grpc = ("--grpc-port", str(grpc_port)) if WITH_GRPC else ()
    options = ("--models", str(folder / "models"), "--store", f"file://{folder}/sessions.db", *with_grpc)
    started = RestartableServer(*options, "--log-level", "warning")
    try:
        started.ready()
        yield started, Live(started.url, f"127.0.0.1:{started.port}", f"127.0.0.1:{grpc_port}", None)
    finally:
        started.stop()


def bits(probabilities: Any) -> bytes:
    """Return probabilities as float32: JSON has no more of their digits."""
    return np.float32(probabilities).tobytes()


def over_infer(live: Live, session: str) -> Json:
    """Send the recording to ``/infer``; the reply to its last chunk."""
    replies = [persist(lambda n=n: send(live.url, session, n, CHUNKS)) for n in range(len(CHUNKS))]  # type: ignore[misc]
    assert replies[-1]["label"] == "seven"
    return replies[-1]


def over_stream(live: Live, session: str) -> Any:
    with LiveStream(live.url, sample_rate_hz=RATE_HZ, session=session) as stream:
        for piece in PIECES:
            stream.send(piece)
        return stream.end()["probabilities"]


def over_streams(live: Live, session: str) -> Any:
    with LiveStreams(live.url, sample_rate_hz=RATE_HZ) as streams:
        handles = streams.open([session])
        results = [result for piece in PIECES for result in streams.send(handles, [piece])]
        results += streams.end(handles) + streams.wait()
    return results[-1].probabilities[0]


def by_terminal(*arguments: str) -> Any:
    command = [sys.executable, "-m", "hetsyn", *arguments, "--one-word", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["probabilities"]


def by_hetsyn_stream(live: Live, _: str) -> Any:
    return by_terminal("stream", str(RECORDING), "--url", live.url)


def by_hetsyn_run(live: Live, _: str) -> Any:  # noqa: ARG001
    return by_terminal("run", MODEL, str(RECORDING))


async def over_open_inference(live: Live, session: str, client: str) -> Any:
    chunks = [
        Chunk(piece, {"sequence_id": session, "sequence_start": n == 0, "sequence_end": n == LAST})
        for n, piece in enumerate(PIECES)
    ]
    return (await CLIENTS[client](live, MODEL, "audio", chunks))[-1]["probabilities"]


DOORS: dict[str, Callable[[Live, str], Any]] = {
    "stream": over_stream,
    "streams": over_streams,
    "hetsyn-stream": by_hetsyn_stream,
    "hetsyn-run": by_hetsyn_run,
}


@pytest.fixture(scope="module")
def last_reply(server: Server) -> Json:
    return over_infer(server[1], "infer")


@pytest.fixture(scope="module")
def expected(last_reply: Json) -> bytes:
    """The final probabilities that ``/infer`` gives."""
    return bits(last_reply["probabilities"])


@pytest.mark.parametrize("door", DOORS)
def test_a_door_gives_the_bits_of_infer(server: Server, last_reply: Json, expected: bytes, door: str) -> None:
    found = DOORS[door](server[1], door)
    assert bits(found) == expected
    if door != "streams":  # which has no JSON
        assert found == last_reply["probabilities"] == [float(f"{value:.9g}") for value in found]


@pytest.mark.skipif(not WITH_GRPC, reason=NO_TRITONCLIENT)
@pytest.mark.parametrize("client", ["http", "grpc", "grpc, stream"])
async def test_open_inference_gives_the_bits_of_infer(server: Server, expected: bytes, client: str) -> None:
    session = f"open-inference-{client.replace(', ', '-')}"
    assert bits(await over_open_inference(server[1], session, client)) == expected


class Upload:
    """A chunk that is sent on a connection of its own, in part or whole; nobody reads its reply."""

    def __init__(self, port: int, session: str, seq: int, share: float) -> None:
        body = CHUNKS[seq]
        self.socket = socket.create_connection(("127.0.0.1", port))
        head = (
            f"POST /infer?session={session}&seq={seq} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: audio/pcm;encoding=pcm_s16le;rate=8000\r\n\r\n"
        )
        self.socket.sendall(head.encode() + body[: round(share * len(body))])


def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)


def described(live: Live, session: str) -> Json:
    found: Json = httpx.get(f"{live.url}/sessions/{session}").json()
    return found


def test_a_kill_with_chunks_under_way_loses_nothing_and_repeats_nothing(
    server: Server, last_reply: Json, expected: bytes
) -> None:
    process, live = server

    def reply(session: str, seq: int) -> Json:
        return persist(lambda: send(live.url, session, seq, CHUNKS))

    begun = {session: [reply(session, seq) for seq in range(3)] for session in ("half-sent", "not-read")}
    with LiveStream(live.url, sample_rate_hz=RATE_HZ, session="streamed", patience_s=TIMEOUT_S) as stream:
        stream.send(PIECES[0])
        stream.wait()
        half = Upload(process.port, "half-sent", 3, 0.5)
        until(lambda: "\nhetsyn_uploads 1.0\n" in httpx.get(f"{live.url}/metrics").text, "the chunk does not arrive")
        whole = Upload(process.port, "not-read", 3, 1.0)
        until(lambda: described(live, "not-read")["expected_seq"] == 4, "the chunk is not applied")
        for piece in PIECES[1:4]:
            stream.send(piece)  # applied or not
        process.kill()
        for upload in (half, whole):
            upload.socket.close()
        process.restart()
        for piece in PIECES[4:]:
            stream.send(piece)
        assert bits(stream.end()["probabilities"]) == expected
    assert reply("half-sent", 2) == begun["half-sent"][2]  # an acknowledged chunk that comes again counts once
    for session in begun:
        final = [reply(session, seq) for seq in range(3, len(CHUNKS))][-1]
        assert bits(final["probabilities"]) == expected
        assert final["total_steps"] == last_reply["total_steps"]
    for door in ("stream", "streams"):
        assert bits(DOORS[door](live, f"{door}-after")) == expected
    assert bits(over_infer(live, "infer-after")["probabilities"]) == expected
