"""The limit of open files, on a stand-in for the operating system's."""

from __future__ import annotations

import pytest

from service.admission import open_files
from service.admission.open_files import RESERVED, allowed_connections, grpc_connections

resource = pytest.importorskip("resource")
UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "raised_to", "allowed"),
    [
        (1_024, 1_048_576, 8_192 + RESERVED, 8_192),
        (1_024, 4_096, 4_096, 4_096 - RESERVED),
        (1_024, UNLIMITED, 8_192 + RESERVED, 8_192),
        (65_536, 65_536, 65_536, 8_192),
        (UNLIMITED, UNLIMITED, UNLIMITED, 8_192),
        (64, 64, 64, 1),
    ],
)
def test_the_limit_is_raised_as_far_as_it_goes(
    soft: int,
    hard: int,
    raised_to: int,
    allowed: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both))
    assert allowed_connections(8_192) == allowed
    assert limits[-1] == (raised_to, hard)
    assert (f"{allowed} connections at most, not 8192" in caplog.text) is (allowed < 8_192)


@pytest.mark.parametrize(("hard", "raised_to", "http"), [(UNLIMITED, 10_240 + RESERVED, 8_192), (1_024, 1_024, 614)])
def test_files_are_kept_for_grpc(hard: int, raised_to: int, http: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1_024, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both))
    assert allowed_connections(8_192, has_grpc=True) == http
    assert limits[-1] == (raised_to, hard)
    assert http + grpc_connections(http) + RESERVED <= raised_to


def test_windows_has_no_such_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "resource", None)
    assert allowed_connections(8_192) == 8_192


@pytest.mark.parametrize("error", [ValueError, OSError, PermissionError])
def test_a_limit_that_cannot_be_raised_stays(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise error("not allowed")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, UNLIMITED))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert allowed_connections(8_192) == 1_024 - RESERVED
