"""What of a checkout is released."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from build_support.release import tracked_files
from build_support.release.errors import ReleaseError

pytestmark = pytest.mark.long

EPOCH_S = 1_700_000_000

if shutil.which("git") is None:
    pytest.skip("no git: apt-get install git", allow_module_level=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "docs").mkdir(parents=True)
    (root / "tool").write_text("run me")
    (root / "tool").chmod(0o700)
    (root / "docs/page with space.md").write_text("a page")
    (root / "docs/link").symlink_to("page with space.md")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    return root


def git(root: Path, *words: str) -> str:
    dated = {"GIT_COMMITTER_DATE": f"{EPOCH_S} +0000", "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(
        ["git", "-C", root, *words], check=True, env=os.environ | dated, capture_output=True, text=True
    ).stdout


def test_tracked_files_are_copied_as_they_are_now(checkout: Path, tmp_path: Path) -> None:
    found = tracked_files.read(checkout)
    assert found.is_clean
    assert found.epoch_s == EPOCH_S
    for name, text in (("first", "a page"), ("second", "a changed page")):
        (checkout / "untracked").write_text("not mine to release")
        (checkout / "docs/page with space.md").write_text(text)
        copied = tmp_path / name
        tracked_files.copy(checkout, copied)
        files = sorted(path.relative_to(copied).as_posix() for path in copied.rglob("*") if not path.is_dir())
        assert files == ["docs/link", "docs/page with space.md", "tool"]
        assert [(copied / name).stat().st_mode & 0o777 for name in files] == [0o644, 0o644, 0o755]
        assert (copied / "docs/link").is_symlink()
        assert (copied / "docs/link").read_text() == text
    assert (checkout / "docs/page with space.md").read_text() == "a changed page"
    assert git(checkout, "stash", "list") == ""


@pytest.mark.parametrize("name", ["docs/page with space.md", "untracked.py"])
def test_a_change_is_no_part_of_the_commit(name: str, checkout: Path) -> None:
    (checkout / name).write_text("changed")
    assert not tracked_files.read(checkout).is_clean


def test_what_is_no_checkout_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ReleaseError, match="no git checkout with a commit: clone the repository"):
        tracked_files.read(tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ReleaseError, match="apt-get install git"):
        tracked_files.read(tmp_path)
