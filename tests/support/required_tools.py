"""A plugin: a test that is skipped for want of what CI has installed fails there."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from benchmarks.valkey import MISSING
from service.runtime.operators import BUILD

# where CI has installed what these tests need, it says so, and then they may not be skipped
TOOLS_INSTALLED = "HETSYN_TOOLS_INSTALLED"
WITHOUT_TOOLS = (MISSING, BUILD, "no C++ compiler")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get(TOOLS_INSTALLED) and any(why in str(report.longrepr) for why in WITHOUT_TOOLS):
        report.outcome = "failed"
        report.longrepr = f"{TOOLS_INSTALLED} is set, and yet: {report.longrepr}"
    return report
