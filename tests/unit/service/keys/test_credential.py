from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.keys.credential import HASH_BYTES, Token, hashed, of_bearer, redacted


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
    assert token.text.upper() not in redacted(f"GET /{token.text.upper()} 7")
    assert redacted("nothing") == "nothing"


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("encodes", ["h", "hsk_", "0123456789abcdef", "hsk_0123456789abcdefABC-"])
def test_a_log_has_no_secret_in_the_encoding_of_a_url(encodes: str, times: int) -> None:
    token = Token("0123456789abcdef", "A" * 40 + "B-_")
    text = "".join(f"%{'25' * (times - 1)}{ord(char):02X}" if char in encodes else char for char in token.text)
    for sent in (text, text.lower().replace(token.secret.lower(), token.secret), text.replace("h", "H", 1)):
        shown = redacted(f'"GET /models?key={sent} HTTP/1.1" 401')
        assert shown.startswith('"GET /models?key=hsk_')
        assert shown.endswith('_... HTTP/1.1" 401')
        assert "A" * 8 not in shown
        assert "%" + "25" * (times - 1) + "41" not in shown
    assert redacted("GET /a%20b%68?c=%2568 200") == "GET /a%20b%68?c=%2568 200"
