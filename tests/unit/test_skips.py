"""Skipped tests: a run ends with their reasons, and one that lacks what CI has installed fails there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.required_tools import TOOLS_INSTALLED
from tests.support.tools import NO_COMPILER, NO_CUDA_OPERATOR, NO_OPERATOR, NO_VALKEY, NO_ZIG

TESTS = f"""
import pytest

@pytest.mark.skipif(True, reason={NO_OPERATOR!r})
def test_operator(): pass

def test_valkey(): pytest.skip({NO_VALKEY!r})

@pytest.fixture
def server(): pytest.skip({NO_VALKEY!r})

def test_fixture(server): pass

def test_compiler(): pytest.skip({NO_COMPILER!r})

@pytest.mark.skipif(True, reason={NO_CUDA_OPERATOR!r})
def test_gpu(): pass

def test_data(): pytest.skip("the data set is not beside this checkout")
"""


MODULE = f"""
import pytest

pytest.skip({NO_ZIG!r}, allow_module_level=True)
"""


def run(folder: Path, plugin: str, installed: str = "", tests: str = TESTS) -> subprocess.CompletedProcess[str]:
    """pytest on these tests, with one of our plugins, on a machine whose tools are said to be installed or not."""
    (folder / "conftest.py").write_text(f'pytest_plugins = ["tests.support.{plugin}"]\n')
    (folder / "test_them.py").write_text(tests)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", str(folder)],
        cwd=folder,
        env=os.environ | {TOOLS_INSTALLED: installed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("installed", "outcome"), [("", "6 skipped"), ("1", "2 failed, 2 skipped, 2 errors")])
def test_what_was_installed_is_not_skipped(tmp_path: Path, installed: str, outcome: str) -> None:
    done = run(tmp_path, "required_tools", installed)
    assert outcome in done.stdout, done.stdout + done.stderr
    assert done.returncode == bool(installed)


def test_a_run_ends_with_a_line_for_each_reason(tmp_path: Path) -> None:
    done = run(tmp_path, "skipped")
    assert done.returncode == 0
    _, _, summary = done.stdout.partition("skipped tests: 6")
    assert [line.strip() for line in summary.splitlines()[1:6]] == [
        f"2  {NO_VALKEY}",
        f"1  {NO_OPERATOR}",
        f"1  {NO_COMPILER}",
        f"1  {NO_CUDA_OPERATOR}",
        "1  the data set is not beside this checkout",
    ]


@pytest.mark.parametrize(("installed", "outcome"), [("", "1 skipped"), ("1", "1 error")])
def test_a_module_that_skips_itself_is_judged_too(tmp_path: Path, installed: str, outcome: str) -> None:
    done = run(tmp_path, "required_tools", installed, MODULE)
    assert outcome in done.stdout, done.stdout + done.stderr
    assert done.returncode == (pytest.ExitCode.INTERRUPTED if installed else pytest.ExitCode.NO_TESTS_COLLECTED)
