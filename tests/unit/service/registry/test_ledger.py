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
    add_key(path, "carol")
    return KeyLedger(Keys(path), 60.0, clock)


def used(ledger: KeyLedger, session: str) -> None:
    ledger.check(session)
    ledger.note(session)


def test_sessions_are_counted_until_they_end_or_idle(ledger: KeyLedger, clock: Clock) -> None:
    used(ledger, "alice/a")
    clock.now_s += 30
    used(ledger, "alice/b")
    used(ledger, "alice/a")
    with pytest.raises(KeyLimitReached, match="2 sessions of key 'alice' are open: end some, or try again in 60 s"):
        ledger.check("alice/c")
    for session in range(9):
        used(ledger, f"carol/{session}")
    ledger.forget("alice/b")
    used(ledger, "alice/c")
    clock.now_s += 61
    used(ledger, "alice/d")
    used(ledger, "alice/e")
