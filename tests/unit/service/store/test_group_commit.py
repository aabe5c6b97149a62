from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf

import pytest

from service.errors import HetsynError, StoreUnavailable
from service.store.base import NO_REVISION, Change, CommitResult, StateStore, Stored, new_revision
from service.store.group_commit import MAX_BATCH, GroupCommit
from tests.support.clock import stopped_clock
from tests.support.stores.failing_store import FailingStore


class StoreInBatches:
    """The batches of a store's loads and commits."""

    def __init__(self, store: StateStore, max_batch: int = MAX_BATCH, timeout_s: float = inf) -> None:
        self.loads: GroupCommit[str, Stored | None] = GroupCommit(
            store.load, store.lane, max_batch=max_batch, timeout_s=timeout_s
        )
        self.commits: GroupCommit[Change, CommitResult] = GroupCommit(
            store.commit, store.lane, max_batch=max_batch, timeout_s=timeout_s
        )

    def load(self, session: str) -> asyncio.Future[Stored | None]:
        return self.loads.request(session, session)

    def commit(self, change: Change, client: str = "") -> asyncio.Future[CommitResult]:
        return self.commits.request(change.session, change, client)

    async def drain(self) -> None:
        await self.loads.drain()
        await self.commits.drain()


def change(session: str) -> Change:
    return Change(session, NO_REVISION, new_revision(), b"record", 60.0)


async def test_clients_take_turns() -> None:
    group_commit, answered = StoreInBatches(FailingStore(), max_batch=4), list[str]()
    asked = [*((f"a{n}", "a") for n in range(20)), ("b", "b")]

    async def ask(session: str, client: str) -> None:
        await group_commit.commit(change(session), client)
        answered.append(session)

    await asyncio.gather(*(ask(session, client) for session, client in asked))
    assert sorted(answered[:4]) == ["a0", "a1", "a2", "b"]


async def test_what_is_asked_meanwhile_goes_in_the_next_and_no_batch_is_too_large() -> None:
    store = FailingStore()
    group_commit = StoreInBatches(store, max_batch=4)
    store.opened.clear()
    first = group_commit.commit(change("first"))
    await store.entered.wait()
    rest = [group_commit.commit(change(f"s{n}")) for n in range(6)]
    await asyncio.sleep(0)
    assert store.batches == []
    store.opened.set()
    await asyncio.gather(first, *rest)
    assert store.batches == [1, 4, 2]


async def test_loads_do_not_wait_for_commits() -> None:
    store = FailingStore()
    group_commit = StoreInBatches(store)
    await group_commit.commit(change("a"))
    released = asyncio.Event()
    commit = store.commit

    async def slow(changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        await released.wait()
        return await commit(changes)

    store.commit = slow  # type: ignore[method-assign]
    group_commit = StoreInBatches(store)
    committing = group_commit.commit(change("b"))
    loaded = await group_commit.load("a")
    assert isinstance(loaded, Stored)
    assert not committing.done()
    released.set()
    assert await committing is CommitResult.committed


async def test_each_caller_gets_an_error_of_its_own() -> None:
    store = FailingStore()
    store.down = True
    group_commit = StoreInBatches(store)
    errors = await asyncio.gather(*(group_commit.load(name) for name in "abc"), return_exceptions=True)
    assert all(isinstance(error, StoreUnavailable) for error in errors)
    assert len({id(error) for error in errors}) == 3


async def test_nobody_waits_for_batch_after_batch_that_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s)
    store = FailingStore()
    ends = [asyncio.Event(), asyncio.Event()]

    async def hangs(changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        store.batches.append(len(changes))
        await ends[len(store.batches) - 1].wait()
        return [StoreUnavailable("in the store") for _ in changes]

    async def batches(count: int) -> None:
        while len(store.batches) < count:
            await asyncio.sleep(0)

    store.commit = hangs  # type: ignore[method-assign]
    group_commit = StoreInBatches(store, max_batch=4, timeout_s=1.0)

    async def commit(name: str) -> str:
        with pytest.raises(StoreUnavailable) as caught:
            await group_commit.commit(change(name))
        return str(caught.value)

    early = [asyncio.create_task(commit(f"early-{n}")) for n in range(100)]
    await batches(1)
    now_s = 0.6
    late = [asyncio.create_task(commit(f"late-{n}")) for n in range(100)]
    await asyncio.sleep(0)
    now_s = 1.2  # the first batch took longer than the time-out, and the late ones have waited for half of it
    ends[0].set()
    await batches(2)
    now_s = 1.8
    ends[1].set()
    outcomes = await asyncio.gather(*early, *late)
    assert store.batches == [4, 4]
    assert sum("nothing was changed" in message for message in outcomes) == 192
    assert sum("in the store" in message for message in outcomes) == 8
    await group_commit.drain()


async def test_who_asks_after_that_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = stopped_clock(monkeypatch)
    store = FailingStore()
    store.opened.clear()
    group_commit = StoreInBatches(store, max_batch=1, timeout_s=0.02)
    first, waits = (group_commit.load(name) for name in "ab")
    await store.entered.wait()
    await clock.turn(0.03)
    later = group_commit.load("c")
    await asyncio.sleep(0)
    store.opened.set()
    assert await first is None
    with pytest.raises(StoreUnavailable, match=r"longer than 0\.02 s for the session store: nothing was changed"):
        await waits
    assert await later is None


async def test_a_store_that_breaks_its_promise_is_unavailable() -> None:
    store = FailingStore()

    async def broken(changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        raise OSError(f"{len(changes)} lost")

    store.commit = broken  # type: ignore[method-assign]
    group_commit = StoreInBatches(store)
    with pytest.raises(StoreUnavailable, match="1 lost") as caught:
        await group_commit.commit(change("a"))
    assert isinstance(caught.value.__cause__, OSError)
    await group_commit.drain()


@pytest.mark.parametrize("answers", [0, 3, 5])
async def test_nobody_hangs_behind_a_store_that_answers_too_few_or_too_many(answers: int) -> None:
    store = FailingStore()

    async def miscounts(sessions: Sequence[str]) -> list[Stored | HetsynError | None]:  # noqa: ARG001
        return [None] * answers

    store.load = miscounts  # type: ignore[method-assign]
    pipeline = StoreInBatches(store, max_batch=4)
    outcomes = await asyncio.gather(*(pipeline.load(f"s{n}") for n in range(6)), return_exceptions=True)
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    assert f"{answers} answers to 4 requests" in str(outcomes[0])
    await pipeline.drain()


async def test_a_caller_that_goes_away_harms_nobody() -> None:
    store = FailingStore()
    store.opened.clear()
    group_commit = StoreInBatches(store)
    left = group_commit.commit(change("a"))
    stays = group_commit.commit(change("b"))
    await store.entered.wait()
    left.cancel()
    store.opened.set()
    assert await stays is CommitResult.committed
    with pytest.raises(asyncio.CancelledError):
        await left
    assert isinstance(await group_commit.load("a"), Stored)


async def test_nobody_waits_for_ever_when_the_loop_ends() -> None:
    store = FailingStore()
    store.opened.clear()
    group_commit = StoreInBatches(store)
    waiting = group_commit.commit(change("a"))
    await store.entered.wait()
    group_commit.commits._running[None].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
