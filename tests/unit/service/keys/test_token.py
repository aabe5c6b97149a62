from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.keys.token import HASH_BYTES, Token, hashed, of_bearer, redacted


def test_a_token_is_parsed_and_not_shown() -> None:
    token = Token.new()
    parsed = Token.parse(token.text)
    assert parsed is not None
    assert (parsed.id, parsed.secret) == (token.id, token.secret)
    assert token.secret not in f"{token!r} {token} {[token]}"
    assert Token.new().secret != token.secret


@given(st.text(max_size=80) | st.text("hsk_0123456789abcdefABC-~ \n", max_size=80))
def test_nothing_else_is_one(text: str) -> None:
    parsed = Token.parse(text)
    assert parsed is None or parsed.text == text


@given(st.data())
def test_a_changed_token_is_none_or_another(data: st.DataObject) -> None:
    token = Token.new()
    at = data.draw(st.integers(0, len(token.text) - 1))
    character = data.draw(st.characters())
    changed = token.text[:at] + character + token.text[at + 1 :]
    parsed = Token.parse(changed)
    if changed != token.text:
        assert parsed is None or (parsed.id, parsed.secret) != (token.id, token.secret)


def test_hashes() -> None:
    token, salt = Token.new(), bytes(16)
    assert len(hashed(token.secret, salt)) == HASH_BYTES
    assert hashed(token.secret, salt) != hashed(token.secret, b"x" * 16)
    assert hashed(token.secret, salt) != hashed(Token.new().secret, salt)


@pytest.mark.parametrize(
    ("value", "credential"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc  ", "abc"),
        ("BEARER abc", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer a b", None),
        ("abc", None),
        ("", None),
    ],
)
def test_the_header(value: str, credential: str | None) -> None:
    assert of_bearer(value) == credential


@given(st.text(max_size=300))
def test_no_header_is_slow_or_fails(value: str) -> None:
    of_bearer(value)


def test_a_log_has_no_secret() -> None:
    token = Token.new()
    assert redacted(f"GET /{token.text}?a=1 {token.text} 7") == f"GET /hsk_{token.id}_... hsk_{token.id}_... 7"
    assert redacted(json.dumps(f'of "{token.text}"')) == json.dumps(f'of "hsk_{token.id}_..."')
    assert redacted("nothing") == "nothing"
