"""``hetsyn keys`` and ``hetsyn serve --keys`` as processes: rotation, TLS, workers, and no secret in any output."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, get_args

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from hetsyn_client import AsyncStreamingClient, LiveStreams, StreamingClient
from hetsyn_client.columns import pack_chunks, pack_sessions, unpack_opened, unpack_results
from hetsyn_client.session_steps import TransportName
from tests.support.certificate import write_certificate
from tests.support.keyed import bearer
from tests.support.paths import ROOT
from tests.support.server_process import START_TIMEOUT_S, RestartableServer, serve_command
from tests.support.workers import PCM, SESSIONS, SPIKES, WorkersServer

pytestmark = pytest.mark.process

BODY = {"model": "shd-words", "input": SPIKES}
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))  # one context of TLS for all
SCOPES = ("infer", "state", "admin", "metrics")


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
            wait_until(lambda: b"the keys stay as they were" in log.read_bytes())
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
        named = ({"session": "s"}, {"session": "t"}, {"carry": True, "token": "AAAA"}, {"session": "none", "seq": 3})
        for body in (BODY, *(BODY | more for more in named), {}):
            answer = HTTP.post(f"{url}/infer", json=body, headers=headers)
            yield f"{answer.status_code} {answer.headers} {answer.text}"
    for protocols in (["hetsyn.v1", f"hetsyn.key.{bob}"], [f"hetsyn.key.{bob}"], ["hetsyn.v1", f"hetsyn.key.{bob}x"]):
        target = url.replace("http", "ws") + "/stream?encoding=events&model=shd-words"
        try:
            with connect(target, subprotocols=protocols, proxy=None) as socket:  # type: ignore[arg-type]
                assert socket.response is not None
                yield f"{socket.response.headers} {socket.recv()!r}"
        except InvalidStatus as refused:
            yield f"{refused.response.headers} {refused.response.body!r}"
        except Exception as error:  # no subprotocol that both speak
            yield str(error)


def test_tls_by_files_that_are_read_again(keys: KeysFile, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="no cryptography: pip install -e '.[test]' in the checkout of hetsyn")
    alice = keys.run("add", "alice")
    certificate, key = write_certificate(tmp_path)
    options = ("--keys", str(keys.path), "--tls-cert", str(certificate), "--tls-key", str(key))
    process = subprocess.Popen(serve_command(port := free(), *options), cwd=ROOT, stdin=subprocess.DEVNULL)
    url = f"https://127.0.0.1:{port}"
    try:

        def is_ready() -> bool:
            with suppress(httpx.TransportError):
                return httpx.get(f"{url}/health/ready", verify=trusting(certificate)).is_success
            assert process.poll() is None
            return False

        wait_until(is_ready)
        with StreamingClient(url, key=alice, ca_file=certificate) as client:
            for transport in get_args(TransportName):
                with client.session(transport=transport) as session:
                    assert session.send(PCM[:1600], 16_000)["seq"] == 0
                    first = served(port)
                    (tmp_path / "new").mkdir(exist_ok=True)
                    for new, old in zip(write_certificate(tmp_path / "new"), (certificate, key), strict=True):
                        new.replace(old)
                    wait_until(lambda: served(port) != first)  # noqa: B023
                    assert session.send(PCM[:1600], 16_000)["seq"] == 1  # the open connection goes on
                    session.end()
        good = certificate.read_bytes()
        now = served(port)
        certificate.write_bytes(b"damaged")
        time.sleep(1.5)  # it looks once a second
        assert served(port) == now
        certificate.write_bytes(good)
    finally:
        process.terminate()
        process.wait()


def free() -> int:
    from tests.support.server_process import free_port

    return free_port()


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


def served(port: int) -> str:
    """The certificate that the server presents."""
    return ssl.get_server_certificate(("127.0.0.1", port))


async def streamed(url: str, key: str) -> None:
    """Sessions of both workers, as WebSockets."""
    async with AsyncStreamingClient(url, key=key) as client:
        for number in range(4):
            async with client.session(f"s{number}", transport="websocket") as session:
                assert (await session.send(PCM[:1600], 16_000))["seq"] == 0
                await session.end()


def test_calls_that_workers_pass_on_keep_the_key_and_its_limits(keys: KeysFile) -> None:
    limited = keys.run("add", "limited", "--max-sessions", "4")
    slow = keys.run("add", "slow", "--requests-per-s", "20", "--scope", "infer")
    server = WorkersServer("--keys", str(keys.path), count=2)
    try:
        server.ready()

        def send(key: str, session: str, seq: int, **more: object) -> httpx.Response:
            body = BODY | {"session": session, "seq": seq, **more}
            return HTTP.post(f"{server.url}/infer", json=body, headers=bearer(key))

        answers = {session: send(limited, session, 0) for session in SESSIONS}
        opened = [session for session, answer in answers.items() if answer.status_code == 200]
        refused = [answer for answer in answers.values() if answer.status_code != 200]
        assert 2 <= len(opened) <= 4  # two of each worker
        for answer in refused:
            assert answer.status_code == 429
            assert answer.json()["detail"].startswith("2 sessions of key 'limited' are open")
        for _ in range(4):  # wherever the connection ends
            assert httpx.get(f"{server.url}/sessions/{opened[0]}", headers=bearer(limited)).json()["expected_seq"] == 1
        assert send(slow, opened[0], 1).status_code == 404

        url = f"{server.url.replace('http', 'ws')}/streams?encoding=events&model=shd-words"
        with connect(url, additional_headers=bearer(limited), proxy=None) as socket:  # sessions of both workers
            socket.recv()
            socket.send(pack_sessions(range(12), SESSIONS))
            begun = unpack_opened(socket.recv(decode=False))
            assert [SESSIONS[row] for row, seq in enumerate(begun.next_seq) if seq] == opened
            new = [row for row, session in enumerate(SESSIONS) if session not in opened]
            socket.send(pack_chunks(new, [0] * len(new), [0] * len(new), b"", [5] * len(new), [0] * len(new)))
            statuses: list[int] = []
            while len(statuses) < len(new):
                statuses += unpack_results(socket.recv(decode=False)).status.tolist()
        assert statuses.count(429) >= len(new) - (4 - len(opened))

        for session in opened:  # a session that has ended makes room, on the worker that has it
            assert HTTP.delete(f"{server.url}/sessions/{session}", headers=bearer(limited)).status_code == 204

        begun_s = time.monotonic()
        found = [send(slow, SESSIONS[index % 12], index // 12).status_code for index in range(60)]
        took_s = time.monotonic() - begun_s
        # a call counts once, at the worker that has the connection: both together have the key's rate, and one second's
        assert 12 <= found.count(200) <= 20 + 20 * took_s + 2  # each lets one pass that takes its level below zero
        assert set(found) <= {200, 404, 409, 429}  # 404 and 409: a chunk before was refused
        exported = HTTP.get(f"{server.url}/sessions/{SESSIONS[0]}/state", headers=bearer(slow))
        while exported.status_code == 429:
            exported = HTTP.get(f"{server.url}/sessions/{SESSIONS[0]}/state", headers=bearer(slow))
        assert "lacks the scope 'state'" in exported.json()["detail"]
    finally:
        server.stop()


def test_workers_keep_the_sessions_of_keys_apart(keys: KeysFile) -> None:
    alice, bob = keys.run("add", "alice", *(f"--scope={scope}" for scope in SCOPES)), keys.run("add", "bob")
    server = WorkersServer("--keys", str(keys.path), count=2)
    try:
        server.ready()

        def send(key: str, session: str, seq: int) -> httpx.Response:
            return HTTP.post(f"{server.url}/infer", json=BODY | {"session": session, "seq": seq}, headers=bearer(key))

        for session in (f"s{number}" for number in range(8)):  # of both workers
            for seq in range(3):
                assert send(alice, session, seq).status_code == 200
            assert send(bob, session, 3).status_code == 404
            assert status(server.url, bob, f"/sessions/{session}") == 404
            assert send(bob, session, 0).json()["total_steps"] == 5
            described = httpx.get(f"{server.url}/sessions/{session}", headers=bearer(alice)).json()
            assert (described["session"], described["expected_seq"]) == (session, 3)
            exported = httpx.get(f"{server.url}/sessions/{session}/state", headers=bearer(alice))
            assert exported.status_code == 200
            assert b"alice" not in exported.content
            assert httpx.delete(f"{server.url}/sessions/{session}", headers=bearer(bob)).status_code == 204
        text = httpx.get(f"{server.url}/metrics", headers=bearer(alice)).text
        assert "hetsyn_workers 2" in text
        assert status(server.url, bob, "/metrics") == 403
        assert httpx.get(f"{server.url}/health/ready").json() == {"status": "ready"}
        asyncio.run(streamed(server.url, bob))
        assert json.loads(httpx.get(f"{server.url}/sessions/s1", headers=bearer(alice)).text)["expected_seq"] == 3
        with LiveStreams(server.url, key=alice, model="shd-words") as mine, LiveStreams(server.url, key=bob) as others:
            names = [f"s{number}" for number in range(4, 8)]
            assert mine.begin["model"] == "shd-words"
            assert len(mine.open(names)) == len(others.open(names)) == len(names)
        assert status(server.url, bob, "/sessions/s5") == 404
    finally:
        server.stop()
