"""What every store promises, held against each of them; then what only one of them can get wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from benchmarks.faults.relay import Relay
from benchmarks.valkey import BINARY, MISSING, ValkeyServer
from service.errors import HetsynError, StateCorrupt, StateError, StateForeign, StoreUnavailable, StoreUnusable
from service.store.base import ABSENT, Change, StateStore, Stored, Verdict, new_revision
from service.store.file import FileStore
from service.store.memory import MemoryStore
from service.store.redis import RedisStore


@dataclass
class Clock:
    now_s: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def put(session: str, expected: int, revision: int, record: bytes = b"record", keep_s: float = 60.0) -> Change:
    return Change(session, expected, revision, record, keep_s)


def delete(session: str, expected: int) -> Change:
    return Change(session, expected, new_revision(), None, 0.0)


COMMITTED, FENCED = Verdict.committed, Verdict.fenced
Make = Callable[[], StateStore]


@pytest.fixture(params=["memory", "file", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Opens the store; twice gives two replicas of one store."""
    if request.param == "memory":
        memory = MemoryStore()
        return lambda: memory
    if request.param == "file":
        return lambda: FileStore(tmp_path / "sessions.db")
    valkey: ValkeyServer = request.getfixturevalue("valkey")
    return lambda: RedisStore(valkey.url, prefix=f"{request.node.name}:")


def run(make: Make, body: Callable[[StateStore], Awaitable[None]]) -> None:
    async def whole() -> None:
        store = make()
        try:
            await store.start()
            async with asyncio.timeout(20):
                await body(store)
        finally:
            await store.close()

    asyncio.run(whole())


async def records(store: StateStore, *sessions: str) -> list[bytes | None]:
    found = await store.load(sessions)
    return [stored.record if isinstance(stored, Stored) else None for stored in found]


async def test_what_is_committed_is_loaded_with_its_revision(make: Make) -> None:
    # RUN run(make, body) ARGS store
    assert await store.load(["a", "b"]) == [None, None]
    content = bytes(range(256)) * 40
    assert await store.commit([put("a", ABSENT, 11, content), put("b", ABSENT, 2**63 - 1, b"")]) == [COMMITTED] * 2
    assert await store.load(["b", "x", "a"]) == [Stored(2**63 - 1, b""), None, Stored(11, content)]


async def test_a_change_is_committed_only_on_the_revision_that_it_names(make: Make) -> None:
    # RUN run(make, body) ARGS store
    await store.commit([put("a", ABSENT, 1, b"one")])
    for wrong in (ABSENT, 2, 2**62):
        assert await store.commit([put("a", wrong, 7, b"wrong")]) == [FENCED]
    assert await store.commit([put("b", 1, 7, b"wrong")]) == [FENCED]
    assert await records(store, "a", "b") == [b"one", None]
    assert await store.commit([put("a", 1, 2, b"two")]) == [COMMITTED]
    assert await store.commit([put("a", 1, 3, b"three")]) == [FENCED]
    assert await store.load(["a"]) == [Stored(2, b"two")]


async def test_each_change_of_a_batch_has_its_own_verdict(make: Make) -> None:
    # RUN run(make, body) ARGS store
    await store.commit([put("a", ABSENT, 1), put("b", ABSENT, 2)])
    verdicts = await store.commit(
        [put("a", 1, 3, b"a"), put("b", 9, 4, b"b"), put("c", ABSENT, 5, b"c"), delete("d", 1), delete("b", 2)]
    )
    assert verdicts == [COMMITTED, FENCED, COMMITTED, FENCED, COMMITTED]
    assert await records(store, "a", "b", "c") == [b"a", None, b"c"]
    assert await store.commit([]) == []
    assert await store.load([]) == []


async def test_a_deleted_session_may_begin_again_and_its_old_revision_is_fenced(make: Make) -> None:
    # RUN run(make, body) ARGS store
    await store.commit([put("a", ABSENT, 1)])
    assert await store.commit([delete("a", 2)]) == [FENCED]
    assert await store.commit([delete("a", 1)]) == [COMMITTED]
    assert await store.load(["a"]) == [None]
    assert await store.commit([put("a", 1, 2)]) == [FENCED]
    assert await store.commit([put("a", ABSENT, 3, b"new")]) == [COMMITTED]
    assert await store.commit([put("a", 1, 4)]) == [FENCED]
    assert await records(store, "a") == [b"new"]


