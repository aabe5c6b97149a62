"""The servers that the benchmarks compare with answer as ours does, and end with all that they started."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compare
from benchmarks import peers as peers_benchmark
from benchmarks.contenders import MODEL, Contender, dict_server, empty, ours, peers, shd_load
from benchmarks.load import LoadError, answers, closed_loop, exchange, real_time_streams
from benchmarks.peers import CHECKED_CHUNKS, CHECKED_SESSIONS, PEERS_PYTHON, TOLERANCES
from benchmarks.servers.empty import REPLY
from benchmarks.step_graph import write_step_graph
from hetsyn_client.loadtest.ramp import Goal, RampSettings
from hetsyn_client.loadtest.run import RunSettings
from service.contract.manifest import FormName
from tests.support.paths import ROOT
from tests.support.server_process import ServerError, ServerProcess

pytestmark = pytest.mark.process

FORMS: tuple[FormName, ...] = ("exact", "bank")
LOAD = shd_load()
WITHOUT_PEERS = pytest.mark.skip(
    reason=f"no peers to compare with: {PEERS_PYTHON} names no Python with benchmarks/servers/requirements.txt"
)
PEERS = ("triton-exact", "triton-bank", "litserve", "ray-serve")


@pytest.fixture(scope="module")
def step_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "step.onnx"
    write_step_graph(MODEL, path)
    return path


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What ours answers, by form."""
    folder = tmp_path_factory.mktemp("ours")
    return {form: ask(ours(form), folder) for form in FORMS}


def ask(contender: Contender, folder: Path) -> np.ndarray:
    with contender.serve(folder / "log") as (_, target):
        return answers(target, CHECKED_SESSIONS, LOAD.chunks[:CHECKED_CHUNKS])


def agree(got: np.ndarray, expected: np.ndarray, form: str) -> None:
    assert (got.argmax(-1) == expected.argmax(-1)).all()
    np.testing.assert_allclose(got, expected, atol=TOLERANCES[form])


def test_a_dict_of_states_answers_as_our_exact_form(
    step_graph: Path, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    agree(ask(dict_server(step_graph), tmp_path), expected["exact"], "exact")


@pytest.mark.parametrize("name", PEERS if PEERS_PYTHON in os.environ else [pytest.param("all", marks=WITHOUT_PEERS)])
def test_a_peer_answers_as_ours(name: str, step_graph: Path, expected: dict[str, np.ndarray], tmp_path: Path) -> None:
    contenders = peers(Path(os.environ[PEERS_PYTHON]), step_graph, tmp_path)
    contender = next(one for one in contenders if one.name == name)
    assert contender.answers_as is not None
    agree(ask(contender, tmp_path), expected[contender.answers_as], contender.answers_as)


def test_the_empty_endpoints_reply_is_as_long_as_ours(tmp_path: Path) -> None:
    with ours("bank").serve(tmp_path / "log") as (_, target):
        body = exchange(target.address, target.request("s0000000", 0, LOAD.chunks[0], is_last=False))
    assert abs(len(body) - len(REPLY)) <= 0.05 * len(body)


def test_a_closed_loop_and_a_ramp_measure_a_server(tmp_path: Path) -> None:
    settings = RunSettings(duration_s=0.3, warmup_s=0.1)
    with empty().serve(tmp_path / "log") as (server, target):
        figures = closed_loop(target, server, LOAD, 4, settings)
        search = real_time_streams(target, LOAD, Goal(500.0, 99.0), settings, RampSettings(4.0, max_trials=2))
    assert figures.chunks_per_s > 50
    assert 0 < figures.p50_ms <= figures.p99_ms
    assert 0 < figures.cpu_ms < 50
    assert len(search.trials) == 2


def test_an_error_of_the_server_is_not_measured_as_speed(tmp_path: Path) -> None:
    nonsense = replace(LOAD, chunks=(b"not packed events",))
    settings = RunSettings(duration_s=0.3, warmup_s=0.1)
    with ours("bank").serve(tmp_path / "log") as (server, target), pytest.raises(LoadError, match="status 422"):
        closed_loop(target, server, nonsense, 2, settings)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no such peer')")
    with (
        pytest.raises(ServerError, match="ended with 1: no such peer"),
        ServerProcess(command, {}, lambda: "no answer", tmp_path / "log"),
    ):
        pass


def test_a_program_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match="No such file"),
        ServerProcess((str(tmp_path / "python"),), {}, lambda: None, tmp_path / "log"),
    ):
        pass


def test_peers_reports_what_it_measured_and_why_the_rest_is_missing(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    peers_benchmark.add_arguments(parser)
    # this Python has no peers
    arguments = parser.parse_args(
        ["--peers-python", sys.executable, "--only", "dict", "litserve", "--plot", str(tmp_path / "peers.png")]
    )
    arguments.quick = True
    results = peers_benchmark.run(arguments)
    assert set(results["servers"]) == {"ours-exact", "ours-bank", "dict"}
    assert set(results["missing"]) == {"litserve"}
    assert "No module named 'litserve'" in results["missing"]["litserve"]
    assert results["servers"]["dict"]["differs_from_ours"] <= TOLERANCES["exact"]
    assert set(results["ratios"]["ours-bank / dict"]) == {"1", "16"}
    assert (tmp_path / "peers.png").stat().st_size > 10_000


def test_a_checkout_is_compared_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare.Checkout, "at", lambda _: compare.Checkout(ROOT, Path(sys.executable)))
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    arguments = parser.parse_args(["--against", str(tmp_path)])
    arguments.quick = True
    results = compare.run(arguments)
    assert set(results["cases"]) == {
        f"{model}, concurrency {n}" for model in ("speech-digits", "shd-size") for n in compare.CONCURRENCIES
    }
    assert all(case["this"]["cpu_ms"] > 0 for case in results["cases"].values())
    assert results["checkouts"]["this"] == results["checkouts"]["other"]


def test_a_server_ends_with_its_children_and_their_cpu_time_counts(tmp_path: Path) -> None:
    child = "while True: pass"
    parent = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True).wait()"
    )
    pids: list[int] = []
    with ServerProcess((sys.executable, "-c", parent), {}, lambda: None, tmp_path / "log") as server:
        deadline_s = time.monotonic() + 30
        while len(pids) < 2 or server.cpu_s() < 0.2:
            assert time.monotonic() < deadline_s
            pids = list(server.pids())
    assert not [pid for pid in pids if runs(pid)]


def runs(pid: int) -> bool:
    """A zombie does not; a container's init may never collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
