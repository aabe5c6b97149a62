"""Runs against a server of a few lines, on a real network and clock: counts and order, no times."""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter, defaultdict
from typing import Any

import pytest

from hetsyn_client.access import Access
from hetsyn_client.loadtest.load import Load, Served
from hetsyn_client.loadtest.run import Loop, Measurement, Record, RunSettings, measure, run_loop
from hetsyn_client.loadtest.senders import InferWay
from tests.support.servers.scripted_server import OK, Answer, serving

LOAD = Load("audio/pcm;encoding=pcm_s16le;rate=8000", (b"aa", b"bb", b"cc"), period_s=0.02, description="letters")
SERVED = Served("m", 1, 0.01, 8000)
SETTINGS = RunSettings(duration_s=0.3, warmup_s=0.05, session_chunks=4)


def status(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {line}", *headers, "Content-Length: 0", "", ""]).encode()


class Log:
    """Which sessions saw which numbers, and which were dropped."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[int]] = defaultdict(list)
        self.ended: list[str] = []
        self.dropped: list[str] = []
        self.chunks = 0

    async def answer(self, line: str) -> bytes:
        if line.startswith("DELETE"):
            self.dropped.append(line.split()[1].rpartition("/")[2])
            return status("204 No Content")
        found = re.search(r"session=([\w-]+)&seq=(\d+)", line)
        assert found, line
        self.chunks += 1
        self.numbers[found[1]].append(int(found[2]))
        if "end=true" in line:
            self.ended.append(found[1])
        return OK


def run(answer: Answer, loop: Loop, settings: RunSettings = SETTINGS, **more: Any) -> Measurement:
    async def main() -> Measurement:
        async with serving(answer) as address:
            way = InferWay(Access.checked(address.url), SERVED, LOAD)
            return await measure(way, LOAD, loop, settings, **more)

    return run_loop(main())


@pytest.mark.parametrize("loop", [Loop(7, is_open=True), Loop(5, is_open=False)])
def test_sessions_are_numbered_and_the_server_is_left_clean(loop: Loop) -> None:
    log = Log()
    result = run(log.answer, loop)
    assert result.streams == loop.streams
    assert result.answered > 0
    assert result.failures == 0
    assert all(numbers == list(range(len(numbers))) for numbers in log.numbers.values())
    # every session is whole or dropped; the first of a stream may be shorter
    assert set(log.numbers) == set(log.ended) | set(log.dropped)
    assert not set(log.ended) & set(log.dropped)
    assert Counter(len(log.numbers[session]) <= 4 for session in log.ended)[False] == 0
    assert result.sessions_left == 0


def test_a_full_server_refuses_chunks_and_their_number_is_used_again() -> None:
    log = Log()
    requests = 0

    async def answer(line: str) -> bytes:
        nonlocal requests
        if not line.startswith("DELETE"):
            requests += 1
            if requests % 3 == 0:
                return status("503 Full", "Retry-After: 0")
        return await log.answer(line)

    result = run(answer, Loop(4, is_open=True))
    assert set(result.errors) == {"refused (503)"}
    assert result.answered + result.errors["refused (503)"] == 4 * 15
    assert all(numbers == list(range(len(numbers))) for numbers in log.numbers.values())
    assert result.sessions_left == 0


def test_a_deletion_that_the_server_wants_later_is_sent_again_and_a_refused_one_is_left() -> None:
    log = Log()
    asked: Counter[str] = Counter()

    async def answer(line: str) -> bytes:
        if line.startswith("DELETE"):
            asked[line] += 1
            if asked[line] == 1:
                return status("429 Later", "Retry-After: 0")
        return await log.answer(line)

    result = run(answer, Loop(4, is_open=True))
    assert result.sessions_left == 0
    assert set(asked.values()) == {2}

    refused: Counter[str] = Counter()

    async def unauthorized(line: str) -> bytes:
        if line.startswith("DELETE"):
            refused[line] += 1
            return status("401 Unknown")
        return await log.answer(line)

    assert run(unauthorized, Loop(4, is_open=True)).sessions_left == refused.total() > 0


def test_an_error_ends_the_session_and_is_counted_by_its_status() -> None:
    log = Log()
    requests = 0

    async def answer(line: str) -> bytes | None:
        nonlocal requests
        if line.startswith("DELETE"):
            return await log.answer(line)
        requests += 1
        failures = {5: status("500 Oh"), 9: status("503 No")}
        return failures.get(requests) or await log.answer(line)

    result = run(answer, Loop(4, is_open=True), RunSettings(duration_s=0.3, warmup_s=0.0, session_chunks=50))
    assert result.errors == {"status 500": 1, "status 503": 1}
    assert len(log.dropped) >= 2
    assert all(numbers == list(range(len(numbers))) for numbers in log.numbers.values())


def test_what_a_server_never_answers_is_waited_for_no_longer_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hetsyn_client.loadtest.run.TIMEOUT_S", 0.3)
    never = asyncio.Event()

    async def answer(line: str) -> bytes:
        if not line.startswith("DELETE"):
            await never.wait()
        return OK

    result = run(answer, Loop(2, is_open=True), RunSettings(duration_s=0.2, warmup_s=0.0))
    assert result.answered == 0
    assert result.failures == 20
    assert set(result.errors) == {"timeout"}
    assert result.latency.count == result.unanswered > 0


def test_latency_counts_from_when_a_chunk_was_due() -> None:
    """The chunks that fall due while the server stands still are late, too."""
    log = Log()

    async def answer(line: str) -> bytes:
        if "seq=0&" in line:
            await asyncio.sleep(0.2)
        return await log.answer(line)

    result = run(answer, Loop(1, is_open=True), RunSettings(duration_s=0.3, warmup_s=0.0, session_chunks=1_000))
    assert result.answered == 15
    assert result.latency.percentiles[50.0] >= 60.0  # the eighth was due 140 ms after the first
    assert result.service.percentiles[50.0] < result.latency.percentiles[50.0]


@pytest.mark.parametrize("reason", ["too slow", "interrupted"])
def test_a_run_stops_when_it_is_asked_to(reason: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

    def watch(record: Record, now_s: float) -> str | None:  # noqa: ARG001
        if record.applied and reason == "interrupted":
            signal.raise_signal(signal.SIGINT)
        return reason if record.applied and reason != "interrupted" else None

    result = run(Log().answer, Loop(3, is_open=True), RunSettings(duration_s=600.0, warmup_s=0.0), watch=watch)
    assert result.stopped == reason
    assert 0 < result.answered < 10_000
    assert result.sessions_left == 0


def test_a_server_that_is_gone_answers_nothing() -> None:
    async def main() -> Measurement:
        async with serving(Log().answer) as address:
            pass
        way = InferWay(Access.checked(address.url), SERVED, LOAD)
        return await measure(way, LOAD, Loop(1, is_open=True), SETTINGS)

    result = run_loop(main())
    assert (result.answered, result.failures) == (0, 15)
