"""``hetsyn serve --workers``: several processes that act as one server, whatever connection a chunk comes on."""

from __future__ import annotations

import json
import socket
import time

import httpx
import numpy as np
import pytest

from hetsyn_client import LiveStream, LiveStreams
from hetsyn_client.columns import APPLIED, Results
from hetsyn_client.errors import HetsynError, InputError, ServiceProblem
from tests.support.json_input import Json
from tests.support.live import EVENTS, handshake
from tests.support.recording_stream import pieces, send
from tests.support.workers import PCM, SESSIONS, SPIKES, WorkersServer, metrics, spikes

pytestmark = pytest.mark.process


def test_a_session_is_found_on_every_connection(workers_server: WorkersServer, expected: list[Json]) -> None:
    chunks = pieces()
    with httpx.Client(base_url=workers_server.url) as shared:
        for seq in range(len(chunks)):
            for number, session in enumerate(SESSIONS):
                if number % 2:  # a connection of its own for each chunk
                    reply = send(workers_server.url, session, seq, chunks)
                else:
                    reply = shared.post(
                        "/infer",
                        params={"session": session, "seq": seq, "end": seq == len(chunks) - 1},
                        content=chunks[seq],
                        headers={"Content-Type": "audio/L16;rate=8000;endianness=little-endian"},
                    )
                assert reply.json() | {"session": ""} == expected[seq]
        # the kernel chooses a worker for each connection: of sixteen sessions, some are with another than the first
        begun = [spikes(workers_server.url, None, None).json()["session"] for _ in range(16)]
        for session in begun:
            body = {"session": session, "seq": 1, "input": SPIKES}
            assert shared.post("/infer", json=body).json()["seq"] == 1
    counted = metrics(workers_server.url)
    assert counted["hetsyn_workers"] == 2
    assert counted["hetsyn_connections_moved_total"] > 0
    assert counted["hetsyn_requests_passed_on_total"] > 0
    assert counted['hetsyn_chunks_total{outcome="applied"}'] == len(SESSIONS) * len(chunks) + 2 * len(begun)


def test_json_names_its_session_in_the_body(workers_server: WorkersServer) -> None:
    with httpx.Client(base_url=workers_server.url) as shared:
        begun = [spikes(workers_server.url, None, None).json()["session"] for _ in SESSIONS]
        for seq in (1, 2):
            for session in begun:
                body = {"session": session, "seq": seq, "input": SPIKES}
                assert shared.post("/infer", json=body).json()["seq"] == seq
                assert shared.post("/infer", json=body).json()["seq"] == seq  # the stored reply
        wrong = shared.post("/infer", json={"session": begun[0], "seq": 9, "input": SPIKES})
        assert (wrong.status_code, wrong.json()["expected_seq"]) == (409, 3)


def test_sessions_are_described_moved_and_deleted_wherever_they_are(workers_server: WorkersServer) -> None:
    with httpx.Client(base_url=workers_server.url) as shared:
        for n in range(6):
            assert spikes(workers_server.url, f"old-{n}", 0).status_code == 200
            state = shared.get(f"/sessions/old-{n}/state").content
            kind = {"Content-Type": "application/octet-stream"}
            assert shared.put(f"/sessions/new-{n}/state", content=state, headers=kind).status_code == 201
            assert shared.put(f"/sessions/new-{n}/state", content=b"?", headers=kind).status_code == 422
            assert shared.get(f"/sessions/new-{n}").json()["expected_seq"] == 1
            assert spikes(workers_server.url, f"new-{n}", 1).status_code == 200
            for session in (f"old-{n}", f"new-{n}"):
                assert shared.delete(f"/sessions/{session}").status_code == 204
                assert shared.get(f"/sessions/{session}").status_code == 404
                assert spikes(workers_server.url, session, 1).status_code == 404


def test_a_stream_takes_its_session_over_whichever_worker_its_connection_reaches(
    workers_server: WorkersServer, expected: list[Json]
) -> None:
    for n in range(6):
        first = LiveStream(workers_server.url, session=f"taken-{n}", sample_rate_hz=8000, endpointing=False)
        with first:
            first.send(PCM[:500])
            (result,) = first.wait()
            assert result["label"] == expected[0]["label"]
            with LiveStream(workers_server.url, session=f"taken-{n}", sample_rate_hz=8000, endpointing=False) as second:
                second.send(PCM[500:1000])
                (result,) = second.wait()
                assert result["seq"] == 1
                assert result["probabilities"] == expected[1]["probabilities"]
                with pytest.raises(HetsynError, match="another connection streams this session"):
                    _ = first.send(PCM[1000:1500]), first.wait()


def test_a_connection_moves_however_its_first_request_is_cut(workers_server: WorkersServer) -> None:
    for n in range(6):
        head = handshake(f"session=cut-{n}&{EVENTS}")
        for at in (4, 20, len(head) - 2):
            with socket.create_connection(("127.0.0.1", workers_server.port), timeout=20) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.sendall(head[:at])
                time.sleep(0.02)  # so that the server reads it alone
                client.sendall(head[at:])
                assert b'"type":"Begin"' in read_until(client, b'"type":"Begin"')
    body = json.dumps({"session": "whole", "model": "shd-words", "input": SPIKES, "end": True}).encode()
    request = b"POST /infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    for at in (3, 30, len(request), len(request) + 9):
        content = (request + body).replace(b"whole", b"%05d" % at)
        with socket.create_connection(("127.0.0.1", workers_server.port), timeout=20) as client:
            client.sendall(content[:at])
            time.sleep(0.02)
            client.sendall(content[at:])
            assert b'"end":true' in read_until(client, b'"end":true')


