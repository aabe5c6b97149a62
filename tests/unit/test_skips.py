"""A test that is skipped for want of what CI has installed fails there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.valkey import MISSING
from service.runtime.operators import BUILD, BUILD_CUDA
from tests.support.paths import ROOT
from tests.support.required_tools import TOOLS_INSTALLED
from tests.support.tools import NO_COMPILER, NO_VALKEY, NO_ZIG

TESTS = f"""
import pytest

@pytest.mark.skipif(True, reason="the operator is not built: {BUILD}")
def test_operator(): pass

def test_valkey(): pytest.skip({NO_VALKEY!r})

@pytest.fixture
def server(): pytest.skip({MISSING!r})

def test_fixture(server): pass

def test_compiler(): pytest.skip("{NO_COMPILER} on this machine")

@pytest.mark.skipif(True, reason="the operator for GPUs is not built: {BUILD_CUDA}")
def test_gpu(): pass

def test_data(): pytest.skip("the data set is not beside this checkout")
"""


MODULE = f"""
import pytest

pytest.skip({NO_ZIG!r}, allow_module_level=True)
"""


@pytest.mark.parametrize(("installed", "outcome"), [("", "6 skipped"), ("1", "2 failed, 2 skipped, 2 errors")])
def test_what_was_installed_is_not_skipped(tmp_path: Path, installed: str, outcome: str) -> None:
    done = run(tmp_path, TESTS, installed)
    assert outcome in done.stdout, done.stdout + done.stderr
    assert done.returncode == bool(installed)


def run(folder: Path, tests: str, installed: str) -> subprocess.CompletedProcess[str]:
    """Run these tests, on a machine whose tools are said to be installed or not."""
    (folder / "conftest.py").write_text('pytest_plugins = ["tests.support.required_tools"]\n')
    (folder / "test_them.py").write_text(tests)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", str(folder)],
        cwd=folder,
        env=os.environ | {TOOLS_INSTALLED: installed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("installed", "outcome"), [("", "1 skipped"), ("1", "1 error")])
def test_a_module_that_skips_itself_is_judged_too(tmp_path: Path, installed: str, outcome: str) -> None:
    done = run(tmp_path, MODULE, installed)
    assert outcome in done.stdout, done.stdout + done.stderr
    assert done.returncode == (pytest.ExitCode.INTERRUPTED if installed else pytest.ExitCode.NO_TESTS_COLLECTED)