async def test_of_many_that_change_one_revision_one_comes_first(make: Make) -> None:
    # RUN run(make, body) ARGS store
    others = [make() for _ in range(3)]
    try:
        replicas = [store, *others]
        expected = ABSENT
        for round_ in range(10):
            changes = [put("a", expected, 100 * round_ + n + 1, bytes([n])) for n in range(len(replicas))]
            verdicts = await asyncio.gather(
                *(replica.commit([change]) for replica, change in zip(replicas, changes, strict=True))
            )
            first = [n for n, (verdict,) in enumerate(verdicts) if verdict is COMMITTED]
            assert len(first) == 1
            expected = changes[first[0]].revision
            assert await store.load(["a"]) == [Stored(expected, bytes([first[0]]))]
    finally:
        for other in others:
            if other is not store:
                await other.close()


async def test_what_is_kept_long_enough_is_gone_and_may_begin_again(make: Make) -> None:
    # RUN run(make, body) ARGS store
    await store.commit([put("a", ABSENT, 1, keep_s=0.05), put("b", ABSENT, 2, keep_s=60)])
    async with asyncio.timeout(10):
        while (await store.load(["a"])) != [None]:
            await asyncio.sleep(0.005)
    assert await store.commit([put("a", 1, 3)]) == [FENCED]
    assert await store.commit([put("a", ABSENT, 4)]) == [COMMITTED]
    assert await store.load(["a", "b"]) == [Stored(4, b"record"), Stored(2, b"record")]


async def test_scan_tells_every_session(make: Make) -> None:
    # RUN run(make, body) ARGS store
    names = {f"session-{n}" for n in range(1203)}
    await store.commit([put(name, ABSENT, new_revision()) for name in names])
    assert {session async for session in store.scan()} == names


async def test_a_store_is_well_and_expires(make: Make) -> None:
    # RUN run(make, body) ARGS store
    await store.health()
    assert await store.expire() == 0


def test_nothing_that_is_not_there_can_be_deleted() -> None:
    with pytest.raises(ValueError, match="cannot be deleted"):
        delete("a", ABSENT)


def test_revisions_are_never_absent_and_never_the_same() -> None:
    drawn = {new_revision() for _ in range(1000)}
    assert len(drawn) == 1000
    assert all(ABSENT < revision < 2**63 for revision in drawn)


# memory and file: a clock that is turned by hand


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_expire_removes_what_is_over(tmp_path: Path, kind: str) -> None:
    clock = Clock()
    store: StateStore = MemoryStore(clock) if kind == "memory" else FileStore(tmp_path / "s.db", clock=clock)
    # RUN run(lambda: store, body) ARGS store
    await store.commit([put("a", ABSENT, 1, keep_s=10), put("b", ABSENT, 2, keep_s=20)])
    clock.now_s += 10
    assert {session async for session in store.scan()} == {"b"}
    assert await store.expire() == 1
    assert await store.expire() == 0
    clock.now_s += 10
    assert await store.expire() == 1


# file


async def test_all_that_is_over_is_removed_and_others_have_their_turn(tmp_path: Path) -> None:
    clock = Clock()
    file = FileStore(tmp_path / "s.db", clock=clock)
    order: list[str] = []
    # RUN run(lambda: file, body) ARGS store
    await store.commit([put(f"s{n}", ABSENT, n + 1, keep_s=10) for n in range(1_200)])
    await store.commit([put("stays", ABSENT, 2_000, keep_s=100)])
    clock.now_s += 10

    async def remove() -> None:
        assert await store.expire() == 1_200
        order.append("removed")

    async def chunk() -> None:
        assert await store.commit([put("new", ABSENT, 3_000)]) == [COMMITTED]
        order.append("committed")

    await asyncio.gather(remove(), chunk())
    assert order == ["committed", "removed"]
    assert {session async for session in store.scan()} == {"stays", "new"}
    other = sqlite3.connect(tmp_path / "s.db")
    assert other.execute("SELECT count(*) FROM sessions").fetchone() == (2,)
    other.close()


def test_a_file_keeps_its_sessions(tmp_path: Path) -> None:
    async def write(store: StateStore) -> None:
        await store.commit([put("a", ABSENT, 1, b"kept")])

    async def read(store: StateStore) -> None:
        assert await store.load(["a"]) == [Stored(1, b"kept")]

    run(lambda: FileStore(tmp_path / "s.db"), write)
    run(lambda: FileStore(tmp_path / "s.db", synchronous="normal"), read)


