"""A test that is skipped for want of a tool fails where CI has installed it."""

from __future__ import annotations

import pytest

from tests.support.required_tools import TOOLS_INSTALLED
from tests.support.tools import NO_COMPILER, NO_OPERATOR, NO_VALKEY, NO_ZIG

pytest_plugins = ["pytester"]

TESTS = f"""
import pytest

@pytest.mark.skipif(True, reason={NO_OPERATOR!r})
def test_operator(): pass

def test_compiler(): pytest.skip({NO_COMPILER!r})

@pytest.fixture
def server(): pytest.skip({NO_VALKEY!r})

def test_fixture(server): pass

def test_data(): pytest.skip("the data set is not beside this checkout")
"""
MODULE = f"import pytest; pytest.skip({NO_ZIG!r}, allow_module_level=True)"


@pytest.mark.parametrize(
    ("installed", "outcomes"), [("", {"skipped": 5}), ("1", {"failed": 1, "errors": 3, "skipped": 1})]
)
def test_what_ci_has_installed_is_not_skipped(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, installed: str, outcomes: dict[str, int]
) -> None:
    monkeypatch.setenv(TOOLS_INSTALLED, installed)
    pytester.makepyfile(test_them=TESTS, test_module=MODULE)
    ran = pytester.runpytest_inprocess("-p", "tests.support.required_tools", "--continue-on-collection-errors")
    ran.assert_outcomes(**outcomes)
