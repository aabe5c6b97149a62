"""A plugin: a test that is skipped for want of what CI has installed fails there."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

from tests.support.tools import LACKING

# where CI has installed what these tests need, it says so, and then they may not be skipped
TOOLS_INSTALLED = "HETSYN_TOOLS_INSTALLED"
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    return _judged((yield))


def _judged(report: Report) -> Report:
    if report.skipped and os.environ.get(TOOLS_INSTALLED) and any(why in str(report.longrepr) for why in LACKING):
        report.outcome = "failed"
        report.longrepr = f"{TOOLS_INSTALLED} is set, and yet: {report.longrepr}"
    return report
