"""The share of the limits that a worker has."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from service.settings import Batching, Limits, Settings
from service.workers.division import DIVIDED, check_limits, share_of


@given(st.integers(1, 32), st.integers(32, 10_000))
def test_all_shares_make_the_whole(count: int, most: int) -> None:
    settings = Settings(Path("models"), limits=Limits(max_sessions=most, max_waiting=most))
    shares = [share_of(settings, index, count).limits for index in range(count)]
    for name in set(DIVIDED) - {"max_upload_bytes"}:
        assert sum(getattr(share, name) for share in shares) == getattr(settings.limits, name)
    assert all(share.max_upload_bytes >= share.max_body_bytes for share in shares)
    assert all(share.max_chunk_steps == settings.limits.max_chunk_steps for share in shares)


def test_one_worker_watches_the_folder_and_threads_are_shared() -> None:
    settings = Settings(Path("models"), watch_s=1.0, batching=Batching(engine_threads=3))
    shares = [share_of(settings, index, 2) for index in range(2)]
    assert [share.watch_s for share in shares] == [1.0, 0.0]
    assert [share.batching.engine_threads for share in shares] == [2, 1]
    assert share_of(settings, 7, 8).batching.engine_threads == 1


def test_a_limit_that_gives_a_worker_nothing_is_a_sentence() -> None:
    assert check_limits(Limits(), 8) == ""
    said = check_limits(Limits(max_sessions=3), 4)
    assert said == "--max-sessions 3 is less than --workers 4: each worker has a share of it"
