"""Each mutant is a change of the code as it is: a patch of moved code would plant nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.process
if not (ROOT / ".git").exists() or shutil.which("git") is None:
    pytest.skip("no git checkout: mutants are applied with git", allow_module_level=True)


@pytest.mark.parametrize("patch", sorted((ROOT / "tests/mutants").rglob("*.patch")), ids=lambda path: path.stem)
def test_a_mutant_applies(patch: Path) -> None:
    done = subprocess.run(["git", "apply", "--check", patch], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"renew the patch: {done.stderr}"
