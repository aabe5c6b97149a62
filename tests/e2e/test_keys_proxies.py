"""nginx and Caddy, with their example configurations, in front of a server that asks for keys. Our clients pass."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import InvalidStatus

from hetsyn_client import LiveStream, ServiceProblem, StreamingClient
from tests.support.clients.recording_stream import pieces
from tests.support.clients.sync_websocket import connect
from tests.support.paths import MODELS, ROOT
from tests.support.servers.certificate import write_certificate
from tests.support.servers.keyed import add_key, bearer
from tests.support.servers.server_process import START_TIMEOUT_S, RestartableServer, free_port

pytestmark = pytest.mark.process

PCM = np.frombuffer(b"".join(pieces()), "<i2")
CHUNKS = 12
PIECE = 800
PROXIES = {"nginx": "apt-get install nginx", "caddy": "apt-get install caddy"}


class Front(NamedTuple):
    """A server behind a proxy.

    Attributes:
        server: behind it.
        certificate: to trust.
    """

    url: str
    server: RestartableServer
    key: str
    certificate: Path
    log: Path

    def http(self, key: str = "") -> httpx.Client:
        trusted = ssl.create_default_context(cafile=self.certificate)
        return httpx.Client(base_url=self.url, headers=bearer(key or self.key), verify=trusted, trust_env=False)


@pytest.fixture(scope="module", params=list(PROXIES))
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    name = request.param
    if shutil.which(name) is None:
        pytest.skip(f"no {name}: {PROXIES[name]}")
    folder = tmp_path_factory.mktemp(name)
    certificate, key_file = write_certificate(folder)
    key = add_key(folder / "keys.json", "alice")
    shutil.copytree(MODELS / "speech-digits", folder / "models/speech-digits")  # alone, it is loaded sooner
    options = ("--models", str(folder / "models"), "--store", f"file://{folder}/sessions.db")
    server = RestartableServer(*options, "--keys", str(folder / "keys.json"))
    try:
        server.ready()
        with proxied(name, folder, server.port, certificate, key_file) as url:
            yield Front(url, server, key, certificate, folder / "proxy.log")
    finally:
        server.stop()


@contextmanager
def proxied(name: str, folder: Path, port: int, certificate: Path, key: Path) -> Iterator[str]:
    """The URL of a proxy with the example's configuration, but for names, ports and files."""
    own = free_port()
    changes = {
        "127.0.0.1:8000": f"127.0.0.1:{port}",
        "/etc/hetsyn/cert.pem": str(certificate),
        "/etc/hetsyn/key.pem": str(key),
    }
    if name == "nginx":
        source, target = ROOT / "docker/proxies/nginx.conf", folder / "nginx.conf"
        changes |= {
            "listen 443": f"listen 127.0.0.1:{own}",
            "pid /run/nginx.pid;": f"pid {folder}/nginx.pid;\ndaemon off;",
            "http {": "http {\n" + "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in TEMPORARY),
        }
        command = ["nginx", "-e", "stderr", "-c", str(target)]
    else:
        source, target = ROOT / "docker/proxies/Caddyfile", folder / "Caddyfile"
        changes |= {"example.org {": f"https://127.0.0.1:{own} {{", "\n\tservers": "\n\tadmin off\n\tservers"}
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(target)]
    text = source.read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new, 1) if old == "http {" else text.replace(old, new)
    target.write_text(text)
    environment = os.environ | {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    log = folder / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    url = f"https://127.0.0.1:{own}"
    try:
        front = Front(url, None, "none", certificate, log)  # type: ignore[arg-type]
        deadline_s = time.monotonic() + START_TIMEOUT_S
        with front.http() as client:
            while True:
                with suppress(httpx.TransportError):
                    if client.get("/health/ready").is_success:
                        break
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline_s, "the proxy did not start"
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def piece(seq: int) -> NDArray[np.int16]:
    return np.array(PCM[seq % 4 * PIECE :][:PIECE], np.int16)


def undisturbed(front: Front) -> list[dict[str, object]]:
    """The replies to the chunks, straight from the server."""
    with StreamingClient(front.server.url, key=front.key) as client, client.session() as session:
        replies = [session.send(piece(seq), 16_000) for seq in range(CHUNKS)]
        session.end()
    return [same(reply) for reply in replies]


def same(reply: Mapping[str, Any]) -> dict[str, object]:
    return {name: reply[name] for name in ("seq", "total_steps", "label", "probabilities")}


def access(front: Front) -> dict[str, Any]:
    return {"key": front.key, "ca_file": front.certificate, "repeats": 40}


def test_a_client_passes_though_the_server_is_killed(front: Front) -> None:
    expected = undisturbed(front)
    with StreamingClient(front.url, **access(front)) as client, client.session() as session:
        replies = []
        for seq in range(CHUNKS):
            if seq == CHUNKS // 2:
                killed_and_restarted(front.server)
            replies.append(same(session.send(piece(seq), 16_000)))
        session.end()
    assert replies == expected


def test_a_stream_passes_though_the_server_is_killed(front: Front) -> None:
    expected = undisturbed(front)
    frames = []
    with LiveStream(front.url, sample_rate_hz=16_000, endpointing=False, **access(front)) as stream:
        for seq in range(CHUNKS):
            if seq == CHUNKS // 2:
                stream.wait()
                killed_and_restarted(front.server)
            frames += stream.send(piece(seq))
        frames += stream.wait()
        stream.end()
    check_results(frames, expected)


def check_results(frames: list[dict[str, Any]], expected: list[dict[str, object]]) -> None:
    """The results that came are those of an undisturbed session, and the last one came."""
    results = {frame["seq"]: same(frame) for frame in frames if frame["type"] == "Result"}
    assert CHUNKS - 1 in results
    for seq, result in results.items():
        assert result == expected[seq]


def killed_and_restarted(server: RestartableServer) -> None:
    """Kill a server, and start it again while its clients send on."""
    server.kill()
    threading.Thread(target=server.restart).start()


def test_a_proxy_lets_nobody_in(front: Front) -> None:
    with front.http("hsk_0000000000000000_" + "a" * 43) as client:
        refused = client.get("/models")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert client.get("/health/live").is_success
        assert client.get("/").is_success
        assert client.get("/metrics").status_code == 404
    with front.http() as client:
        assert client.get("/models").is_success
        assert client.get("/metrics").status_code == 404
    with (
        StreamingClient(front.url, key="wrong", ca_file=front.certificate) as stranger,
        pytest.raises(ServiceProblem, match="no key of this server"),
        stranger.session() as session,
    ):
        session.send(piece(0), 16_000)


def test_a_page_streams_with_its_key_as_a_subprotocol(front: Front) -> None:
    target = front.url.replace("https", "wss") + "/stream?sample_rate=16000"
    trusted = ssl.create_default_context(cafile=front.certificate)
    protocols: list[Any] = ["hetsyn.v1", f"hetsyn.key.{front.key}"]
    origin: Any = front.url
    with connect(target, subprotocols=protocols, origin=origin, ssl=trusted) as socket:
        assert socket.subprotocol == "hetsyn.v1"
        assert '"Begin"' in str(socket.recv())
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(target, subprotocols=["hetsyn.v1"], ssl=trusted),
    ):
        pass
    assert refused.value.response.status_code == 401


def test_no_log_of_a_proxy_has_a_key(front: Front) -> None:
    """It logs a request that the server does not answer, and a page's WebSocket has its key in another header."""
    target = front.url.replace("https", "wss") + "/stream?sample_rate=16000"
    trusted = ssl.create_default_context(cafile=front.certificate)
    protocols: list[Any] = ["hetsyn.v1", f"hetsyn.key.{front.key}"]
    front.server.kill()
    try:
        with pytest.raises(InvalidStatus) as refused, connect(target, subprotocols=protocols, ssl=trusted):
            pass
        assert refused.value.response.status_code == 502
        with front.http() as client:
            assert client.get("/models").status_code == 502
    finally:
        front.server.restart()
    written = front.log.read_text()
    assert "refused" in written
    assert "hsk_" not in written
