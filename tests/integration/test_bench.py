"""``hetsyn bench`` against a real server of fake models, over a real network."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from hetsyn_client.errors import ServiceUnreachable
from hetsyn_client.loadtest.commands import bench
from hetsyn_client.loadtest.senders import Transport
from service.contract.graph_io import STEPS
from service.keys.caller import Scope
from service.runtime.onnx import Array, Graph
from tests.support.artifacts.fake_graph import load_fake
from tests.support.artifacts.gate import Gate
from tests.support.clients.open_inference import live_server
from tests.support.servers.certificate import write_certificate
from tests.support.servers.keyed import add_key, keyed_server
from tests.support.servers.relay import relayed
from tests.support.servers.socket_server import running
from tests.support.servers.tls_relay import relayed_with_tls

# one in level 1; the others differ only in how the client sends a chunk, which other tests of each see
each_transport = pytest.mark.parametrize(
    "transport",
    [one if one is Transport.infer else pytest.param(one, marks=pytest.mark.process) for one in Transport],
)


def run(url: str, *arguments: str, code: int = 0) -> str:
    before = signal.getsignal(signal.SIGINT)
    result = CliRunner().invoke(bench, ["--url", url, "--warmup-s", "0.1", *arguments], env={"COLUMNS": "120"})
    assert result.exit_code == code, result.output
    assert signal.getsignal(signal.SIGINT) is before
    return result.output


SENT = {
    "digits": "synthesised sound at 8000 Hz",
    "spiking": "random spikes, density 0.045, 5 steps of 6 channels",
    "sensor": "sines of",
}


@pytest.mark.parametrize(
    ("model", "transport", "mode"),
    [
        ("digits", "infer", "--streams"),
        ("digits", "stream", "--streams"),
        ("digits", "streams", "--streams"),
        ("digits", "open-inference", "--streams"),
        ("spiking", "infer", "--closed"),
        ("spiking", "streams", "--streams"),
        ("spiking", "open-inference", "--streams"),
        ("sensor", "streams", "--streams"),
        ("sensor", "open-inference", "--streams"),
        pytest.param("sensor", "infer", "--streams", marks=pytest.mark.process),
        pytest.param("digits", "stream", "--closed", marks=pytest.mark.process),
        pytest.param("digits", "streams", "--closed", marks=pytest.mark.process),
    ],
)
def test_every_chunk_of_each_model_is_answered_on_each_transport_and_no_session_left(
    tmp_path: Path, model: str, transport: str, mode: str
) -> None:
    with live_server(tmp_path / "models") as live:
        printed = run(
            live.url,
            *("--model", model, mode, "5", "--transport", transport, "--duration-s", "0.6", "--chunk-ms", "50"),
            *("--session-chunks", "4", "--json", str(tmp_path / "x.json"), "--html", str(tmp_path / "x.html")),
        )
        metrics = httpx.get(f"{live.url}/metrics").text
        assert live.app.state.server.registry.sessions.open == 0
    assert f"{model}: {SENT[model]}" in printed
    assert ("5 streams in real time" if mode == "--streams" else "closed loop of 5") in printed
    assert "errors" not in printed
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["settings"]["transport"] == transport
    measurement = written["measurement"]
    assert measurement["errors"] == {}
    assert measurement["unanswered"] == 0
    assert measurement["sessions_left"] == 0
    assert measurement["generator_cpu_us"] > 0
    assert measurement["answered"] == 5 * 12 if mode == "--streams" else measurement["answered"] > 0
    assert 'hetsyn_chunks_total{outcome="replayed"} 0.0' in metrics
    page = (tmp_path / "x.html").read_text()
    assert f"over {transport}: {SENT[model]}" in page
    assert page.count("<svg") == 2


@each_transport
def test_a_key_goes_with_every_chunk_and_into_no_report(tmp_path: Path, transport: Transport) -> None:
    key = add_key(tmp_path / "keys.json", "alice", [Scope.infer])
    report = tmp_path / "x.json"
    with keyed_server(tmp_path, tmp_path / "keys.json") as live:
        printed = run(
            live.url,
            *("--key", key, "--transport", transport.value, "--streams", "3", "--duration-s", "0.5"),
            *("--chunk-ms", "50", "--session-chunks", "4"),
            *("--json", str(report)),
        )
        assert live.app.state.server.registry.sessions.open == 0
    measurement = json.loads(report.read_text())["measurement"]
    assert measurement["errors"] == {}
    assert measurement["answered"] == 3 * 10
    assert measurement["sessions_left"] == 0
    secret = key[-16:]
    assert all(secret not in text for text in (printed, report.read_text()))


def test_a_file_of_certificates_is_trusted(tmp_path: Path) -> None:
    files = write_certificate(tmp_path)
    with (
        live_server(tmp_path / "models") as live,
        relayed_with_tls(int(live.url.rpartition(":")[2]), *files) as (url, _),
    ):
        run(url, *("--ca-file", str(files[0]), "--streams", "2", "--duration-s", "0.5", "--json", f"{tmp_path}/x.json"))
        refused = CliRunner().invoke(bench, ["--url", url])
    assert json.loads((tmp_path / "x.json").read_text())["measurement"]["errors"] == {}
    assert isinstance(refused.exception, ServiceUnreachable)
    assert "name the file of its certificate authority" in str(refused.exception)


@each_transport
def test_a_full_server_is_no_crash(models: Path, gate: Gate, tmp_path: Path, transport: Transport) -> None:
    with running(models, gate.load, max_sessions=2) as url:
        written = ("--json", str(tmp_path / "x.json"))
        run(url, "--transport", transport.value, "--streams", "6", "--duration-s", "0.6", *written)
    measurement = json.loads((tmp_path / "x.json").read_text())["measurement"]
    assert set(measurement["errors"]) == {"refused (503)"}
    assert measurement["answered"] > 0


def search(url: str, tmp_path: Path, limit_ms: str, *arguments: str) -> tuple[str, dict[str, Any]]:
    """Output of a search, and its JSON."""
    files = ("--json", f"{tmp_path}/x.json", "--html", f"{tmp_path}/x.html")
    printed = run(url, "--find-streams", limit_ms, "--duration-s", "0.5", "--warmup-s", "0", *arguments, *files)
    return printed, json.loads((tmp_path / "x.json").read_text())


@pytest.mark.process
def test_the_most_streams_are_found_by_doubling_and_halving(models: Path, tmp_path: Path) -> None:
    """A server with room for 20 sessions. A load is too much when it has failed three times, and not before."""
    fails = threading.Event()

    def load(content: bytes) -> Graph:
        graph = load_fake(content)
        run_graph = graph.run

        def fails_at_first(inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
            if fails.is_set():
                if len(inputs[STEPS]) == 1:  # a chunk that fails alone is an error; those of a batch are tried again
                    fails.clear()
                raise RuntimeError("another program took the processor")
            return run_graph(inputs, outputs)

        graph.run = fails_at_first  # type: ignore[method-assign]
        return graph

    with running(models, load, max_sessions=20, client_share=1.0) as url:
        assert httpx.get(f"{url}/health/ready").is_success
        fails.set()
        printed, written = search(url, tmp_path, "9000", "--model", "digits")
    tried = [(trial["streams"], trial["missed"]) for trial in written["search"]["trials"]]
    full = "refused (503)"
    assert tried[:2] == [(16, "status 500"), (16, "")]
    assert tried[2:] == [(32, full)] * 3 + [(24, full)] * 3 + [(20, "")] + [(22, full)] * 3 + [(21, full)] * 3
    assert written["search"]["streams"] == written["measurement"]["streams"] == 20
    assert written["measurement"]["answered"] == 20 * 5
    for text in (printed, (tmp_path / "x.html").read_text()):
        assert "16 streams: status 500" in text
        assert "20 streams: held, p50 " in text
        assert "20 real-time streams with p99 below 9000 ms" in text
    assert written["settings"]["model"] == "digits"


@pytest.mark.process
def test_a_limit_that_not_even_one_stream_keeps_finds_none(models: Path, gate: Gate, tmp_path: Path) -> None:
    with running(models, gate.load) as url:
        printed, written = search(url, tmp_path, "0.1", "--transport", "streams")  # which gathers chunks for 10 ms
    assert [trial["streams"] for trial in written["search"]["trials"][::3]] == [16, 8, 4, 2, 1]
    assert {trial["missed"] for trial in written["search"]["trials"]} == {"p99 above 0.1 ms"}
    assert "0 real-time streams with p99 below 0.1 ms" in printed
    assert written["search"]["streams"] == 0


def test_a_server_that_fails_at_everything_is_a_failure(models: Path, gate: Gate) -> None:
    with running(models, gate.load) as url:
        assert httpx.get(f"{url}/health/ready").is_success
        gate.failure = RuntimeError("broken")
        printed = run(url, "--streams", "2", "--duration-s", "0.5", code=1)
    assert "status 500" in printed
    assert "no chunk got a good answer" in printed


@pytest.mark.parametrize("transport", ["stream", "streams"])
def test_a_connection_that_breaks_is_opened_again(models: Path, gate: Gate, tmp_path: Path, transport: str) -> None:
    report = tmp_path / "x.json"
    cuts = [10**9, 2_000]  # bytes: the first connection asks for the model
    with running(models, gate.load) as url, relayed(int(url.rpartition(":")[2]), cuts) as relay:
        options = ("--streams", "3", "--warmup-s", "0", "--duration-s", "1", "--chunk-ms", "50", "--json", str(report))
        run(f"http://127.0.0.1:{relay.port}", "--transport", transport, *options)
    measurement = json.loads(report.read_text())["measurement"]
    lost = measurement["errors"].pop("connection lost")
    assert measurement["errors"] == {}
    assert 0 < lost <= 3
    assert measurement["answered"] + lost == 3 * 20
