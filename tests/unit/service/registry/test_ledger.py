from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import KeyLimitReached
from service.keys.keys import Keys
from service.registry.ledger import KeyLedger
from tests.support.clock import Clock
from tests.support.keyed import add_key


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> KeyLedger:
    path = tmp_path / "keys.json"
    add_key(path, "alice", max_sessions=2)
    add_key(path, "bob", max_session_bytes=100)
    add_key(path, "carol")
    return KeyLedger(Keys(path), 60.0, clock)


def used(ledger: KeyLedger, session: str, count: int) -> None:
    ledger.check(session, count)
    ledger.note(session, count)


def test_sessions_are_counted_until_they_end_or_idle(ledger: KeyLedger, clock: Clock) -> None:
    used(ledger, "alice/a", 10)
    clock.now_s += 30
    used(ledger, "alice/b", 10)
    used(ledger, "alice/a", 20)
    with pytest.raises(KeyLimitReached, match="2 sessions of key 'alice' are open: end some, or try again in 60 s"):
        ledger.check("alice/c", 1)
    used(ledger, "carol/a", 10**12)
    ledger.forget("alice/b")
    used(ledger, "alice/c", 1)
    clock.now_s += 61
    used(ledger, "alice/d", 1)
    used(ledger, "alice/e", 1)


def test_bytes_may_shrink_beyond_the_limit_but_not_grow(ledger: KeyLedger) -> None:
    used(ledger, "bob/a", 60)
    used(ledger, "bob/b", 40)
    used(ledger, "bob/a", 60)
    with pytest.raises(KeyLimitReached, match="sessions of key 'bob' take 40 bytes, and may take 100"):
        ledger.check("bob/a", 61)
    used(ledger, "bob/a", 50)
    with pytest.raises(KeyLimitReached, match="take 90 bytes"):
        ledger.check("bob/c", 11)
    used(ledger, "bob/c", 10)
