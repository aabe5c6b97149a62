from __future__ import annotations

import errno
import hmac
import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest

from service.errors import KeyLacksScope, KeyLimitReached, KeyRefused, KeysUnusable
from service.keys.caller import ANYBODY, Caller, Scope
from service.keys.document import changing, read_document, utc_now, write_document
from service.keys.keys import Keys
from tests.support.clock import Clock
from tests.support.servers.keyed import add_key

UNKNOWN = "hsk_0123456789abcdef_" + "a" * 43


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_its_callers(path: Path) -> None:
    alice, bob = add_key(path, "alice"), add_key(path, "bob", [Scope.metrics])
    keys = Keys(path)
    assert len(keys) == 2
    assert (keys.caller(alice).key, keys.caller(bob).scopes) == ("alice", frozenset({Scope.metrics}))
    assert keys.caller(alice).session("s") == "alice/s"
    keys.caller(alice).check(Scope.infer)
    with pytest.raises(KeyLacksScope, match="key 'bob' lacks the scope 'infer'"):
        keys.caller(bob).check(Scope.infer)
    assert ANYBODY.session("s") == "s"


@pytest.mark.parametrize("wrong", ["", "x", UNKNOWN, "Bearer x"])
def test_nothing_else_is(path: Path, wrong: str) -> None:
    alice = add_key(path, "alice")
    keys = Keys(path)
    for credential in (wrong, alice[:-1], alice + "a", alice[:21] + "a" * 43, alice.upper()):
        with pytest.raises(KeyRefused) as caught:
            keys.caller(credential)
        assert credential == "" or credential not in str(caught.value)
    with pytest.raises(KeyRefused, match="Authorization: Bearer KEY"):
        keys.caller(None)


def test_a_request_beyond_the_limit_says_when(path: Path) -> None:
    add_key(path, "alice", requests_per_s=2)
    clock = Clock(0.0)
    keys = Keys(path, clock)
    alice = Caller("alice")
    for _ in range(2):
        keys.request(alice)
        clock.now_s += 0.01  # makes no third of a second's two
    with pytest.raises(KeyLimitReached, match="key 'alice' may send 2 requests a second: try again in 1 s"):
        keys.request(alice)
    clock.now_s += 1
    keys.took(alice, 20)
    with pytest.raises(KeyLimitReached, match="try again in 10 s") as caught:
        keys.request(alice)
    clock.now_s += caught.value.retry_after_s
    keys.request(alice)


def test_an_unknown_id_costs_what_a_known_one_costs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = add_key(path, "alice")
    keys = Keys(path)
    compared: list[tuple[int, int]] = []
    original = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return original(one, other)

    monkeypatch.setattr("service.keys.keys.hmac.compare_digest", compare)
    keys.caller(alice)
    for wrong in (UNKNOWN, alice[:21] + "a" * 43):
        with pytest.raises(KeyRefused, match="does not know the key, or it was revoked"):
            keys.caller(wrong)
    assert compared == [(32, 32)] * 3


def test_keys_and_secrets_expire(path: Path) -> None:
    alice = add_key(path, "alice")
    wall = Clock(utc_now().timestamp())
    with changing(path) as document:
        key = document.keys[0]
        write_document(path, document.replaced(key.model_copy(update={"expires_at": utc_now() + timedelta(hours=1)})))
    keys = Keys(path, wall=wall)
    caller = keys.caller(alice)
    wall.now_s += 3599
    keys.check(caller)
    wall.now_s += 2
    with pytest.raises(KeyRefused, match="the key 'alice' has expired"):
        keys.caller(alice)
    with pytest.raises(KeyRefused, match="has expired: open the stream again"):
        keys.check(caller)


async def test_another_file_counts_at_once_and_a_damaged_one_does_not(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alice = add_key(path, "alice")
    keys = Keys(path)
    caller = keys.caller(alice)
    changes: list[int] = []
    keys.on_change = lambda: changes.append(len(keys))
    keys.refresh()
    assert changes == []
    bob = add_key(path, "bob")
    keys.refresh()
    assert changes == [2]
    assert keys.caller(bob).key == "bob"
    keys.check(caller)
    good = path.read_bytes()
    for damage in (b"", b"{", good[:-20], good.replace(b"alice", b"Alice")):
        path.write_bytes(damage)
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            keys.refresh()
            keys.refresh()
        assert keys.caller(alice) == caller
        assert len(caplog.records) == 1
        assert "the keys file cannot be read again" in caplog.text
    path.unlink()
    keys.refresh()
    assert keys.caller(alice) == caller
    with pytest.raises(KeysUnusable):
        Keys(path)
    path.write_bytes(good)
    add_key(path, "alice")  # in place of the old secret
    keys.refresh()
    with pytest.raises(KeyRefused):
        keys.caller(alice)
    with pytest.raises(KeyRefused, match="was changed or revoked"):
        keys.check(caller)


async def test_a_file_with_the_wrong_rights_counts_when_it_has_the_right_ones(path: Path) -> None:
    alice = add_key(path, "alice")
    keys = Keys(path)
    add_key(path, "alice")  # in place of the old secret
    path.chmod(0o664)
    keys.refresh()
    assert keys.caller(alice).key == "alice"
    path.chmod(0o644)  # as the log says
    keys.refresh()
    with pytest.raises(KeyRefused):
        keys.caller(alice)


async def test_a_file_that_cannot_be_opened_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alice = add_key(path, "alice")
    keys = Keys(path)
    add_key(path, "alice")  # in place of the old secret

    def without_descriptors(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(Path, "open", without_descriptors)
        for _ in range(3):
            keys.refresh()
    assert keys.caller(alice).key == "alice"
    assert len(caplog.records) == 1
    keys.refresh()
    with pytest.raises(KeyRefused):
        keys.caller(alice)


def test_nothing_shows_a_secret(path: Path) -> None:
    alice = add_key(path, "alice")
    keys = Keys(path)
    shown = f"{keys!r} {keys.caller(alice)!r} {vars(keys)!r} {read_document(path)!r}"
    assert alice[21:] not in shown
    assert isinstance(keys.caller(alice), Caller)
