from __future__ import annotations

import json
import stat
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import KeysUnusable
from service.keys.caller import Scope
from service.keys.credential import Token
from service.keys.document import (
    KeyEntry,
    KeyLimits,
    KeysDocument,
    SecretEntry,
    changing,
    parse_document,
    read_document,
    utc_now,
    write_document,
)

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
LIMITS = st.builds(
    KeyLimits,
    max_sessions=st.none() | st.integers(1, 2**53),
    requests_per_s=st.none() | st.floats(0.001, 1e12),
)


def entry(name: str = "alice", *tokens: Token, **more: object) -> KeyEntry:
    secrets = tuple(SecretEntry.of(token, utc_now()) for token in tokens)
    return KeyEntry(name=name, scopes=(Scope.infer,), secrets=secrets).model_copy(update=more)


@given(
    st.lists(
        st.tuples(NAMES, st.sets(st.sampled_from(Scope), min_size=1), LIMITS, st.integers(0, 3), st.booleans()),
        max_size=5,
        unique_by=lambda row: row[0],
    )
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]) -> None:  # type: ignore[type-arg]
    document = KeysDocument()
    for name, scopes, limits, count, ends in rows:
        secrets = tuple(SecretEntry.of(Token.new(), utc_now()) for _ in range(count))
        at = utc_now() + timedelta(days=1) if ends else None
        document = document.replaced(
            KeyEntry(name=name, scopes=tuple(scopes), limits=limits, secrets=secrets, expires_at=at)
        )
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    write_document(path, document)
    assert read_document(path) == document


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_anything_else_is_one_sentence(content: bytes) -> None:
    with pytest.raises(KeysUnusable, match=r"^keys\.json: no keys file \(.+\): write it with hetsyn keys$"):
        parse_document(content, "keys.json")


@given(st.data())
def test_a_damaged_file_never_shows_what_is_in_it(data: st.DataObject) -> None:
    whole = json.loads(KeysDocument(keys=(entry("alice", Token.new()),)).to_json())
    secret = whole["keys"][0]["secrets"][0]
    field = data.draw(st.sampled_from(["salt", "hash", "id"]))
    value = secret[field]
    secret[field] = data.draw(st.sampled_from([value[:-1], value + "0", value.upper() + "G", [value], {value: 1}]))
    with pytest.raises(KeysUnusable) as caught:
        parse_document(json.dumps(whole).encode(), "keys.json")
    assert value[:-1] not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "Alice"}, "keys.0.name"),
        ({"name": "a/b"}, "keys.0.name"),
        ({"name": "10.0.0.1"}, "keys.0.name"),
        ({"name": ""}, "keys.0.name"),
        ({"scopes": "infer"}, "keys.0.scopes"),
        ({"limits": [7]}, "keys.0.limits"),
        ({"scopes": ["root"]}, "keys.0.scopes.0"),
        ({"limits": {"max_sessions": 0}}, "keys.0.limits.max_sessions"),
        ({"limits": {"sessions": 1}}, "keys.0.limits.sessions"),
        ({"secret": "x"}, "keys.0.secret"),
        ({"expires_at": "2026-01-01T00:00:00"}, "keys.0.expires_at"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], sentence: str) -> None:
    whole = json.loads(KeysDocument(keys=(entry("alice", Token.new()),)).to_json())
    whole["keys"][0] |= change
    with pytest.raises(KeysUnusable, match=sentence):
        parse_document(json.dumps(whole).encode(), "keys.json")


def test_a_file_of_before_loads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = json.loads(KeysDocument(keys=(entry("alice", Token.new()),)).to_json())
    before = {
        "tenant": "acme",
        "limits": {"max_sessions": 7, "max_session_bytes": 1, "max_streams": 1, "requests_per_s": 2, "bytes_per_s": 1},
    }
    for scopes, now in (
        (["infer", "state"], ("infer",)),
        (["state", "admin", "metrics"], ("infer", "metrics")),
        (["admin"], ()),
    ):
        whole["keys"][0] |= before | {"scopes": scopes}
        document = parse_document(json.dumps(whole).encode(), "keys.json")
        assert document.keys[0].scopes == now
        assert document.keys[0].limits == KeyLimits(max_sessions=7, requests_per_s=2)
        write_document(tmp_path / "keys.json", document)
        assert read_document(tmp_path / "keys.json") == document
    for limit, instead in (
        ("max_session_bytes", "max_sessions"),
        ("max_streams", "max_sessions"),
        ("bytes_per_s", "requests_per_s"),
    ):
        assert f"key 'alice': {limit} limits nothing any more: set {instead}" in caplog.messages


def test_names_and_ids_occur_once() -> None:
    token = Token.new()
    for keys, what in ((("a", "a"), "name a"), (("a", "b"), f"secret id {token.id}")):
        whole = {"format": 1, "keys": [json.loads(entry(name, token).model_dump_json()) for name in keys]}
        with pytest.raises(KeysUnusable, match=f"the {what} occurs twice"):
            parse_document(json.dumps(whole).encode(), "keys.json")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_the_file_is_its_owners_and_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_document(path, KeysDocument())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    write_document(path, KeysDocument())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]
    path.chmod(0o666)
    with pytest.raises(KeysUnusable, match="chmod go-w"):
        read_document(path)


def test_a_file_that_cannot_be_written_stays(tmp_path: Path) -> None:
    folder = tmp_path / "keys.json"
    folder.mkdir()
    with pytest.raises(KeysUnusable, match="cannot be written"):
        write_document(folder, KeysDocument())
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(KeysUnusable, match="name a file in a folder that there is"), changing(tmp_path / "no" / "k"):
        pass
    with pytest.raises(KeysUnusable, match="hetsyn keys add"):
        read_document(tmp_path / "none")


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "keys.json", tmp_path / "link.json"
    write_document(target, KeysDocument())
    link.symlink_to(target)
    with changing(link) as document:
        write_document(link, document.replaced(entry("alice")))
    assert link.is_symlink()
    assert read_document(link).find("alice") is not None
