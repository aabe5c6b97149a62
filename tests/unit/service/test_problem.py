from __future__ import annotations

import inspect
import logging

import pytest

from service import errors
from service.problem import Problem

BRANCHES = (errors.HetsynError, errors.SessionError, errors.StateError, errors.StoreError, errors.TokenError)


def test_every_error_is_a_problem_of_its_own() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.HetsynError)]
    assert set(errors.KINDS) == {kind for kind in kinds if kind not in BRANCHES}
    assert len({kind.slug for kind in errors.KINDS}) == len({kind.title for kind in errors.KINDS}) == len(errors.KINDS)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        assert name in (errors.__doc__ or "") or not issubclass(kind, errors.HetsynError)


def test_an_error_is_the_same_problem_in_every_interface() -> None:
    problem = Problem.of(errors.OutOfOrder("send seq 5 next", 5))
    assert problem.members() == {
        "type": "urn:hetsyn:problem:out-of-order",
        "title": "Another chunk is expected",
        "status": 409,
        "detail": "send seq 5 next",
        "error": "send seq 5 next",
        "expected_seq": 5,
    }
    assert problem.headers() == {}
    assert problem.frame() == {"type": "Error", "status": 409, **problem.row()}
    assert problem.row() == {
        "problem": "out-of-order",
        "detail": "send seq 5 next",
        "retryable": False,
        "retry_after_s": None,
        "expected_seq": 5,
    }
    assert (problem.grpc, problem.close_code) == ("FAILED_PRECONDITION", 4409)


@pytest.mark.parametrize(
    ("error", "headers", "close_code", "grpc"),
    [
        (errors.Overloaded("later", 1.5), {"Retry-After": "2"}, 1013, "UNAVAILABLE"),
        (errors.ShuttingDown("elsewhere"), {"Retry-After": "1"}, 1012, "UNAVAILABLE"),
        (errors.KeyLimitReached("slower"), {"Retry-After": "1"}, 4429, "RESOURCE_EXHAUSTED"),
        # clients of gRPC send again by themselves after UNAVAILABLE: then nothing may have been applied
        (errors.StoreUnavailable("later"), {"Retry-After": "1"}, 1013, "UNKNOWN"),
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
    problem = Problem.of(error)
    assert (problem.headers(), problem.close_code, problem.grpc) == (headers, close_code, grpc)


def test_a_defect_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        problem = Problem.of(ValueError("a secret of the server"), "POST /infer")
    assert (problem.status, problem.slug, problem.grpc) == (500, "internal", "INTERNAL")
    assert "secret" not in problem.detail
    (record,) = caplog.records
    assert "POST /infer" in record.getMessage()
    assert record.exc_info is not None


def test_a_problem_repeats_no_long_part_of_a_request() -> None:
    long, short = (f"no session {'a' * length!r}: it has not begun" for length in (50_000, 900))
    detail = Problem.of(errors.NotFound(long)).detail
    assert len(detail) < 1100
    assert detail.startswith("no session 'aaa")
    assert detail.endswith("aaa': it has not begun")
    assert Problem.of(errors.NotFound(short)).detail == short
