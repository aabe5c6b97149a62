"""The clock of the servers on one file: it begins with the machine's clock, and no step of that reaches it."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.observe.clock import SteadyClock, boot_id, since_boot
from service.store.base import NO_REVISION, Stored
from service.store.file import FileStore
from tests.support.change import COMMITTED, put
from tests.support.clock import Clock
from tests.support.started_store import StartStore, started


async def test_a_step_of_the_clock_removes_no_record(tmp_path: Path, start_store: StartStore) -> None:
    wall, steady = Clock(1_000_000.0), Clock(50.0)
    store = await start_store(FileStore(tmp_path / "s.db", wall=wall, steady=steady, boot="one"))
    assert await store.commit([put("a", NO_REVISION, 1, keep_s=60)]) == [COMMITTED]
    for step_s in (5_000.0, -3_600.0, 1e9, -1e6):
        wall.now_s = 1_000_000.0 + step_s
        assert await store.expire() == 0
        assert await store.load(["a"]) == [Stored(1, b"record")]
    steady.now_s += 60
    assert await store.load(["a"]) == [None]
    assert await store.expire() == 1


async def test_servers_of_one_machine_have_one_clock_whatever_the_time_at_their_start(
    tmp_path: Path, start_store: StartStore
) -> None:
    wall, steady = Clock(1_000_000.0), Clock(50.0)
    one = await start_store(FileStore(tmp_path / "s.db", wall=wall, steady=steady, boot="one"))
    wall.now_s += 650
    two = await start_store(FileStore(tmp_path / "s.db", wall=wall, steady=steady, boot="one"))
    steady.now_s += 7
    assert one.clock() == two.clock() == 1_000_007.0


async def test_a_restart_after_a_step_goes_on_with_the_time_of_before(tmp_path: Path) -> None:
    wall, steady = Clock(1_000_000.0), Clock(50.0)
    path = tmp_path / "s.db"
    async with started(FileStore(path, wall=wall, steady=steady, boot="one")) as store:
        assert await store.commit([put("a", NO_REVISION, 1, keep_s=60)]) == [COMMITTED]
    wall.now_s += 700
    steady.now_s += 10
    async with started(FileStore(path, wall=wall, steady=steady, boot="one")) as store:
        assert store.clock() == 1_000_010.0
        assert await store.expire() == 0
        assert await store.load(["a"]) == [Stored(1, b"record")]


@pytest.mark.parametrize("boot", ["two", ""])
async def test_after_another_start_of_the_machine_its_clock_is_taken(tmp_path: Path, boot: str) -> None:
    wall, steady = Clock(1_000_000.0), Clock(5_000.0)
    path = tmp_path / "s.db"
    async with started(FileStore(path, wall=wall, steady=steady, boot="one")):
        pass
    wall.now_s += 30
    steady.now_s = 4.0
    for _ in range(2):
        async with started(FileStore(path, wall=wall, steady=steady, boot=boot)) as store:
            assert store.clock() == 1_000_030.0


def test_the_real_clocks_agree_within_a_start_of_the_machine() -> None:
    first = since_boot()
    assert first > 0
    assert since_boot() >= first
    assert boot_id() == boot_id()
    clock = SteadyClock(lambda: 5.0, lambda: 2.0)
    assert clock() == 5.0
