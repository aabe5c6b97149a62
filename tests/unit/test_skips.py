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
from tests.support.tools import NO_COMPILER, NO_VALKEY

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


@pytest.mark.parametrize(("installed", "outcome"), [("", "6 skipped"), ("1", "2 failed, 2 skipped, 2 errors")])
def test_what_was_installed_is_not_skipped(tmp_path: Path, installed: str, outcome: str) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.support.required_tools"]\n')
    (tmp_path / "test_them.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {TOOLS_INSTALLED: installed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout, done.stdout + done.stderr
    assert done.returncode == bool(installed)
