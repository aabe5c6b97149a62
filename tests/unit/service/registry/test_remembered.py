"""Ids of sessions that are gone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from service.registry.remembered import HASH_BYTES, NEWEST_BYTES, RUNS, RememberedIds
from tests.support.clock import Clock

KEEP_S = 160.0
SLACK_S = 2 * KEEP_S / RUNS  # of a run, and of the ids that are made into one


def remembered(clock: Clock, max_bytes: int = 1 << 30, newest: int = 8) -> RememberedIds:
    return RememberedIds(KEEP_S, max_bytes, clock, newest)


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["add", "discard", "wait", "long"]), st.integers(0, 60)), max_size=150))
def test_ids_are_remembered_for_their_time_and_not_much_longer(steps: list[tuple[str, int]]) -> None:
    clock = Clock(0.0)
    ids = remembered(clock)
    added_s: dict[str, float] = {}
    for step, n in steps:
        if step == "add":
            ids.add(f"s{n}", clock())
            added_s[f"s{n}"] = clock()
        elif step == "discard":
            ids.discard(f"s{n}")
            added_s.pop(f"s{n}", None)
        else:
            clock.now_s += n if step == "long" else n / 10
        for name, since_s in added_s.items():
            if clock() - since_s < KEEP_S:
                assert name in ids
        assert not any(f"other-{m}" in ids for m in range(3))
    clock.now_s += KEEP_S + SLACK_S
    ids.forget()
    assert not any(name in ids for name in added_s)


def test_a_few_ids_are_forgotten_to_the_second() -> None:
    clock = Clock(0.0)
    ids = remembered(clock)
    ids.add("a", 0.0)
    clock.now_s = KEEP_S - 0.001
    assert "a" in ids
    clock.now_s = KEEP_S
    assert "a" not in ids


def test_an_id_takes_eight_bytes() -> None:
    clock = Clock(0.0)
    ids = remembered(clock, newest=1000)
    for n in range(50_000):
        ids.add(f"s{n}", clock())
        clock.now_s += 0.001
    assert all(f"s{n}" in ids for n in range(0, 50_000, 97))
    assert len(ids) == 50_000
    assert ids.bytes <= 50_000 * HASH_BYTES + 1000 * NEWEST_BYTES
    clock.now_s += KEEP_S + SLACK_S
    ids.forget()
    assert (len(ids), ids.bytes) == (0, 0)


def test_beyond_its_bytes_it_says_until_when_it_lacks_ids() -> None:
    clock = Clock(0.0)
    ids = remembered(clock, max_bytes=100 * HASH_BYTES + 8 * NEWEST_BYTES)
    for n in range(100):
        ids.add(f"s{n}", clock())
        clock.now_s += 0.1
    assert ids.forgets_until_s < clock()
    for n in range(100, 1000):
        ids.add(f"s{n}", clock())
        clock.now_s += 0.1
        assert ids.bytes <= 101 * HASH_BYTES + 9 * NEWEST_BYTES
    missing = [n for n in range(1000) if f"s{n}" not in ids]
    assert missing
    assert max(missing) * 0.1 - 1e-6 <= ids.forgets_until_s - KEEP_S <= clock()
    assert "s999" in ids


def test_where_the_time_of_all_is_over_none_is_kept() -> None:
    clock = Clock(0.0)
    ids = remembered(clock)
    for n in range(8):
        ids.add(f"s{n}", 0.0)
    clock.now_s = KEEP_S
    ids.add("late", 0.0)
    assert len(ids) == 0


def test_ids_that_come_seldom_are_not_remembered_for_much_longer_either() -> None:
    clock = Clock(0.0)
    ids = remembered(clock)
    for n in range(20):  # more than are kept as they are, and half of those take longer than a run may
        clock.now_s = n * KEEP_S / RUNS
        ids.add(f"s{n}", clock())
    for n in range(20):
        gone_s = n * KEEP_S / RUNS + KEEP_S
        if gone_s > clock():
            clock.now_s = gone_s - 0.001
            assert f"s{n}" in ids
        clock.now_s = max(clock(), gone_s + SLACK_S)
        assert f"s{n}" not in ids
