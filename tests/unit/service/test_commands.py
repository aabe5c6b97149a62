"""Commands: stream as a user runs it, serve up to its last step."""

from __future__ import annotations

import base64
import gc
import logging
import signal
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hetsyn_client.client import StreamingClient
from hetsyn_client.terminal.commands import stream
from service.carried.carry_keys import VARIABLE, key_id
from service.commands.process import page_address
from service.commands.serve import serve
from service.errors import (
    ArtifactError,
    CarryUnavailable,
    HetsynError,
    KeysUnusable,
    RuntimeUnavailable,
    StoreUnusable,
)
from service.models.catalog import ModelCatalog
from service.runtime.device import Device
from service.runtime.onnx import operator_status
from service.runtime.operators import MODE
from service.shutdown import GracefulServer
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import LABELS, TAIL, load_fake
from tests.support.data.signals import sound
from tests.support.data.wav import wav
from tests.support.product import make_app
from tests.support.servers.certificate import write_certificate
from tests.support.servers.keyed import add_key
from tests.support.servers.server_process import free_port
from tests.support.servers.socket_server import serving


@pytest.fixture(autouse=True)
def _process() -> Iterator[None]:
    """``serve`` sets up the log of its process, holds signals, and stops the garbage collector until it listens."""
    log = logging.getLogger("hetsyn")
    before = log.level, log.handlers[:], signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    log.setLevel(before[0])
    log.handlers[:] = before[1]
    signal.pthread_sigmask(signal.SIG_SETMASK, before[2])
    gc.enable()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server on a free port, with a fake of a classifier and one of a tracer."""
    write_artifact(tmp_path, "digits")
    write_artifact(tmp_path, "tracer", rule="trace")
    with serving(make_app(ModelCatalog(with_default(tmp_path, "digits"), load=load_fake))) as address:
        yield address


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "seven.wav"
    path.write_bytes(wav(sound(2000).tobytes()))
    return path


def test_stream_prints_a_line_a_chunk_and_the_verdict(url: str, recording: Path) -> None:
    done = CliRunner().invoke(stream, [str(recording), "--url", url, "--chunk-ms", "50"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert len(lines) == 6
    assert [line.split()[0] for line in lines[:5]] == ["0.05", "0.10", "0.15", "0.20", "0.25"]
    assert lines[-1].startswith("seven.wav: ")
    assert lines[-1].split()[1] in LABELS
    with StreamingClient(url) as client:
        whole = client.infer_chunk(sound(2000), 8000, end=True)
    assert lines[-1].split()[1] == whole["label"]
    assert whole["total_steps"] == 25 + TAIL


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[GracefulServer]:
    """Servers that ``serve`` would have run."""
    servers: list[GracefulServer] = []

    def run(server: GracefulServer) -> None:
        servers.append(server)
        server.started = True

    monkeypatch.setattr(GracefulServer, "run", run)
    monkeypatch.setattr("service.commands.process.ModelCatalog", partial(ModelCatalog, load=load_fake))
    return servers


def test_serve_loads_the_models_and_runs(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[GracefulServer]
) -> None:
    monkeypatch.setenv("HETSYN_STORE", f"file://{tmp_path}/sessions.db")
    port = free_port()
    options = f"--host 0.0.0.0 --insecure --port {port} --log-level error --drain-s 5"
    done = CliRunner().invoke(serve, ["--models", str(models), *options.split()])
    assert done.exit_code == 0, done.output
    config, settings = served[0].config, served[0].config.app.state.server.settings  # type: ignore[union-attr]
    assert (config.host, config.port, config.log_level) == ("0.0.0.0", port, "error")
    assert (settings.store.url, settings.drain_s) == (f"file://{tmp_path}/sessions.db", 5.0)
    assert "models: digits" in done.output


@pytest.mark.parametrize("proxy", ["", "192.0.2.1"])
def test_a_proxy_is_believed_only_if_it_is_named(
    models: Path, monkeypatch: pytest.MonkeyPatch, served: list[GracefulServer], proxy: str
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", proxy)
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models)])
    assert done.exit_code == 0, done.output
    assert served[0].config.proxy_headers == bool(proxy)


def test_serve_says_what_runs_the_networks(
    models: Path, monkeypatch: pytest.MonkeyPatch, served: list[GracefulServer]
) -> None:
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models)])
    assert f"{operator_status().sentence}\n" in done.output
    assert "sessions: memory://, for this process alone\n" in done.output
    monkeypatch.setenv(MODE, "off")
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models)])
    assert "operator: not used, plain ONNX runs the networks, many times slower: " in done.output
    assert "HETSYN_OPERATORS=off\n" in done.output
    assert len(served) == 2


def test_serve_does_not_start_without_an_operator_that_is_required(
    models: Path, monkeypatch: pytest.MonkeyPatch, served: list[GracefulServer]
) -> None:
    monkeypatch.setattr("service.runtime.onnx.library", lambda: None)
    monkeypatch.setenv(MODE, "require")
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models)])
    assert isinstance(done.exception, RuntimeUnavailable)
    assert "the operator is not built: install hetsyn again" in str(done.exception)
    assert not served


@pytest.mark.parametrize("way", ["file", "environment", "both", "neither"])
def test_serve_takes_keys_from_a_file_or_the_environment(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[GracefulServer], way: str
) -> None:
    one, two = bytes(range(32)), bytes(range(1, 33))
    (tmp_path / "keys").write_text(base64.b64encode(one).decode())
    monkeypatch.delenv(VARIABLE, raising=False)
    if way in ("environment", "both"):
        monkeypatch.setenv(VARIABLE, base64.b64encode(two).decode())
    options = ["--carry-keys", str(tmp_path / "keys")] if way in ("file", "both") else []
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models), *options])
    assert done.exit_code == 0, done.output
    assert len(served) == 1
    expected = {"file": one, "both": one, "environment": two}.get(way)
    if expected is None:
        assert "carried" not in done.output
    else:
        assert f"carried sessions: keys {key_id(expected).hex()}\n" in done.output
    assert base64.b64encode(one).decode() not in done.output


def test_serve_refuses_what_are_no_keys(models: Path, tmp_path: Path, served: list[GracefulServer]) -> None:
    (tmp_path / "keys").write_text("no key")
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models), "--carry-keys", str(tmp_path / "keys")])
    assert isinstance(done.exception, CarryUnavailable)
    assert not served


def test_serve_says_why_it_does_not_take_a_gpu(
    models: Path, served: list[GracefulServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.commands.process.open_device", lambda _: Device("a fake GPU", load_fake))
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models)])  # without golden streams
    assert done.exit_code == 0, done.output
    assert "models: digits on the CPU" in done.output
    assert "device: a fake GPU does not give the CPU's answers" in done.output
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models), "--device", "cuda"])
    assert "models: digits on a fake GPU" in done.output
    assert "operator: not used, it is for the CPU: a fake GPU runs plain ONNX\n" in done.output
    assert len(served) == 2


def test_serve_takes_its_limits(models: Path, served: list[GracefulServer]) -> None:
    limits = {"max_waiting": 7, "max_body_bytes": 1000, "queue_timeout_s": 0.5}
    options = [word for name, value in limits.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models), *options])
    assert done.exit_code == 0, done.output
    settings = served[0].config.app.state.server.settings  # type: ignore[union-attr]
    values = asdict(settings.limits)
    assert {name: values[name] for name in limits} == limits
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models), "--max-body-bytes", "1GiB"])
    assert done.exit_code == 2
    assert "--max-body-bytes: 1073741824 is above 268435456" in done.output


def test_real_graphs_that_are_none_are_refused_before_serving(models: Path) -> None:
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models)])
    assert isinstance(done.exception, ArtifactError)
    assert "cannot load the graph" in str(done.exception)


def test_serve_refuses_what_is_no_store(models: Path, served: list[GracefulServer]) -> None:
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models), "--store", "file:///nowhere/at/all.db"])
    assert isinstance(done.exception, StoreUnusable)
    assert "there is no folder /nowhere/at that this user may enter: mkdir -p /nowhere/at," in str(done.exception)
    assert not served


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/"),
        ("0.0.0.0", "http://localhost:8000/"),
        ("::", "http://localhost:8000/"),
        ("::1", "http://[::1]:8000/"),
        ("host.example", "http://host.example:8000/"),
    ],
)
def test_serve_says_where_the_page_is(host: str, address: str) -> None:
    assert page_address(host, 8000) == address


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_serve_lets_nobody_in_by_accident(
    models: Path, tmp_path: Path, host: str, served: list[GracefulServer]
) -> None:
    options = ["--port", "0", "--models", str(models), "--host", host]
    done = CliRunner().invoke(serve, options, env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert f"--host {host} lets everybody in who reaches the port: name a keys file with --keys" in done.output
    assert "say --insecure" in done.output
    if host == "example.org":
        return  # the rest would look it up
    done = CliRunner().invoke(serve, [*options, "--keys", str(tmp_path / "none")])
    assert isinstance(done.exception, KeysUnusable)
    add_key(tmp_path / "keys.json", "alice")
    assert served == []
    for more in (["--insecure"], ["--keys", str(tmp_path / "keys.json")]):
        assert CliRunner().invoke(serve, [*options, *more]).exit_code == 0
    assert len(served) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.4.5", "::1", "localhost"])
def test_a_server_of_this_machine_needs_no_keys(models: Path, host: str, served: list[GracefulServer]) -> None:
    assert CliRunner().invoke(serve, ["--port", "0", "--models", str(models), "--host", host]).exit_code == 0
    assert len(served) == 1


def test_the_grpc_port_has_the_same_certificate(models: Path, tmp_path: Path, served: list[GracefulServer]) -> None:
    cert, key = write_certificate(tmp_path)
    options = ["--tls-cert", str(cert), "--tls-key", str(key), "--grpc-port", "0"]
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models), *options])
    assert done.exit_code == 0, done.output
    settings = served[0].config.app.state.server.settings  # type: ignore[union-attr]
    assert (settings.grpc_port, settings.access.certificate) == (0, (cert, key))


def test_serve_refuses_files_that_are_no_certificate(
    models: Path, tmp_path: Path, served: list[GracefulServer]
) -> None:
    (tmp_path / "x").write_text("x")
    files = ["--tls-cert", str(tmp_path / "x"), "--tls-key", str(tmp_path / "none")]
    done = CliRunner().invoke(serve, ["--port", "0", "--models", str(models), *files])
    assert isinstance(done.exception, HetsynError)
    assert "are no certificate and its key" in str(done.exception)
    assert served == []
