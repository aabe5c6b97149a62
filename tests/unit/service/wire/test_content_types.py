"""Content types as clients and proxies write them."""

from __future__ import annotations

import pytest

from service.errors import InputError, UnsupportedInput
from service.wire.content_types import LONGEST_TYPE, parse_content_type


@pytest.mark.parametrize(
    ("header", "media_type", "parameters"),
    [
        ("", "", {}),
        ("Application/JSON", "application/json", {}),
        ("audio/L16; Rate=8000 ;channels=1;", "audio/l16", {"rate": "8000", "channels": "1"}),
        ('audio/l16;rate="8000"', "audio/l16", {"rate": "8000"}),
        # RFC 2231 gives these a meaning in mail, HTTP does not
        ("application/json;charset*=utf-8''x", "application/json", {"charset*": "utf-8''x"}),
        ("audio/l16;rate*0=80;rate*1=00", "audio/l16", {"rate*0": "80", "rate*1": "00"}),
        ("audio/l16;rate=<8000>", "audio/l16", {"rate": "<8000>"}),
    ],
)
def test_media_type_and_parameters(header: str, media_type: str, parameters: dict[str, str]) -> None:
    assert parse_content_type(header) == (media_type, parameters)


def test_a_parameter_occurs_once() -> None:
    with pytest.raises(InputError, match="'rate' occurs twice: send it once"):
        parse_content_type("audio/l16;rate=8000;Rate=16000")


def test_long_headers_are_refused_and_not_kept() -> None:
    parse_content_type.cache_clear()
    for n in range(10):
        with pytest.raises(UnsupportedInput, match="is not accepted: send one of application/json"):
            parse_content_type(f"audio/wav;a={n:03d}".ljust(LONGEST_TYPE + 1, "x"))
    assert parse_content_type.cache_info().currsize == 0
    assert parse_content_type("audio/wav") is parse_content_type("audio/wav")