async def test_a_full_disk_changes_nothing_and_is_unavailable(tmp_path: Path) -> None:
    # RUN run(lambda: FileStore(tmp_path / 's.db', max_bytes=100000), body) ARGS store
    assert await store.commit([put("a", ABSENT, 1, b"small")]) == [COMMITTED]
    verdicts = await store.commit([put("a", 1, 2, bytes(200_000)), put("b", ABSENT, 3)])
    assert all(isinstance(verdict, StoreUnavailable) for verdict in verdicts)
    assert "full" in str(verdicts[0])
    assert await store.load(["a", "b"]) == [Stored(1, b"small"), None]
    assert await store.commit([put("a", 1, 2, b"less")]) == [COMMITTED]


async def test_a_locked_file_is_unavailable_and_recovers(tmp_path: Path) -> None:
    # RUN run(lambda: FileStore(tmp_path / 's.db', timeout_s=0.2), body) ARGS store
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    (verdict,) = await store.commit([put("a", ABSENT, 1)])
    assert isinstance(verdict, StoreUnavailable)
    assert "locked" in str(verdict)
    other.execute("ROLLBACK")
    other.close()
    assert await store.commit([put("a", ABSENT, 2)]) == [COMMITTED]


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"x"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnusable, match="cannot be used as a session store"):
        FileStore(path)
    assert path.read_bytes() == content


def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE sessions (id)")
    other.close()
    with pytest.raises(StoreUnusable, match="not a session store"):
        FileStore(path)


def test_another_version_s_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    run(lambda: FileStore(path), lambda store: store.health())
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(StoreUnusable, match="version 7, this server has 1"):
        FileStore(path)


def test_a_damaged_file_is_refused_at_the_start_or_reaches_those_it_touches(tmp_path: Path) -> None:
    """Every page in turn is overwritten: nothing is answered but what was stored, or an error."""
    path = tmp_path / "s.db"
    names = [f"session-{n}" for n in range(20)]
    content = bytes(range(256)) * 40

    async def write(store: StateStore) -> None:
        await store.commit([put(name, ABSENT, n + 1, content) for n, name in enumerate(names)])

    run(lambda: FileStore(path), write)
    intact = path.read_bytes()
    refused = 0
    for begin in range(0, len(intact), 4096):
        path.write_bytes(intact[:begin] + b"\xff" * 4096 + intact[begin + 4096 :])

        async def read(store: StateStore) -> None:
            for n, found in enumerate(await store.load(names)):
                if isinstance(found, Stored):
                    # a record that SQLite cannot tell to be damaged is for the packing's checksum
                    assert found.revision == n + 1
                else:
                    assert isinstance(found, HetsynError)

        try:
            run(lambda: FileStore(path), read)
        except StoreUnusable:
            refused += 1
    assert refused


async def test_damage_that_comes_later_reaches_one_session(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = FileStore(path)
    # RUN run(lambda: store, body) ARGS store
    await store.commit([put("a", ABSENT, 1), put("b", ABSENT, 2)])
    other = sqlite3.connect(path)
    other.execute("UPDATE sessions SET record = 'text' WHERE id = 'a'")
    other.commit()
    other.close()
    damaged, well = await store.load(["a", "b"])
    assert isinstance(damaged, StateForeign)
    assert well == Stored(2, b"record")


async def test_a_malformed_page_is_told_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "s.db")
    commit_one = store._commit_one

    def bad_commit(change: Change, now_s: float) -> Verdict:
        if change.session == "bad":
            raise sqlite3.DatabaseError("database disk image is malformed")
        return commit_one(change, now_s)

    monkeypatch.setattr(store, "_commit_one", bad_commit)
    # RUN run(lambda: store, body) ARGS store
    verdicts = await store.commit([put("a", ABSENT, 1), put("bad", ABSENT, 2), put("c", ABSENT, 3)])
    assert verdicts[0] is COMMITTED
    assert isinstance(verdicts[1], StateCorrupt)
    assert verdicts[2] is COMMITTED
    assert await records(store, "a", "bad", "c") == [b"record", None, b"record"]


# redis


