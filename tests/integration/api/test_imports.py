"""What a stranger may import over HTTP, and what becomes of a session whose state cannot go on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from service.registry import transfer
from service.registry.transfer import IMPORT_BYTES
from service.store.record import Record, read
from tests.support.artifact import write_artifact
from tests.support.fake_graph import OUTPUTS
from tests.support.gate import Gate
from tests.support.http_calls import is_problem, metric, ok, put_state
from tests.support.in_process import HttpServer, ServeHttp
from tests.support.json_input import audio, events
from tests.support.overflowing_graph import load_overflowing
from tests.support.record_parts import Section, rewritten, sections
from tests.support.signals import sound


async def exported(server: HttpServer, session: str) -> bytes:
    response = await server.client.get(f"/sessions/{session}/state")
    assert response.status_code == 200, response.text
    return response.content


def with_potentials(content: bytes, value: float) -> bytes:
    network = sections(content)[Section.network]
    row = np.full(OUTPUTS, value, "<f4").tobytes() + network[4 * OUTPUTS :]
    return rewritten(content, parts={Section.network: row})


async def test_a_broken_session_is_told_so_and_can_be_exported_and_deleted(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="hetsyn")
    async with HttpServer(models, Gate(load_overflowing)) as server:
        client = server.client
        await ok(client, session="good", seq=0, input=events(25))
        huge = with_potentials(await exported(server, "good"), 9e29)
        assert (await put_state(client, "bad", huge)).status_code == 201
        logged = len(caplog.records)
        for end in (False, True):
            response = await client.post("/infer", json={"session": "bad", "end": end, "input": events(25, 1)})
            problem = is_problem(response, 409, "delete the session, and begin another")
            assert problem["type"] == "urn:hetsyn:problem:state-broken"
        assert {record.levelno for record in caplog.records[logged:]} == {logging.INFO}
        text = (await client.get("/metrics")).text
        assert metric(text, 'hetsyn_chunks_refused_total{error="state-broken"}') == 2
        described = (await client.get("/sessions/bad")).json()
        assert (described["expected_seq"], described["total_steps"]) == (1, 25)
        assert sections(await exported(server, "bad"))[Section.network] == sections(huge)[Section.network]
        assert (await client.delete("/sessions/bad")).status_code == 204
        assert (await ok(client, session="good", seq=1, input=events(25, 1)))["total_steps"] == 50


async def test_an_import_is_no_longer_than_a_session_of_the_models(serve: ServeHttp) -> None:
    server = await serve()
    client = server.client
    await ok(client, session="abc", seq=0, input=audio(sound(22_000, 1), 191_975))
    longest = await exported(server, "abc")
    assert (await put_state(client, "def", longest)).status_code == 201
    problem = is_problem(await put_state(client, "ghi", bytes(15_000_000)), 413, "no session of this server's models")
    assert problem["type"].endswith("too-large")


async def test_a_server_without_the_model_says_so(tmp_path: Path, models: Path, serve: ServeHttp) -> None:
    write_artifact(tmp_path / "others", "deaf", takes_audio=False)
    server, other = await serve(models), await serve(tmp_path / "others")
    await ok(server.client, session="abc", seq=0, input=audio(sound(4_000, 1), 44_100))
    content = await exported(server, "abc")
    assert len(content) < IMPORT_BYTES
    is_problem(await put_state(other.client, "abc", content), 503, "does not have")


@pytest.mark.parametrize("rate_hz", [8_000, 191_975])
async def test_a_long_import_is_read_on_a_thread(
    rate_hz: int, serve: ServeHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve()
    client = server.client
    await ok(client, session="abc", seq=0, input=audio(sound(22_000, 1), rate_hz))
    content = await exported(server, "abc")
    threads: list[threading.Thread] = []

    def recorded(content: bytes) -> Record:
        threads.append(threading.current_thread())
        return read(content)

    monkeypatch.setattr(transfer, "read", recorded)
    assert (await put_state(client, "def", content)).status_code == 201
    assert [thread is threading.main_thread() for thread in threads] == [len(content) <= 64 * 1024]


async def test_long_imports_are_read_one_after_the_other(serve: ServeHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    client = (await serve()).client
    await ok(client, session="abc", seq=0, input=audio(sound(22_000, 1), 191_975))
    content = (await client.get("/sessions/abc/state")).content
    alone, running = threading.Lock(), list[bool]()

    def recorded(content: bytes) -> Record:
        with contextlib.ExitStack() as stack:
            running.append(alone.acquire(blocking=False))
            if running[-1]:
                stack.callback(alone.release)
            time.sleep(0.02)
            return read(content)

    monkeypatch.setattr(transfer, "read", recorded)
    answers = await asyncio.gather(*(put_state(client, f"to-{n}", content) for n in range(5)))
    assert [answer.status_code for answer in answers] == [201] * 5
    assert running == [True] * 5


async def test_a_reply_of_wrong_values_is_refused_at_once(serve: ServeHttp) -> None:
    client = (await serve()).client
    await ok(client, session="abc", seq=0, input=events(25))
    content = (await client.get("/sessions/abc/state")).content
    strings = rewritten(content, readout=[[""] * 200_000])
    is_problem(await put_state(client, "def", strings), 422, "the session record's last reply has")
    for reply in ({"labels": ["x"] * 3}, {"label": "<script>"}, {"probabilities": [5, -1, 0]}):
        problem = is_problem(await put_state(client, "def", rewritten(content, **reply)), 422, "last reply")
        assert problem["type"].endswith("state-mismatch")
    is_problem(await client.get("/sessions/def"), 404, "no session")
