"""Headers, keys and the files of certificate authorities, in front of a server, over HTTP and WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from hetsyn_client import (
    AsyncLiveStream,
    AsyncStreamingClient,
    InputError,
    LiveStream,
    LiveStreams,
    ServiceProblem,
    ServiceUnreachable,
    StreamingClient,
)
from hetsyn_client.access import Access
from hetsyn_client.loadtest.commands import bench
from hetsyn_client.terminal.backend import Server
from hetsyn_client.terminal.commands import stream
from hetsyn_client.terminal.source import Source
from service.keys.caller import Scope
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import load_fake
from tests.support.data.signals import sound
from tests.support.data.wav import wav
from tests.support.servers.certificate import write_certificate
from tests.support.servers.keyed import add_key, keyed_server
from tests.support.servers.socket_server import running
from tests.support.servers.tls_relay import relayed_with_tls

KEY, HEADERS = "secret-3", {"X-Tenant": "ward 7"}
SENT = {"authorization: Bearer secret-3", "x-tenant: ward 7"}
SOUND = sound(800)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def gateway(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder)
    with running(folder, load_fake) as url, relayed_with_tls(urlsplit(url).port or 0, *files) as relay:
        yield relay


def options(files: tuple[Path, Path]) -> dict[str, Any]:
    return {"key": KEY, "headers": HEADERS, "ca_file": files[0]}


def check_heads(heads: list[str], *paths: str) -> None:
    """Each connection of a client had the headers."""
    assert [head.split()[1].partition("?")[0] for head in heads] == list(paths)
    for head in heads:
        named = {f"{name.lower()}: {value}" for name, _, value in (line.partition(": ") for line in head.split("\r\n"))}
        assert named >= SENT
    heads.clear()


def test_they_go_with_every_connection(gateway: tuple[str, list[str]], files: tuple[Path, Path]) -> None:
    url, heads = gateway
    with StreamingClient(url, **options(files)) as client, client.session() as session:
        first = session.send(SOUND, 8000)
        session.end()
    check_heads(heads, "/infer")

    async def stream() -> None:
        async with (
            AsyncStreamingClient(url, **options(files)) as client,
            client.session() as session,
        ):
            assert (await session.send(SOUND, 8000))["probabilities"] == first["probabilities"]
            await session.end()

    asyncio.run(stream())
    check_heads(heads, "/infer")


def test_they_go_with_streams(gateway: tuple[str, list[str]], files: tuple[Path, Path]) -> None:
    url, heads = gateway
    with LiveStream(url, sample_rate_hz=8000, **options(files)) as stream:
        stream.send(SOUND)
        stream.end()

    async def send() -> None:
        async with AsyncLiveStream(url, sample_rate_hz=8000, **options(files)) as stream:
            await stream.send(SOUND)
            await stream.end()

    asyncio.run(send())
    with LiveStreams(url, sample_rate_hz=8000, **options(files)) as streams:
        handles = streams.open(["one"])
        streams.send(handles, [SOUND])
        streams.end(handles)
        streams.wait()
    check_heads(heads, "/stream", "/stream", "/streams")


def test_a_certificate_of_somebody_else_is_refused(gateway: tuple[str, list[str]]) -> None:
    url, heads = gateway
    sentence = (
        r"its certificate is not trusted .*: name the file of its certificate authority with --ca-file, in Python"
    )
    with (
        StreamingClient(url, repeats=0) as client,
        client.session() as session,
        pytest.raises(ServiceUnreachable, match=sentence),
    ):
        session.send(SOUND, 8000)

    async def stream() -> None:
        async with AsyncStreamingClient(url, repeats=0) as client, client.session() as session:
            with pytest.raises(ServiceUnreachable, match=sentence):
                await session.send(SOUND, 8000)

    async def open_stream() -> None:
        with pytest.raises(ServiceUnreachable, match=sentence):
            await AsyncLiveStream(url, repeats=0).__aenter__()

    asyncio.run(stream())
    asyncio.run(open_stream())
    for kind in (LiveStream, LiveStreams):
        with pytest.raises(ServiceUnreachable, match=sentence), kind(url, repeats=0):
            pass
    assert not heads


def test_a_server_with_a_certificate_is_asked_by_https(gateway: tuple[str, list[str]]) -> None:
    with (
        StreamingClient(gateway[0].replace("https:", "http:"), repeats=0) as client,
        pytest.raises(ServiceUnreachable, match="if it has a certificate, write https://"),
    ):
        client.describe()


def test_what_cannot_be_used_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for given, sentence in (
        ({"key": "a\nb"}, "the header 'Authorization' has characters that HTTP does not take"),
        ({"headers": {"X-Näme": "a"}}, "the header 'X-Näme' has characters"),
        ({"headers": {"X Name": "a"}}, "the header 'X Name' has characters"),
        ({"headers": {"X-Name": "a "}}, "the header 'X-Name' has characters"),
        ({"key": ""}, "the key is empty or has a space at an end: give it as hetsyn keys has shown it"),
        ({"key": "secret-3 "}, "the key is empty or has a space at an end"),
        ({"key": "a", "headers": {"authorization": "Basic b"}}, "there are a key and a header Authorization"),
        ({"ca_file": tmp_path / "none.pem"}, r"none\.pem: no certificates \(.*\): give a PEM file"),
        ({"ca_file": tmp_path / "empty.pem"}, r"empty\.pem: no certificates \(.*\): give a PEM file"),
    ):
        for client in (StreamingClient, AsyncStreamingClient, LiveStream):
            with pytest.raises(InputError, match=sentence):
                client("http://127.0.0.1:9", **given)
    for address in ("127.0.0.1:8000", "ws://127.0.0.1:8000", ""):
        for kind in (StreamingClient, AsyncStreamingClient, LiveStream, LiveStreams):
            with pytest.raises(InputError, match=f"{address!r} is not the address of a server: write http://HOST:PORT"):
                kind(address)


def test_a_key_is_not_shown() -> None:
    access = Access.checked("http://127.0.0.1:9/", key=KEY)
    assert access.url == "http://127.0.0.1:9"
    assert KEY not in repr(access)


def test_the_terminal_sends_them_too(gateway: tuple[str, list[str]], files: tuple[Path, Path], tmp_path: Path) -> None:
    url, heads = gateway
    (tmp_path / "sound.wav").write_bytes(wav(SOUND.tobytes()))
    command = [str(tmp_path / "sound.wav"), "--url", url, "--one-word", "--header", "X-Tenant: ward 7"]
    environment = {"HETSYN_KEY": KEY, "HETSYN_CA_FILE": str(files[0])}
    done = CliRunner().invoke(stream, command, env=environment)
    assert done.exit_code == 0, done.output
    check_heads(heads, "/models", "/stream")
    done = CliRunner().invoke(stream, [*command, "--header", "X-Tenant"], env=environment)
    assert done.exit_code == 2
    assert "'X-Tenant' is no header: write NAME:VALUE" in done.output
    assert not heads


@pytest.mark.parametrize("transport", ["infer", "stream"])
def test_a_load_sends_them_too(gateway: tuple[str, list[str]], files: tuple[Path, Path], transport: str) -> None:
    url, heads = gateway
    command = ["--url", url, "--streams", "1", "--duration-s", "0.5", "--warmup-s", "0", "--transport", transport]
    environment = {"HETSYN_KEY": KEY, "HETSYN_CA_FILE": str(files[0])}
    done = CliRunner().invoke(bench, [*command, "--header", "X-Tenant: ward 7"], env=environment)
    assert done.exit_code == 0, done.output
    paths = [head.split()[1].partition("?")[0] for head in heads]
    assert {path for path in paths if not path.startswith("/sessions/")} == {"/models", f"/{transport}"}
    check_heads(heads, *paths)  # each of them has the headers


def test_the_terminal_says_how_a_key_is_given(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    alice = add_key(keys, "alice", [Scope.metrics])
    (tmp_path / "sound.wav").write_bytes(b"")
    with keyed_server(tmp_path, keys) as live:
        commands: tuple[tuple[Any, list[str]], ...] = (
            (stream, [str(tmp_path / "sound.wav")]), (bench, []),
        )  # fmt: skip
        for command, arguments in commands:
            for key, sentence in (
                (None, "(401): this server asks for a key: give one with --key KEY or HETSYN_KEY"),
                (alice[:-2] + "zz", "or it was revoked: give one with --key KEY or HETSYN_KEY"),
                (
                    alice,
                    "(403): key 'alice' lacks the scope 'infer': give one that has it with --key KEY or HETSYN_KEY",
                ),
            ):
                done = CliRunner().invoke(command, [*arguments, "--url", live.url], env={"HETSYN_KEY": key})
                assert isinstance(done.exception, ServiceProblem)
                assert str(done.exception).endswith(sentence)
        with (
            pytest.raises(ServiceProblem, match="give one with --key KEY"),
            Server(live.url, "digits").open(Source("spikes", "events", None, None, iter(())), endpointing=False),
        ):
            pass