def read_until(client: socket.socket, text: bytes) -> bytes:
    received = b""
    while text not in received and (data := client.recv(65_536)):
        received += data
    return received


def test_a_connection_moves_after_requests_without_a_session(workers_server: WorkersServer) -> None:
    before = metrics(workers_server.url)["hetsyn_connections_moved_total"]
    # the kernel gives a connection to any worker: one of many does not belong where it arrived
    for n in range(64):
        with httpx.Client(base_url=workers_server.url) as own:
            assert own.get("/models").status_code == 200
            assert own.get("/health/ready").json() == {"status": "ready"}
            for seq, chunk in enumerate(pieces()[:3]):
                assert own.post(
                    f"/infer?session=later-{n}&seq={seq}",
                    content=chunk,
                    headers={"Content-Type": "audio/L16;rate=8000;endianness=little-endian"},
                ).is_success
        if metrics(workers_server.url)["hetsyn_connections_moved_total"] > before:
            return
    pytest.fail("no connection of 64 was moved")


def test_large_bodies_are_passed_on_and_refused_as_by_one_process(workers_server: WorkersServer) -> None:
    times = list(range(9_000)) * 3
    spikes_of = {"kind": "events", "steps": 9_000, "times": times, "units": [n % 700 for n in range(len(times))]}
    with httpx.Client(base_url=workers_server.url, timeout=60) as shared:
        for n in range(4):
            body = {"session": f"large-{n}", "model": "shd-words", "seq": 0, "input": spikes_of}
            assert len(json.dumps(body)) > 200_000
            assert shared.post("/infer", json=body).json()["total_steps"] == 9_000
        long = {"session": "long", "input": {"kind": "audio", "rate": 8000, "samples": "A" * 5_000_000}}
        assert shared.post("/infer", json=long).status_code == 413
        for n in range(4):
            assert shared.post(f"/infer?session=l-{n}", content=b"", headers={"Content-Type": "x/y"}).status_code == 415
            assert shared.post(f"/infer?session=l-{n}&session=l", content=b"").status_code in (415, 422)
            assert shared.get(f"/sessions/{n}!").status_code == 404


def test_a_connection_carries_the_sessions_of_all_workers(workers_server: WorkersServer, expected: list[Json]) -> None:
    chunks = [np.frombuffer(chunk, "<i2") for chunk in pieces()]
    ids = [f"many-{n}" for n in range(16)]
    with LiveStreams(workers_server.url, sample_rate_hz=8000) as streams:
        handles = streams.open(ids)
        results: list[Results] = []
        for seq, chunk in enumerate(chunks[:-1]):
            # sessions that are not among the workers' own in the same number, and lengths that differ
            for part in (handles[seq % 5 :], handles[: seq % 5]):
                if part:
                    results += streams.send(part, [chunk] * len(part))
        results += streams.wait()
    replies = {
        (int(result.handle[row]), int(result.seq[row])): result.probabilities[row]
        for result in results
        for row in range(len(result.seq))
        if result.status[row] == APPLIED
    }
    assert len(replies) == len(ids) * (len(chunks) - 1)
    for (_, seq), probabilities in replies.items():
        assert probabilities.tolist() == expected[seq]["probabilities"]
    with httpx.Client(base_url=workers_server.url) as shared:  # each is where every other request finds it
        for session in ids:
            assert shared.get(f"/sessions/{session}").json()["expected_seq"] == len(chunks) - 1


def test_a_frame_without_rows_and_a_refused_session_end_no_connection(workers_server: WorkersServer) -> None:
    with LiveStreams(workers_server.url, sample_rate_hz=8000) as streams:
        with pytest.raises(ServiceProblem, match="is no id"):
            streams.open(["no id"])  # and then a frame without rows
        assert streams.open([]) == []
        streams.send(streams.open(["good"]), [PCM[:500]])
        (result,) = streams.wait()
        assert result.status.tolist() == [APPLIED]
        with pytest.raises(InputError, match="give a list of ids"):
            streams.open("good")


def test_a_session_is_taken_over_from_a_connection_of_many(workers_server: WorkersServer) -> None:
    ids = [f"moved-{n}" for n in range(8)]
    with (
        LiveStreams(workers_server.url, sample_rate_hz=8000) as first,
        LiveStreams(workers_server.url, sample_rate_hz=8000) as second,
    ):
        begun = first.open(ids)
        first.send(begun, [PCM[:500]] * len(ids))
        first.wait()
        taken = second.open(ids[:4])
        with LiveStream(workers_server.url, session=ids[5], sample_rate_hz=8000, endpointing=False) as one:
            one.send(PCM[500:1000])
            assert one.wait()[0]["seq"] == 1
            second.send(taken, [PCM[500:1000]] * 4)
            assert [result.seq.tolist() for result in second.wait()] == [[1] * 4]
            refused = [*first.send([begun[n] for n in (0, 5, 6)], [PCM[500:1000]] * 3), *first.wait()]
    outcomes = {int(r.handle[row]): int(r.status[row]) for r in refused for row in range(len(r.seq))}
    assert outcomes == {begun[0]: 409, begun[5]: 409, begun[6]: APPLIED}


def test_limits_hold_for_all_workers_together() -> None:
    server = WorkersServer("--max-sessions", "6", "--client-share", "1")
    try:
        server.ready()
        statuses = [spikes(server.url, None, 0).status_code for _ in range(12)]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) <= 6
        assert metrics(server.url)["hetsyn_sessions_held"] == statuses.count(200)
    finally:
        server.stop()
