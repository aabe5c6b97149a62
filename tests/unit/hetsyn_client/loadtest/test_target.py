from __future__ import annotations

import pytest

from hetsyn_client.errors import InputError
from hetsyn_client.loadtest.target import Address, ChunkOutcome, HetsynTarget, PlainTarget, Response


def test_an_address_is_read_from_a_url() -> None:
    assert Address.parse("http://localhost:8000/") == Address("localhost", 8000)
    assert Address.parse("https://example.org/speech") == Address("example.org", 443, is_tls=True, path="/speech")
    assert Address.parse("http://[::1]:9000").authority == "[::1]:9000"
    assert Address.parse("https://example.org/speech").url == "https://example.org:443/speech"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://x:99999", "http://x/?a=1", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="http://HOST:PORT"):
        Address.parse(url)


def target() -> HetsynTarget:
    return HetsynTarget(Address("h", 1, path="/p"), "audio/L16;rate=8000", "speech digits", "1", "bank")


def test_the_model_goes_with_a_sessions_first_chunk() -> None:
    first = target().request("s", 0, b"abc", is_last=False)
    line, *headers = first.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert line == "POST /p/infer?session=s&seq=0&model=speech+digits&version=1&form=bank HTTP/1.1"
    assert sorted(headers) == ["Content-Length: 3", "Content-Type: audio/L16;rate=8000", "Host: h:1"]
    assert first.endswith(b"\r\n\r\nabc")
    last = target().request("s", 7, b"", is_last=True)
    assert last.startswith(b"POST /p/infer?session=s&seq=7&end=true HTTP/1.1\r\n")


def test_headers_go_with_every_request_and_may_name_the_host() -> None:
    address = Address.parse("http://h:1", {"X-Tenant": "7", "host": "inner"}, key="secret")
    assert address.fields == "X-Tenant: 7\r\nhost: inner\r\nAuthorization: Bearer secret\r\n"
    assert "secret" not in repr(address)


def test_a_session_is_dropped_by_its_id() -> None:
    assert target().drop("s") == b"DELETE /p/sessions/s HTTP/1.1\r\nHost: h:1\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "retry_after_s", "outcome"),
    [
        (200, None, ChunkOutcome.APPLIED),
        (503, 1.0, ChunkOutcome.REFUSED),
        (503, None, ChunkOutcome.FAILED),
        (429, 1.0, ChunkOutcome.REFUSED),
        (409, None, ChunkOutcome.FAILED),
        (500, 1.0, ChunkOutcome.FAILED),
    ],
)
def test_a_full_server_refuses_and_others_fail(status: int, retry_after_s: float | None, outcome: ChunkOutcome) -> None:
    assert target().judge(Response(status, b"", retry_after_s)) is outcome


def test_a_plain_target_takes_any_success() -> None:
    plain = PlainTarget(Address("h", 1), "/echo", "text/plain")
    assert plain.request("s", 4, b"x", is_last=True).startswith(b"POST /echo HTTP/1.1\r\n")
    outcomes = [plain.judge(Response(status, b"", None)) for status in (204, 429, 404)]
    assert outcomes == [ChunkOutcome.APPLIED, ChunkOutcome.REFUSED, ChunkOutcome.FAILED]
    assert plain.drop("s") is None