def test_a_server_that_is_away_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    if BINARY is None:
        pytest.skip(MISSING)
    with ValkeyServer(tmp_path) as server:

        async def body(store: StateStore) -> None:
            assert await store.commit([put("a", ABSENT, 1, b"kept")]) == [COMMITTED]
            server.kill()
            (verdict,) = await store.commit([put("a", 1, 2)])
            (found,) = await store.load(["a"])
            assert isinstance(verdict, StoreUnavailable)
            assert isinstance(found, StoreUnavailable)
            with pytest.raises(StoreUnavailable):
                await store.health()
            server.start()
            assert await store.load(["a"]) == [Stored(1, b"kept")]
            # the restarted server has forgotten the script
            assert await store.commit([put("a", 1, 2, b"on"), put("b", ABSENT, 3)]) == [COMMITTED] * 2

        run(lambda: RedisStore(server.url, timeout_s=5), body)


def test_a_paused_server_is_unavailable_and_what_it_does_late_is_compared(tmp_path: Path) -> None:
    if BINARY is None:
        pytest.skip(MISSING)
    with ValkeyServer(tmp_path) as server:

        async def body(store: StateStore) -> None:
            await store.commit([put("a", ABSENT, 1, b"one")])
            server.pause()
            (verdict,) = await store.commit([put("a", 1, 2, b"two")])
            (found,) = await store.load(["a"])
            assert isinstance(verdict, StoreUnavailable)
            assert isinstance(found, StoreUnavailable)
            server.resume()
            # no answer of before may be taken for one of these
            (now,) = await store.load(["a"])
            assert now in (Stored(1, b"one"), Stored(2, b"two"))
            (verdict,) = await store.commit([put("a", 1, 3, b"three")])
            (last,) = await store.load(["a"])
            assert last == (Stored(3, b"three") if verdict is COMMITTED else Stored(2, b"two"))

        run(lambda: RedisStore(server.url, timeout_s=0.3), body)


def test_a_full_server_is_unavailable_and_one_that_evicts_is_refused(tmp_path: Path) -> None:
    if BINARY is None:
        pytest.skip(MISSING)
    with ValkeyServer(tmp_path, "--maxmemory", "3mb") as server:

        async def body(store: StateStore) -> None:
            verdicts: list[Verdict | HetsynError] = []
            for n in range(100):
                verdicts += await store.commit([put(f"s{n}", ABSENT, n + 1, bytes(100_000))])
            assert verdicts[0] is COMMITTED
            assert isinstance(verdicts[-1], StoreUnavailable)
            assert "maxmemory" in str(verdicts[-1])
            assert await store.load(["s0"]) == [Stored(1, bytes(100_000))]
            assert await store.commit([delete("s0", 1)]) == [COMMITTED]
            with Redis.from_url(server.url) as admin:
                admin.config_set("maxmemory-policy", "volatile-lru")
            with pytest.raises(StoreUnusable, match="drops sessions"):
                await store.health()

        run(lambda: RedisStore(server.url), body)


async def test_foreign_values_under_our_keys_are_told(valkey: ValkeyServer) -> None:
    # RUN run(lambda: RedisStore(valkey.url, prefix='foreign:'), body) ARGS store
    with Redis.from_url(valkey.url) as other:
        other.rpush("foreign:list", "x")
        other.set("foreign:short", "x")
    found = await store.load(["list", "short"])
    assert all(isinstance(error, StateForeign) for error in found)
    on_list, on_short = await store.commit([put("list", ABSENT, 1), put("short", ABSENT, 2)])
    assert isinstance(on_list, StateError)
    assert on_short is FENCED


async def test_what_fails_for_one_session_of_a_batch_leaves_the_others(valkey: ValkeyServer) -> None:
    # RUN run(lambda: RedisStore(valkey.url, prefix='among:'), body) ARGS store
    with Redis.from_url(valkey.url) as other:
        other.rpush("among:list", "x")
    verdicts = await store.commit([put("a", ABSENT, 1, b"a"), put("list", ABSENT, 2), put("b", ABSENT, 3, b"b")])
    assert isinstance(verdicts[1], StateForeign)
    assert [verdicts[0], verdicts[2]] == [COMMITTED, COMMITTED]
    assert await records(store, "a", "b") == [b"a", b"b"]


def test_a_batch_is_one_command_so_that_it_waits_for_the_disk_once(tmp_path: Path) -> None:
    if BINARY is None:
        pytest.skip(MISSING)

    async def body(store: StateStore) -> None:
        batch = [put(f"s{n}", ABSENT, n + 1, bytes(13_000)) for n in range(64)]
        assert await store.commit(batch) == [COMMITTED] * 64
        with Redis.from_url(server.url) as admin:
            assert admin.info("commandstats")["cmdstat_evalsha"]["calls"] == 1

    with ValkeyServer(tmp_path) as server:
        run(lambda: RedisStore(server.url), body)


