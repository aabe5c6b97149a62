"""``hetsyn keys``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.commands.keys import keys
from service.errors import HetsynError, KeysUnusable
from service.keys.keys import Keys


def run(path: Path, *arguments: str) -> str:
    done = CliRunner().invoke(keys, [*arguments, "--file", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_from_its_beginning_to_its_end(path: Path) -> None:
    first = run(path, "add", "alice", "--scope", "infer", "--scope", "metrics", "--max-sessions", "7")
    caller = Keys(path).caller(first)
    assert (caller.key, sorted(caller.scopes)) == ("alice", ["infer", "metrics"])
    assert Keys(path).limits("alice").max_sessions == 7
    second = run(path, "rotate", "alice")
    assert Keys(path).caller(first).key == Keys(path).caller(second).key == "alice"
    third = run(path, "rotate", "alice", "--overlap-h", "0")
    for gone in (first, second):
        with pytest.raises(HetsynError, match="does not know the key"):
            Keys(path).caller(gone)
    assert Keys(path).caller(third).key == "alice"
    shown = run(path, "list") + run(path, "list", "--json")
    assert "max_sessions 7" in shown
    for secret in (first, second, third):
        assert secret[21:] not in shown + path.read_text()
    (listed,) = json.loads(run(path, "list", "--json"))
    assert set(listed["secrets"][0]) == {"id", "created_at", "expires_at"}
    assert "opens nothing any more" in run(path, "revoke", "alice")
    assert len(Keys(path)) == 0
    assert "revoked" in run(path, "list")
    with pytest.raises(HetsynError, match="has a key 'alice': choose another name"):
        run(path, "add", "alice")
    again = run(path, "rotate", "alice")
    assert Keys(path).caller(again).key == "alice"
    run(path, "add", "bob", "--expires-days", "1")
    assert "expires" in run(path, "list")


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--tenant", "acme", "leave --tenant out: it has no effect any more; put it into the key's name"),
        ("--max-session-bytes", "9", "leave --max-session-bytes out: it has no effect any more; take --max-sessions"),
        ("--max-streams", "9", "leave --max-streams out: it has no effect any more; take --max-sessions"),
        ("--bytes-per-s", "9", "leave --bytes-per-s out: it has no effect any more; take --requests-per-s"),
        ("--scope", "state", "'state' is part of 'infer': take that"),
        ("--scope", "admin", "'admin' opens nothing any more: leave it out, and change the folder of models"),
        ("--scope", "root", "'root' is no scope: take one of infer, metrics"),
    ],
)
def test_what_is_gone_says_what_to_take(path: Path, option: str, value: str, sentence: str) -> None:
    done = CliRunner().invoke(keys, ["add", "alice", option, value, "--file", str(path)], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert sentence in done.output
    assert not path.exists()


@pytest.mark.parametrize("name", ["Alice", "a/b", "-a", "a" * 64, "a.b", "10.0.0.1"])
def test_names(path: Path, name: str) -> None:
    with pytest.raises(HetsynError, match="is no name: take up to 63"):
        CliRunner().invoke(keys, ["add", "--file", str(path), "--", name], catch_exceptions=False)
    assert not path.exists()


@pytest.mark.parametrize("command", ["rotate", "revoke"])
def test_there_has_to_be_such_a_key(path: Path, command: str) -> None:
    run(path, "add", "alice")
    with pytest.raises(HetsynError, match="has no key 'bob': hetsyn keys list shows"):
        run(path, command, "bob")


def test_a_damaged_file_is_not_overwritten(path: Path) -> None:
    path.write_text("{")
    for arguments in (["add", "alice"], ["list"], ["rotate", "alice"], ["revoke", "alice"]):
        with pytest.raises(KeysUnusable):
            run(path, *arguments)
    assert path.read_text() == "{"
