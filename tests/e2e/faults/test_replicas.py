"""Three processes with one store in a file, started and behind HAProxy as the page says: they give the bits of one.

Every door does, and clients see nothing of a process that is killed, or stopped and started again.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from hetsyn_client import LiveStream, LiveStreams, StreamingClient
from hetsyn_client.columns import APPLIED
from tests.support.clients.http_calls import metric
from tests.support.clients.json_input import Json
from tests.support.clients.recording_stream import CHUNK_SAMPLES, pieces, stream
from tests.support.paths import DOCS, MODELS, RECORDINGS, ROOT
from tests.support.servers.server_process import START_TIMEOUT_S, RestartableServer, free_port
from tests.support.tools import NO_TRITONCLIENT

pytestmark = pytest.mark.process

PIECES = pieces()
SAMPLES = [np.frombuffer(piece, "<i2") for piece in PIECES]
MODEL = "speech-digits"
CHUNK_S = CHUNK_SAMPLES / 8000


class Replicas(NamedTuple):
    """Processes that share a store.

    Attributes:
        servers: behind it.
        grpc: address of each, for gRPC.
        expected: probabilities after each chunk of the recording, of one process.
    """

    url: str
    servers: list[RestartableServer]
    grpc: list[str]
    expected: list[list[float]]

    def applied(self) -> list[float]:
        """Chunks that each of them has applied."""
        line = 'hetsyn_chunks_total{outcome="applied"}'
        return [metric(httpx.get(f"{server.url}/metrics").text, line) for server in self.servers]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    if shutil.which("haproxy") is None:
        pytest.skip("no haproxy: apt-get install haproxy")
    pytest.importorskip("tritonclient.grpc", reason=NO_TRITONCLIENT)
    folder = tmp_path_factory.mktemp("replicas")
    shutil.copytree(MODELS / MODEL, folder / "models" / MODEL)  # alone, it is loaded sooner
    options = ["--models", str(folder / "models"), "--store", f"file://{folder}/sessions.db", "--log-level", "warning"]
    options += printed_options()
    ports = [free_port() for _ in range(3)]
    servers = [RestartableServer(*options, "--grpc-port", str(port)) for port in ports]
    url = f"http://127.0.0.1:{free_port()}"
    proxy = None
    try:
        for server in servers:
            server.ready()
        file = folder / "haproxy.cfg"
        file.write_text(configuration(url, servers))
        proxy = subprocess.Popen(["haproxy", "-f", str(file)], stdin=subprocess.DEVNULL)
        until_passes(url, proxy)
        replies = stream(servers[0].url, "expected", PIECES)
        expected = [reply["probabilities"] for reply in replies]
        yield Replicas(url, servers, [f"127.0.0.1:{port}" for port in ports], expected)
    finally:
        if proxy is not None:
            proxy.kill()
            proxy.wait()
        for server in servers:
            server.process.terminate()
        for server in servers:
            server.stop()  # a second SIGTERM ends the time of --drain-s


def printed(pattern: str) -> str:
    """What a command of the page says."""
    (found,) = re.findall(f"^{pattern}$", (DOCS / "guides/deployment.md").read_text(), re.MULTILINE)
    return str(found)


def printed_options() -> list[str]:
    """The options of the page's server beside its store and port."""
    return shlex.split(printed(r"FORWARDED_ALLOW_IPS=127.0.0.1 hetsyn serve --store \S+ --port 8001(.*)"))


def configuration(url: str, servers: list[RestartableServer]) -> str:
    """The HAProxy configuration of the page, with the ports of this test."""
    text = (ROOT / printed(r"haproxy -f (\S+)")).read_text()
    ports = {"8000": url.rpartition(":")[2], "8404": str(free_port())}
    ports |= {f"800{n}": str(server.port) for n, server in enumerate(servers, 1)}
    made, count = re.subn(r"((?:127\.0\.0\.1|HOST\}):)(\d+)", lambda found: found[1] + ports[found[2]], text)
    assert count == len(ports)
    return made