def test_a_restarted_server_is_told_the_script_again(tmp_path: Path) -> None:
    if BINARY is None:
        pytest.skip(MISSING)

    async def body(store: StateStore) -> None:
        assert await store.commit([put("a", ABSENT, 1)]) == [COMMITTED]
        server.kill()
        server.start()
        assert await store.commit([put("a", 1, 2), put("b", ABSENT, 3)]) == [COMMITTED, COMMITTED]

    with ValkeyServer(tmp_path) as server:
        run(lambda: RedisStore(server.url), body)


def through(relay: Relay, prefix: str) -> RedisStore:
    return RedisStore(f"redis://127.0.0.1:{relay.port}/0", timeout_s=5, prefix=prefix)


async def answer_lost(relay: Relay, sent: asyncio.Task[list[Verdict | HetsynError]]) -> None:
    """Until the server has done what was sent and its answer has been thrown away."""
    lost = relay.lost
    while relay.lost == lost:
        assert not sent.done()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("is_new", [True, False])
async def test_a_commit_whose_answer_is_lost_is_found_to_be_done(relay: Relay, is_new: bool) -> None:
    """Sent again it meets its own revision. Fenced, it would be decided again, and without a number count twice."""
    prefix = f"lost-{is_new}:"
    # RUN run(lambda: through(relay, prefix), body) ARGS store
    if not is_new:
        await store.commit([put("a", ABSENT, 1, b"one"), put("b", ABSENT, 2, b"b")])
    else:
        await store.commit([put("other", ABSENT, 1)])
    relay.lose()
    changes = [put("a", ABSENT if is_new else 1, 5, b"five"), put("b", 7, 8, b"fenced")]
    sent = asyncio.create_task(store.commit(changes))
    await answer_lost(relay, sent)
    relay.cut()
    done, fenced = await sent
    assert done is COMMITTED
    assert isinstance(fenced, StoreUnavailable)  # it cannot be told from what follows
    assert await store.load(["a"]) == [Stored(5, b"five")]


async def test_a_commit_that_another_has_followed_is_unknown_after_its_answer_was_lost(
    valkey: ValkeyServer, relay: Relay
) -> None:
    # RUN run(lambda: through(relay, 'followed:'), body) ARGS store
    other = RedisStore(valkey.url, prefix="followed:")
    await store.commit([put("a", ABSENT, 1), put("b", ABSENT, 2)])
    relay.lose()
    sent = asyncio.create_task(store.commit([put("a", 1, 5, b"five"), delete("b", 2)]))
    await answer_lost(relay, sent)
    assert await other.commit([put("a", 5, 6, b"six"), put("b", ABSENT, 7)]) == [COMMITTED] * 2
    relay.cut()
    for verdict in await sent:
        assert isinstance(verdict, StoreUnavailable)
        assert "another change came" in str(verdict)
    assert await records(store, "a", "b") == [b"six", b"record"]
    await other.close()


async def test_a_deletion_whose_answer_is_lost_is_done(relay: Relay) -> None:
    # RUN run(lambda: through(relay, 'deleted:'), body) ARGS store
    await store.commit([put("a", ABSENT, 1)])
    relay.lose()
    sent = asyncio.create_task(store.commit([delete("a", 1)]))
    await answer_lost(relay, sent)
    relay.cut()
    assert await sent == [COMMITTED]
    assert await store.load(["a"]) == [None]
    assert await store.commit([delete("a", 1)]) == [FENCED]  # nothing was lost this time


async def test_a_connection_that_has_gone_stale_is_made_again(relay: Relay) -> None:
    # RUN run(lambda: through(relay, 'stale:'), body) ARGS store
    await asyncio.gather(*(store.commit([put(f"s{n}", ABSENT, n + 1)]) for n in range(4)))
    assert relay.cut() > 1
    assert await store.load(["s0"]) == [Stored(1, b"record")]
    relay.cut()
    assert await store.commit([put("s0", 1, 9)]) == [COMMITTED]


@pytest.mark.parametrize("url", ["http://host", "redis://host:1/x", "redis://host:1/0/1", "redis://host:1/0?db=one"])
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(StoreUnusable, match="not one of Redis"):
        RedisStore(url)
