"""The servers that the benchmarks compare with answer as ours does, and end with all that they started."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contenders import CHANNELS, DENSITY, MODEL, STEPS, Contender, dict_server, empty, ours, peers
from benchmarks.load import Connection, LoadError, answers, apply, closed_loop, make_chunks, open_loop
from benchmarks.peers import CHECKED_CHUNKS, CHECKED_SESSIONS, PEERS_PYTHON, TOLERANCES
from benchmarks.server_process import ServerError, ServerProcess
from benchmarks.servers.empty import REPLY
from benchmarks.step_graph import write_step_graph

CHUNKS = make_chunks(CHECKED_CHUNKS, STEPS, CHANNELS, DENSITY)
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
    return {form: ask(ours(form), folder) for form in TOLERANCES}


def ask(contender: Contender, folder: Path) -> np.ndarray:
    with contender.serve(folder / "log", CHUNKS[0]) as server:
        return asyncio.run(answers(contender.target, server.port, CHECKED_SESSIONS, CHUNKS))


def agree(got: np.ndarray, expected: np.ndarray, form: str) -> None:
    assert (got.argmax(-1) == expected.argmax(-1)).all()
    np.testing.assert_allclose(got, expected, atol=TOLERANCES[form])


def test_a_dict_of_states_answers_as_our_exact_form(
    step_graph: Path, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    agree(ask(dict_server(step_graph), tmp_path), expected["exact"], "exact")


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_answers_as_ours(name: str, step_graph: Path, expected: dict[str, np.ndarray], tmp_path: Path) -> None:
    if PEERS_PYTHON not in os.environ:
        pytest.skip(f"{PEERS_PYTHON} names no Python with the peers (benchmarks/servers/requirements.txt)")
    contenders = peers(Path(os.environ[PEERS_PYTHON]), step_graph, tmp_path)
    contender = next(one for one in contenders if one.name == name)
    assert contender.answers_as is not None
    agree(ask(contender, tmp_path), expected[contender.answers_as], contender.answers_as)


def test_the_empty_endpoints_reply_is_as_long_as_ours(tmp_path: Path) -> None:
    contender = ours("bank")

    async def reply(port: int) -> bytes:
        connection = await Connection.open(port)
        try:
            return (await apply(contender.target, connection, "s0000000", 0, CHUNKS[0], is_last=False)).body
        finally:
            connection.close()

    with contender.serve(tmp_path / "log", CHUNKS[0]) as server:
        body = asyncio.run(reply(server.port))
    assert abs(len(body) - len(REPLY)) <= 0.05 * len(body)


def test_both_loops_measure_a_server(tmp_path: Path) -> None:
    contender = empty()
    with contender.serve(tmp_path / "log", CHUNKS[0]) as server:
        closed = asyncio.run(closed_loop(contender.target, server, 4, 0.3, CHUNKS))
        opened = asyncio.run(open_loop(contender.target, server, 5, 0.5, 0.1, CHUNKS))
    assert closed.chunks_per_s > opened.chunks_per_s
    # 5 streams x 5 chunks within 0.5 s, and the last of them up to a period early
    assert 40 <= opened.chunks_per_s <= 75
    for load in (closed, opened):
        assert 0 < load.p50_ms <= load.p99_ms


def test_an_error_of_the_server_is_not_measured_as_speed(tmp_path: Path) -> None:
    contender = ours("bank")
    with contender.serve(tmp_path / "log", CHUNKS[0]) as server, pytest.raises(LoadError, match="422"):
        asyncio.run(closed_loop(contender.target, server, 2, 5.0, [b"not packed events"]))


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no such peer')")
    with (
        pytest.raises(ServerError, match="ended with 1: no such peer"),
        ServerProcess(command, {}, lambda _: "no answer", tmp_path / "log"),
    ):
        pass


def test_a_server_ends_with_its_children_and_their_cpu_time_counts(tmp_path: Path) -> None:
    child = "while True: pass"
    parent = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True).wait()"
    )
    pids: list[int] = []
    with ServerProcess((sys.executable, "-c", parent), {}, lambda _: None, tmp_path / "log") as server:
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
