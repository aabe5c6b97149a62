"""``hetsyn keys`` and ``hetsyn serve --keys`` as processes: rotation, TLS, and no secret in any output."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import httpx
import numpy as np
import pytest
from cryptography import x509
from websockets.exceptions import InvalidStatus

from hetsyn_client import LiveStream, StreamingClient
from tests.support.clients.http_calls import metric
from tests.support.clients.recording_stream import pieces
from tests.support.clients.sync_websocket import connect
from tests.support.paths import ROOT
from tests.support.servers.certificate import write_certificate
from tests.support.servers.keyed import bearer
from tests.support.servers.server_process import START_TIMEOUT_S, RestartableServer, free_port, serve_command

pytestmark = pytest.mark.process

PCM = np.frombuffer(b"".join(pieces()), "<i2")
BEGUN = {"begin": True}
BODY = {"model": "shd-words", "input": {"kind": "events", "steps": 5, "times": [1], "units": [3]}}
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))  # one context of TLS for all
SCOPES = ("infer", "metrics")


class KeysFile:
    """A keys file, changed by the command."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secrets: list[str] = []

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "hetsyn", "keys", *arguments, "--file", str(self.path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        text = done.stdout.strip()
        if text.startswith("hsk_"):
            self.secrets.append(text.rpartition("_")[2] if text.count("_") == 2 else text[21:])
        return text


@pytest.fixture
def keys(tmp_path: Path) -> KeysFile:
    return KeysFile(tmp_path / "keys.json")


def status(url: str, key: str, path: str = "/models") -> int:
    return HTTP.get(url + path, headers=bearer(key)).status_code


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_keys_rotate_without_a_restart_and_no_output_has_a_secret(keys: KeysFile, tmp_path: Path) -> None:
    alice = keys.run("add", "alice", *(f"--scope={scope}" for scope in SCOPES))
    bob = keys.run("add", "bob", "--max-sessions", "1", "--requests-per-s", "50")
    carry = tmp_path / "carry.keys"
    carry.write_text("A" * 43 + "=\n")
    log = tmp_path / "log"
    outputs: list[str] = []

    with log.open("wb") as output:
        server = LoggedServer(output, "--keys", str(keys.path), "--log-level", "debug", "--carry-keys", str(carry))
        try:
            server.ready()
            url = server.url
            outputs += provoked(url, alice, bob)
            again = keys.run("rotate", "alice")
            wait_until(lambda: status(url, again) == 200)
            assert status(url, alice) == 200  # both, for a day
            last = keys.run("rotate", "alice", "--overlap-h", "0")
            wait_until(lambda: status(url, last) == 200)
            assert status(url, alice) == status(url, again) == 401
            assert (
                httpx.get(f"{url}/sessions/s", headers=bearer(last)).status_code == 200
            )  # the key's, not the secret's
            keys.run("revoke", "bob")
            wait_until(lambda: status(url, bob) == 401)
            good = keys.path.read_bytes()
            keys.path.write_bytes(good[: len(good) // 2])
            wait_until(lambda: b"the keys file cannot be read again" in log.read_bytes())
            assert status(url, last) == 200
            keys.path.write_bytes(good)
            outputs += provoked(url, last, bob)
        finally:
            server.stop()
    outputs += [log.read_text(errors="replace"), keys.path.read_text(), keys.run("list"), keys.run("list", "--json")]
    assert len(keys.secrets) == 4
    everything = "\n".join(outputs)
    assert "key-refused" in everything
    assert "key-limit" in everything or "key-scope" in everything
    for secret in keys.secrets:
        assert secret not in everything
        assert secret[8:] not in everything


class LoggedServer(RestartableServer):
    """A server whose output goes into a file."""

    def __init__(self, output: IO[bytes], *options: str) -> None:
        self._output = output
        super().__init__(*options)

    def _started(self) -> subprocess.Popen[bytes]:
        command = serve_command(self.port, *self._options)
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )


def provoked(url: str, alice: str, bob: str) -> Iterator[str]:
    """The heads and bodies of all kinds of answers and refusals."""
    wrong: list[dict[str, str]] = [{}, bearer(alice[:-1]), bearer(alice + "x"), {"Authorization": f"Basic {alice}"}]
    both = [*bearer(alice).items(), *bearer(bob).items()]
    for headers in (*map(httpx.Headers, (bearer(alice), bearer(bob), *wrong)), httpx.Headers(both)):
        for method, path in (
            ("GET", "/models"), ("GET", "/metrics"), ("GET", "/sessions/s"), ("GET", "/sessions/s/state"),
            ("DELETE", "/sessions/none"), ("GET", f"/{alice}"), ("GET", f"/models?key={'x' * 43}"), ("GET", "/v2"),
            ("GET", "/v2/models/stats"), ("POST", "/v2/repository/models/x/load"), ("PUT", "/sessions/s/state"),
            ("GET", "/stream?encoding=events"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/asyncapi.json"),
            ("PATCH", "/infer"), ("POST", "/infer"),
        ):  # fmt: skip
            answer = HTTP.request(method, url + path, headers=headers)
            if alice not in path:
                yield f"{answer.status_code} {answer.headers} {answer.text}"
        named = (
            BEGUN | {"session": "s"},
            BEGUN | {"session": "t"},
            {"carry": True, "token": "AAAA"},
            {"session": "none", "seq": 3},
        )
        for body in (BODY, *(BODY | more for more in named), {}):
            answer = HTTP.post(f"{url}/infer", json=body, headers=headers)
            yield f"{answer.status_code} {answer.headers} {answer.text}"
    for protocols in (["hetsyn.v1", f"hetsyn.key.{bob}"], [f"hetsyn.key.{bob}"], ["hetsyn.v1", f"hetsyn.key.{bob}x"]):
        target = url.replace("http", "ws") + "/stream?encoding=events&model=shd-words"
        try:
            with connect(target, subprotocols=protocols) as socket:
                assert socket.response is not None
                yield f"{socket.response.headers} {socket.recv()!r}"
        except InvalidStatus as refused:
            yield f"{refused.response.headers} {refused.response.body!r}"
        except Exception as error:  # no subprotocol that both speak
            yield str(error)


def test_tls_by_files_that_are_read_again(keys: KeysFile, tmp_path: Path) -> None:
    alice, reader = keys.run("add", "alice"), keys.run("add", "reader", "--scope", "metrics")
    certificate, key = write_certificate(tmp_path)
    options = ("--keys", str(keys.path), "--tls-cert", str(certificate), "--tls-key", str(key))
    process = subprocess.Popen(serve_command(port := free_port(), *options), cwd=ROOT, stdin=subprocess.DEVNULL)
    url = f"https://127.0.0.1:{port}"
    try:

        def is_ready() -> bool:
            with suppress(httpx.TransportError):
                return httpx.get(f"{url}/health/ready", verify=trusting(certificate)).is_success
            assert process.poll() is None
            return False

        wait_until(is_ready)
        with (
            StreamingClient(url, key=alice, ca_file=certificate) as client,
            client.session() as session,
            LiveStream(url, key=alice, ca_file=certificate, sample_rate_hz=16_000) as stream,
        ):
            assert session.send(PCM[:1600], 16_000)["seq"] == 0
            stream.send(PCM[:1600])
            first = served(port)
            assert expiry(url, reader, certificate) == ends_of(first)
            (tmp_path / "new").mkdir(exist_ok=True)
            for new, old in zip(write_certificate(tmp_path / "new"), (certificate, key), strict=True):
                new.replace(old)
            wait_until(lambda: served(port) != first)
            assert expiry(url, reader, certificate) == ends_of(served(port)) > ends_of(first)
            assert session.send(PCM[:1600], 16_000)["seq"] == 1  # the open connections go on
            stream.send(PCM[:1600])
            session.end()
            stream.end()
        good = certificate.read_bytes()
        now = served(port)
        certificate.write_bytes(b"damaged")
        time.sleep(1.5)  # it looks once a second
        assert served(port) == now
        certificate.write_bytes(good)
    finally:
        process.terminate()
        process.wait()


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


def served(port: int) -> str:
    """The certificate that the server presents."""
    return ssl.get_server_certificate(("127.0.0.1", port))


def ends_of(pem: str) -> float:
    """When a certificate expires, in seconds since 1970."""
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()


def expiry(url: str, reader: str, certificate: Path) -> float:
    """When the certificate expires, as the server's metrics say."""
    text = httpx.get(f"{url}/metrics", headers=bearer(reader), verify=trusting(certificate)).text
    return metric(text, "hetsyn_certificate_expiration_timestamp_seconds")