def until_passes(url: str, proxy: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/ready").is_success:
                return
        assert proxy.poll() is None, "haproxy ended; its message stands above"
        assert time.monotonic() < deadline_s, "the proxy did not start"
        time.sleep(0.05)


def probabilities(replies: list[Json]) -> list[list[float]]:
    return [reply["probabilities"] for reply in replies]


def test_chunks_without_an_id_go_to_all_processes(replicas: Replicas) -> None:
    before = replicas.applied()
    headers = {"Content-Type": "audio/pcm;encoding=pcm_s16le;rate=8000"}
    for _ in range(9):
        reply = httpx.post(f"{replicas.url}/infer?end=true", content=b"".join(PIECES), headers=headers, timeout=60)
        assert reply.status_code == 200
        assert reply.json()["probabilities"] == replicas.expected[-1]
    assert all(now > then for now, then in zip(replicas.applied(), before, strict=True))


def test_a_session_of_infer_goes_on_at_another_process(replicas: Replicas) -> None:
    half = len(PIECES) // 2
    replies = stream(replicas.url, "moved", PIECES, range(half))
    for number, server in zip(range(half, len(PIECES)), 99 * replicas.servers, strict=False):
        replies += stream(server.url, "moved", PIECES, range(number, number + 1))
    assert probabilities(replies) == replicas.expected


def test_a_stream_is_as_infer(replicas: Replicas) -> None:
    frames: list[dict[str, Any]] = []
    with LiveStream(replicas.url, sample_rate_hz=8_000, endpointing=False) as live:
        for samples in SAMPLES[:-1]:
            frames += live.send(samples)
        frames += live.wait()
    results = {frame["seq"]: frame["probabilities"] for frame in frames if frame["type"] == "Result"}
    assert results == dict(enumerate(replicas.expected[:-1]))


def test_sessions_of_streams_go_on_over_infer(replicas: Replicas) -> None:
    names, half = ["many-1", "many-2", "many-3"], len(PIECES) // 2
    with LiveStreams(replicas.url, sample_rate_hz=8_000) as streams:
        handles = streams.open(names)
        results = []
        for samples in SAMPLES[:half]:
            results += streams.send(handles, [samples] * len(names))
        results += streams.wait()
        assert all(one.status.tolist() == [APPLIED] * len(one.status) for one in results)
        streams.leave(handles)
    for name in names:
        replies = stream(replicas.url, name, PIECES, range(half, len(PIECES)))
        assert probabilities(replies) == replicas.expected[half:]


def test_a_sequence_over_http_passes_the_proxy_and_goes_on_over_grpc_at_each_process(replicas: Replicas) -> None:
    import tritonclient.grpc as over_grpc
    import tritonclient.http as over_http

    def asked(client: Any, module: Any, seq: int) -> Any:
        tensor = module.InferInput("audio", [len(SAMPLES[seq])], "INT16")
        tensor.set_data_from_numpy(np.array(SAMPLES[seq], np.int16))
        flags = {"sequence_start": seq == 0, "sequence_end": seq == len(SAMPLES) - 1}
        parameters = {"seq": seq, "sample_rate": 8_000}
        answer = client.infer(MODEL, [tensor], sequence_id="sequence", parameters=parameters, **flags)
        return answer.as_numpy("probabilities")

    half = len(SAMPLES) // 2
    with over_http.InferenceServerClient(replicas.url.removeprefix("http://")) as client:
        answers = [asked(client, over_http, seq) for seq in range(half)]
    for seq, address in zip(range(half, len(SAMPLES)), 99 * replicas.grpc, strict=False):
        with over_grpc.InferenceServerClient(address) as client:
            answers.append(asked(client, over_grpc, seq))
    assert np.array_equal(answers, np.array(replicas.expected, np.float32))


Answers = dict[int, list[float] | None]


def over_infer(url: str) -> Answers:
    answers: Answers = {}
    with StreamingClient(url) as client:
        for reply in client.stream_file(RECORDINGS / "seven.wav", CHUNK_S):
            answers[reply["seq"]] = reply["probabilities"]
            time.sleep(CHUNK_S)  # in real time, as a speaker
    return answers


def over_stream(url: str) -> Answers:
    """The results that came, and the last one: those that were lost with a connection do not come again."""
    frames: list[dict[str, Any]] = []
    with LiveStream(url, sample_rate_hz=8_000, endpointing=False) as live:
        for samples in SAMPLES:
            frames += live.send(samples)
            time.sleep(CHUNK_S)
        frames += live.wait()
        final = live.end()
    answers = {frame["seq"]: frame["probabilities"] for frame in frames if frame["type"] == "Result"}
    return answers | {len(SAMPLES): final["probabilities"]}


def kill(server: RestartableServer) -> None:
    server.kill()
    server.restart()


def roll(server: RestartableServer) -> None:
    server.stop()  # SIGTERM
    server.restart()


@pytest.mark.parametrize(("streams", "least_s"), [(4, 0.0), pytest.param(12, 25.0, marks=pytest.mark.long)])
@pytest.mark.parametrize("fault", [kill, roll])
def test_no_client_sees_that_each_process_ends_in_turn(
    replicas: Replicas, fault: Callable[[RestartableServer], None], streams: int, least_s: float
) -> None:
    is_over = threading.Event()
    says: list[Callable[[str], Answers]] = [over_stream if number % 4 == 3 else over_infer for number in range(streams)]
    undisturbed = {say: say(replicas.servers[0].url) for say in set(says)}

    def speak(say: Callable[[str], Answers]) -> list[int]:
        """Stream the recording in one session after the other; the number of answers of each."""
        counts, expected = [], undisturbed[say]
        while not is_over.is_set():
            answers = say(replicas.url)
            assert expected | answers == expected
            assert max(answers) == max(expected)
            counts.append(len(answers))
        return counts

    began_s = time.monotonic()
    with ThreadPoolExecutor(streams) as pool:
        speakers = [pool.submit(speak, say) for say in says]
        try:
            for server in replicas.servers:
                fault(server)
            time.sleep(max(0.0, began_s + least_s - time.monotonic()))
        finally:
            is_over.set()
        counts = [count for speaker in speakers for count in speaker.result()]
    print(
        f"{fault.__name__}: {time.monotonic() - began_s:.0f} s, {len(counts)} sessions, {sum(counts)} chunks, 0 errors"
    )
