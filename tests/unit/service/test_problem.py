from __future__ import annotations

import inspect
import logging

import pytest

from service import errors, problem
from service.observe.line_limit import LineLimit
from service.problem import Problem

# of the tree alone, and one that ends the server before there are clients
NO_PROBLEMS = {
    *(errors.HetsynError, errors.SessionError, errors.StateError, errors.StoreError, errors.TokenError),
    errors.CannotListen,
}


def test_every_error_is_a_problem_of_its_own() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.HetsynError)]
    assert set(errors.KINDS) == set(kinds) - NO_PROBLEMS
    assert len({kind.code for kind in errors.KINDS}) == len({kind.title for kind in errors.KINDS}) == len(errors.KINDS)


def test_an_error_is_the_same_problem_in_every_interface() -> None:
    found = Problem.of(errors.OutOfOrder("send seq 5 next", 5))
    assert found.members() == {
        "type": "urn:hetsyn:problem:out-of-order",
        "title": "Another chunk is expected",
        "status": 409,
        "detail": "send seq 5 next",
        "error": "send seq 5 next",
        "expected_seq": 5,
    }
    assert found.headers() == {}
    assert found.frame() == {"type": "Error", "status": 409, **found.row()}
    assert found.row() == {
        "problem": "out-of-order",
        "detail": "send seq 5 next",
        "retryable": False,
        "retry_after_s": None,
        "expected_seq": 5,
    }
    assert (found.grpc, found.close_code) == ("FAILED_PRECONDITION", 4409)


@pytest.mark.parametrize(
    ("error", "headers", "close_code", "grpc"),
    [
        (errors.Overloaded("later", 1.5), {"Retry-After": "2"}, 1013, "UNAVAILABLE"),
        (errors.ShuttingDown("elsewhere"), {"Retry-After": "1"}, 1012, "UNAVAILABLE"),
        (errors.KeyLimitReached("slower"), {"Retry-After": "1"}, 4429, "RESOURCE_EXHAUSTED"),
        (errors.StoreUnavailable("later"), {"Retry-After": "1"}, 1013, "UNAVAILABLE"),
        (errors.StoreFull("later"), {"Retry-After": "1"}, 1013, "UNAVAILABLE"),
        (errors.KeyRefused("a key"), {"WWW-Authenticate": 'Bearer realm="hetsyn"'}, 4401, "UNAUTHENTICATED"),
        (errors.TooSlow("faster"), {"Connection": "close"}, 4408, "DEADLINE_EXCEEDED"),
        (errors.TooLarge("less"), {}, 4413, "INVALID_ARGUMENT"),
        (errors.BadFrame("bytes", 1007), {}, 1007, "UNKNOWN"),
        (errors.ArtifactError("export again"), {}, 1011, "INTERNAL"),
    ],
)
def test_how_a_client_hears_of_an_error(
    error: errors.HetsynError, headers: dict[str, str], close_code: int, grpc: str
) -> None:
    found = Problem.of(error)
    assert (found.headers(), found.close_code, found.grpc) == (headers, close_code, grpc)


def test_a_defect_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        found = Problem.of(ValueError("a secret of the server"), "POST /infer")
    assert (found.status, found.code, found.grpc) == (500, "internal", "INTERNAL")
    assert "secret" not in found.detail
    (record,) = caplog.records
    assert "POST /infer" in record.getMessage()
    assert record.exc_info is not None


def refused(error: Exception, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.INFO, "hetsyn.problem"):
        Problem.of(error)
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


def test_a_refusal_is_a_line_of_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(problem, "limit", LineLimit(problem.MOST_LINES, lambda: now_s))
    line = "refused, 409 out-of-order: send seq 5 next"
    for _ in range(problem.MOST_LINES):
        assert refused(errors.OutOfOrder("send seq 5 next", 5), caplog) == [line]
    for _ in range(3):
        assert refused(errors.OutOfOrder("send seq 5 next", 5), caplog) == []
    now_s = 1.0
    more = "3 more requests were refused that have no line of their own"
    assert refused(errors.OutOfOrder("send seq 5 next", 5), caplog) == [more, line]
    # a client can break no line
    (line,) = refused(errors.NotFound("nothing at /a\nERROR: \x1b[2J"), caplog)
    assert line == "refused, 404 not-found: nothing at /a\\nERROR: \\x1b[2J"


def test_a_problem_repeats_no_long_part_of_a_request() -> None:
    long, short = (f"no session {'a' * length!r}: it has not begun" for length in (50_000, 900))
    detail = Problem.of(errors.NotFound(long)).detail
    assert len(detail) < 1100
    assert detail.startswith("no session 'aaa")
    assert detail.endswith("aaa': it has not begun")
    assert Problem.of(errors.NotFound(short)).detail == short
