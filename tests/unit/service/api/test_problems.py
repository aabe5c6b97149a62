from __future__ import annotations

import inspect

from service import errors
from service.api.problems import PROBLEMS

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
