from __future__ import annotations

import base64
from pathlib import Path

import pytest

from service.carried.carry_keys import KEY_BYTES, CarryKeys, key_id, parse_keys, read_keys
from service.errors import CarryUnavailable

ONE, TWO = bytes(range(32)), bytes(range(1, 33))


def line(key: bytes) -> str:
    return base64.b64encode(key).decode()


@pytest.mark.parametrize(
    "text", [f"{line(ONE)}\n{line(TWO)}\n", f"# new\n\n {line(ONE)} # first\n{line(TWO)}", f"{line(ONE)},{line(TWO)}"]
)
def test_the_first_seals_and_all_open(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    for keys in (read_keys(tmp_path / "keys"), parse_keys(text, "here")):
        assert keys.ids == (key_id(ONE), key_id(TWO))
        assert keys.current[0] == key_id(ONE)
        assert keys.get(key_id(TWO)) is not None
        assert keys.get(bytes(8)) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "contains no key"),
        ("# nothing\n", "contains no key"),
        ("c2VjcmV0", "key 1 is not 32 bytes"),
        (f"{line(ONE)}\nnot base64!", "key 2 is not 32 bytes"),
        (line(ONE)[:-4], "key 1 is not 32 bytes"),
        (f"{line(ONE)}\n{line(ONE)}", "a key twice"),
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(text: str, sentence: str) -> None:
    with pytest.raises(CarryUnavailable, match=sentence) as caught:
        parse_keys(text, "here")
    message = str(caught.value)
    assert message.startswith("here: ")
    assert not any(written and written in message for written in text.splitlines())


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(CarryUnavailable, match="cannot be read"):
        read_keys(tmp_path / "keys")


@pytest.mark.parametrize("keys", [[], [b"short"], [ONE, ONE]])
def test_keys_that_are_none_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(CarryUnavailable, match=f"of {KEY_BYTES} bytes"):
        CarryKeys(keys)


def test_a_keys_id_is_not_part_of_it() -> None:
    assert key_id(ONE) not in ONE
    assert key_id(ONE) != key_id(TWO)
    assert "00010203" not in repr(CarryKeys([ONE]))
