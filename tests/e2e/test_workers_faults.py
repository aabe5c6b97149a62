"""``hetsyn serve --workers``: workers that are killed, ended and reloaded."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from hetsyn_client import LiveStream, LiveStreams
from hetsyn_client.columns import APPLIED, Results
from hetsyn_client.errors import HetsynError
from tests.support.json_input import Json
from tests.support.recording_stream import pieces, send, stream
from tests.support.server_process import STOP_TIMEOUT_S
from tests.support.versions import describe, put
from tests.support.workers import PCM, SESSIONS, WorkersServer, metrics, spikes

pytestmark = pytest.mark.process


def test_a_killed_worker_loses_its_own_sessions_and_says_so(workers_server: WorkersServer) -> None:
    workers_server.wait_until_whole()
    for session in SESSIONS:
        assert spikes(workers_server.url, f"{session}-k", 0).status_code == 200
    killed = workers_server.kill_worker(0)
    seen = {httpx.get(f"{workers_server.url}/health/ready").json().get("workers") for _ in range(20)}
    workers_server.wait_until_whole(without=killed)
    assert seen <= {None, 1}
    numbered = {session: spikes(workers_server.url, f"{session}-k", 1) for session in SESSIONS}
    lost = [session for session, reply in numbered.items() if reply.status_code == 410]
    kept = [session for session, reply in numbered.items() if reply.status_code == 200]
    assert lost
    assert kept
    assert len(lost) + len(kept) == len(SESSIONS)
    for session in lost:
        assert "the process that had it has ended" in numbered[session].json()["detail"]
        assert spikes(workers_server.url, f"{session}-k", None).status_code == 410  # nothing begins anew silently
        assert spikes(workers_server.url, f"{session}-k", 0).status_code == 410
        assert httpx.get(f"{workers_server.url}/sessions/{session}-k").status_code == 410
    killed = workers_server.kill_worker(0)  # and the next process under its number knows too
    workers_server.wait_until_whole(without=killed)
    assert all(spikes(workers_server.url, f"{session}-k", None).status_code in (200, 410) for session in SESSIONS)
    assert all(spikes(workers_server.url, f"{session}-k", None).status_code == 410 for session in lost)


def test_killed_workers_lose_nothing_of_a_store(tmp_path: Path, expected: list[Json]) -> None:
    chunks, server = pieces(), WorkersServer("--store", f"file://{tmp_path}/sessions.db", "--log-level", "warning")
    replies: dict[str, list[Json]] = {}

    def work(session: str) -> None:
        replies[session] = []
        for seq in range(len(chunks)):
            replies[session] += stream(server.url, session, chunks, range(seq, seq + 1))
            time.sleep(0.1)  # a stream nearly in real time

    try:
        server.ready()
        threads = [threading.Thread(target=work, args=(session,)) for session in SESSIONS]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(0.2)
            killed = server.kill_worker(0)  # the one that runs for longest
        assert any(thread.is_alive() for thread in threads)
        for thread in threads:
            thread.join()
        server.wait_until_whole(without=killed)
    finally:
        server.stop()
    for session in SESSIONS:
        assert [reply | {"session": ""} for reply in replies[session]] == expected


def test_killed_workers_lose_nothing_of_a_connection_with_many_sessions(tmp_path: Path, expected: list[Json]) -> None:
    chunks = [np.frombuffer(chunk, "<i2") for chunk in pieces()]
    server = WorkersServer("--store", f"file://{tmp_path}/sessions.db", "--log-level", "warning")
    results: list[Results] = []
    try:
        server.ready()
        with LiveStreams(server.url, sample_rate_hz=8000, repeats=20) as streams:
            handles = streams.open(SESSIONS)
            for seq, chunk in enumerate(chunks[:-1]):
                results += streams.send(handles, [chunk] * len(handles))
                if seq in (2, 5):  # the connection is one worker's: both kinds of break occur
                    server.wait_until_whole(without=server.kill_worker(0))
            results += streams.wait()
    finally:
        server.stop()
    applied: dict[int, dict[int, list[float]]] = {handle: {} for handle in handles}
    for result in results:
        for row in np.flatnonzero(result.status == APPLIED).tolist():
            handle, seq = int(result.handle[row]), int(result.seq[row])
            assert seq not in applied[handle]
            applied[handle][seq] = result.probabilities[row].tolist()
    for of_session in applied.values():
        assert max(of_session) == len(chunks) - 2  # those whose result was lost with a connection do not come again
        for seq, probabilities in of_session.items():
            assert probabilities == expected[seq]["probabilities"]


def test_a_connection_goes_on_without_the_sessions_of_a_killed_worker(
    workers_server: WorkersServer,
) -> None:
    workers_server.wait_until_whole()
    ids = [f"alive-{n}" for n in range(16)]
    with LiveStreams(workers_server.url, sample_rate_hz=8000, repeats=20) as streams:
        handles = streams.open(ids)
        streams.send(handles, [PCM[:500]] * len(ids))
        streams.wait()
        home = sorted({httpx.get(f"{workers_server.url}/sessions/{name}").status_code for name in ids})
        assert home == [200]
        # the worker that has no connection of this client: the other one has an open socket of it
        killed = next(pid for pid in workers_server.pids() if not has_connection(pid, workers_server.port))
        os.kill(killed, signal.SIGKILL)
        workers_server.wait_until_whole(without=killed)
        results = [*streams.send(handles, [PCM[500:1000]] * len(ids)), *streams.wait()]
        outcomes = [int(status) for result in results for status in result.status]
        assert set(outcomes) == {APPLIED, 410}
        there = [name for name in ids if httpx.get(f"{workers_server.url}/sessions/{name}").status_code == 200]
        assert len(there) == outcomes.count(APPLIED)


def has_connection(pid: int, port: int) -> bool:
    """Whether a process has a socket that a client has connected to a port."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    established = {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    return bool(established & {link[8:-1] for link in links if link.startswith("socket:[")})


def test_sigterm_ends_all_and_answers_what_is_under_way() -> None:
    server, chunks = WorkersServer("--drain-s", "0.5"), pieces()
    outcomes: list[int] = []
    is_over = threading.Event()

    def work(number: int) -> None:
        seq = 0
        with suppress(httpx.TransportError):
            while not is_over.is_set():
                reply = send(server.url, f"drained-{number}", seq, chunks[:1] * (seq + 2))
                outcomes.append(reply.status_code)
                seq += 1

    try:
        server.ready()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        with LiveStream(server.url, session="drained", sample_rate_hz=8000, endpointing=False, repeats=0) as live:
            live.send(PCM[:500])
            live.wait()
            workers = server.pids()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(STOP_TIMEOUT_S) == 0
            is_over.set()
            with pytest.raises(HetsynError):
                _ = live.send(PCM[:500]), live.wait()
        for thread in threads:
            thread.join()
        assert outcomes.count(200) > 4
        assert set(outcomes) <= {200, 503}
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    finally:
        server.kill()


def test_workers_end_with_their_supervisor() -> None:
    server = WorkersServer()
    server.ready()
    workers = server.pids()
    server.kill()
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    while [pid for pid in workers if is_running(pid)]:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_all_workers_reload_or_none(tmp_path: Path) -> None:
    put(tmp_path, "1", "old")
    server = WorkersServer("--models", str(tmp_path), log=tmp_path.with_name("log"))
    try:
        server.ready()
        put(tmp_path, "2", "new")
        server.process.send_signal(signal.SIGHUP)
        wait_for(server.url, {"2"})
        assert metrics(server.url)["hetsyn_models_offered"] == 2
        # a worker that is started anew has not the content that the others offer, so the workers cannot agree
        describe(tmp_path / "speech-digits" / "1", "1", "changed")
        server.wait_until_whole(without=server.kill_worker(0))
        server.wait_until_logged("the workers do not agree: worker 1")
        put(tmp_path, "3", "newer")
        server.process.send_signal(signal.SIGUSR1)
        server.wait_until_logged("the workers do not agree: worker 1", times=2)
        assert versions(server.url) == {"2"}
        describe(tmp_path / "speech-digits" / "1", "1", "old")
        os.kill(server.pids()[1], signal.SIGUSR1)  # a worker passes it on
        wait_for(server.url, {"3"})
    finally:
        server.stop()


def versions(url: str) -> set[str]:
    """The versions that new sessions run on, on all workers."""
    return {send(url, f"version-{time.monotonic()}-{n}", 0, pieces()[:2]).json()["version"] for n in range(16)}


def wait_for(url: str, expected: set[str]) -> None:
    deadline_s = time.monotonic() + 60
    while (found := versions(url)) != expected:
        assert found <= {"1", "2", "3"}
        assert time.monotonic() < deadline_s
