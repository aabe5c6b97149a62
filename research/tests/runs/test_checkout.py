"""Results and report find the repository from anywhere, and say so where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from research.commands import experiment as command
from research.page import report
from research.runs import checkout
from research.runs.checkout import PAGE, RESULTS, CheckoutError, in_checkout
from tests.support.paths import ROOT


def test_paths_do_not_depend_on_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert in_checkout(RESULTS, "--results") == ROOT / "research/results"
    assert in_checkout(PAGE, "--page") == ROOT / "docs/experiments.md"


def test_a_package_without_its_repository_names_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckoutError, match="not a checkout of it: give --results"):
        in_checkout(RESULTS, "--results", tmp_path)

    def nowhere(path: Path, option: str) -> Path:
        return in_checkout(path, option, tmp_path)

    monkeypatch.setattr("research.commands.in_checkout", nowhere)
    done = CliRunner().invoke(command, ["delayed-match", "--model", "homneu", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "give --results" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(report, "in_checkout", nowhere)
    monkeypatch.setattr(sys, "argv", ["report"])
    with pytest.raises(SystemExit, match="give --results"):
        report.main()


def test_the_root_is_the_repositorys() -> None:
    assert checkout.ROOT == ROOT
