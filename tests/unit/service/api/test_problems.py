from __future__ import annotations

import inspect
import json

from service import errors
from service.api.problems import PROBLEMS, from_error

BRANCHES = (errors.HetsynError, errors.SessionError, errors.StateError, errors.StoreError, errors.TokenError)


def test_every_error_has_its_status_and_title() -> None:
    leaves = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.HetsynError) and kind not in BRANCHES
    }
    assert set(PROBLEMS) == leaves


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        assert name in (errors.__doc__ or "") or not issubclass(kind, errors.HetsynError)


def test_a_problem_repeats_no_long_part_of_a_request() -> None:
    long, short = (f"no session {'a' * length!r}: it has not begun" for length in (50_000, 900))
    detail = json.loads(bytes(from_error(errors.NotFound(long)).body))["detail"]
    assert len(detail) < 1100
    assert detail.startswith("no session 'aaa")
    assert detail.endswith("aaa': it has not begun")
    assert json.loads(bytes(from_error(errors.NotFound(short)).body))["detail"] == short
