"""A plugin: a run ends with the reasons of all skipped tests, one line each, and what to install."""

from __future__ import annotations

from collections import Counter

import pytest


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test was skipped, as its mark or ``pytest.skip`` says."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = Counter(reason(report) for report in terminalreporter.stats.get("skipped", ()))
    if reasons:
        terminalreporter.section(f"skipped tests: {reasons.total()}")
        for text, count in reasons.most_common():
            terminalreporter.write_line(f"{count:4}  {text}")
