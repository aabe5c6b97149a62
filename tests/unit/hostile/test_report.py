"""What a run comes to: JSON, the table on the terminal, and the one in Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.long.hostile.case import FIRST_COMMIT, Case, Measured, Verdict, at_most
from tests.long.hostile.report import print_results, summary, write_markdown

HELD = Measured(Verdict.held, {"peak_mib": 3.14159}, 1.26)
BROKEN = Measured(Verdict.broken, {"peak_mib": 3_441.5, "status": "422"}, 18.0, "peak_mib is 3441.5, not <= 256")
SKIPPED = Measured(Verdict.skipped, {}, 0.0, "no haproxy")
CASES = [
    Case(name, f"{name} breaks.", lambda stage: {}, {"peak_mib": at_most(256)}, {"peak_mib": 3_740})  # noqa: ARG005
    for name in ("json", "proxy")
]


def test_a_run_passes_if_no_case_of_this_checkout_is_broken() -> None:
    measured = {"after": {"json": HELD, "proxy": SKIPPED}, "before": {"json": BROKEN, "proxy": SKIPPED}}
    results = json.loads(json.dumps(summary(CASES, {"after": "b", "before": "a"}, measured)))
    assert (results["passed"], results["broken"]) == (True, [])
    assert results["commits"] == {"first": FIRST_COMMIT, "after": "b", "before": "a"}
    assert results["cases"][0]["before"]["figures"] == {"peak_mib": 3441.5, "status": "422"}
    assert results["cases"][0]["bounds"] == {"peak_mib": "<= 256"}
    results = summary(CASES, {"after": "b"}, {"after": {"json": HELD, "proxy": BROKEN}})
    assert (results["passed"], results["broken"]) == (False, ["proxy"])
    assert "before" not in results["cases"][0]


def test_an_earlier_run_gives_the_column_before() -> None:
    earlier = summary(CASES[:1], {"after": "b", "before": "a"}, {"after": {"json": HELD}, "before": {"json": BROKEN}})
    results = summary(CASES, {"after": "c"}, {"after": {"json": HELD, "proxy": HELD}}, earlier)
    assert results["commits"]["before"] == "a"
    assert results["cases"][0]["before"] == earlier["cases"][0]["before"]
    assert "before" not in results["cases"][1]


def test_it_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = {"after": {"json": HELD, "proxy": SKIPPED}, "before": {"json": BROKEN, "proxy": SKIPPED}}
    results = summary(CASES, {"after": "b", "before": "a"}, measured)
    print_results(results)
    printed = capsys.readouterr().out
    assert "json, before: BROKEN: peak_mib is 3441.5, not <= 256" in printed
    assert "1 held, 0 BROKEN, 1 skipped" in printed
    assert printed.endswith("passed\n")
    write_markdown(results, tmp_path / "table.md")
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == f"| case | figure | bound | first {FIRST_COMMIT} | before a | after b | verdict |"
    assert lines[2] == "| json | peak_mib | <= 256 | 3,740 | 3,442 | 3.142 | BROKEN → held |"
    assert len({line.count("|") for line in lines[: lines.index("")]}) == 1
    assert lines[-1] == "- `proxy`: proxy breaks."
