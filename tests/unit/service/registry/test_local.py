"""Sessions in the memory of a server without a store: how long each is kept, and how many."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import NotFound, OutOfOrder, Overloaded
from tests.support.clock import Clock
from tests.support.servers.in_process import DirectServer, ServeDirect
from tests.support.stores.memory_store import MemoryStore


async def test_an_idle_session_is_dropped_and_its_id_is_free(server: DirectServer) -> None:
    await server.send("a", 0)
    server.clock.now_s += 59
    await server.sweep()
    await server.send("a", 1, seed=1)
    server.clock.now_s += 60
    await server.sweep()
    assert server.registry.sessions.bytes == 0
    for seq in (None, 2):
        await server.refused(NotFound, "has expired", "a", seq)
    with pytest.raises(NotFound):
        await server.registry.describe("a")
    with pytest.raises(NotFound):
        await server.registry.delete("a")
    assert (await server.send("a", 0)).seq == 0


async def test_a_session_in_use_is_not_idle(server: DirectServer) -> None:
    await server.send("a", 0)
    server.gate.entered.acquire(blocking=False)
    server.gate.opened.clear()
    running = asyncio.create_task(server.send("a", 1, seed=1))
    await server.entered()
    server.clock.now_s += 500
    await server.sweep()
    server.gate.opened.set()
    assert (await running).seq == 1
    assert (await server.send("a", 2)).seq == 2


@pytest.mark.parametrize("stored", [False, True])
async def test_only_chunks_that_are_applied_are_use(serve: ServeDirect, stored: bool) -> None:
    clock = Clock(now_s=1_000_000.0)
    store = MemoryStore(clock) if stored else None
    server = serve(store=store, clock=clock, session_idle_s=60)
    await server.send("a", 0)
    for _ in range(5):
        clock.now_s += 10
        await server.send("a", 0)
        await server.registry.describe("a")
        await server.transfer.export_state("a")
        await server.refused(OutOfOrder, "gap", "a", 5)
    assert (await server.registry.describe("a"))["idle_s"] == 50
    clock.now_s += 10
    await server.refused(NotFound, "has expired", "a", 1)


async def test_an_ended_session_keeps_its_last_reply_for_a_while(server: DirectServer) -> None:
    last = await server.send("a", 0, end=True)
    server.clock.now_s += 9
    await server.sweep()
    assert await server.send("a", 0, end=True) == last
    assert (await server.registry.describe("a"))["ended"]
    assert (await server.registry.describe("a"))["state_bytes"] == 0
    server.clock.now_s += 1
    with pytest.raises(NotFound):
        await server.registry.describe("a")
    assert (await server.send("a", 0)).end is False


async def test_one_session_more_than_there_may_be_is_refused_at_once(server: DirectServer) -> None:
    for name in "abc":
        await server.send(name, 0)
    error = await server.refused(Overloaded, "as many sessions as it takes", "d", 0)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s > 0
    assert (await server.send("a", 1)).seq == 1
    await server.send("b", 1, end=True)  # an ended session does not count
    await server.send("d", 0)
    await server.refused(Overloaded, "as many sessions as it takes", "e", 0)
    await server.registry.delete("a")
    await server.send("e", 0)
    server.clock.now_s += 60
    assert (await server.send("f", 0)).seq == 0  # the idle ones make room


async def test_the_sweep_task_sweeps_and_one_that_fails_is_logged(
    serve: ServeDirect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(session_idle_s=60, sweep_interval_s=0.001)
    await server.send("a", 0)
    server.clock.now_s += 60
    monkeypatch.setattr(server.registry.sessions.quota, "sweeping", lambda _: 1 / 0)
    task = asyncio.create_task(server.registry.sweep_forever(0.001))
    while caplog.text.count("division by zero") < 2:
        assert not task.done()
        await asyncio.sleep(0.001)
    monkeypatch.undo()
    while server.registry.sessions.open:
        assert not task.done()
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
