"""The tracked files of a checkout, as every build of this commit finds them."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from build_support.release.errors import ReleaseError, run


@dataclass(frozen=True)
class Source:
    """What is released.

    Attributes:
        epoch_s: when that was committed, for ``SOURCE_DATE_EPOCH``.
        is_clean: whether the files are those of the commit.
    """

    commit: str
    epoch_s: int
    is_clean: bool


def read(root: Path) -> Source:
    """Describe a checkout.

    Raises:
        ReleaseError: there is no git, or no checkout.
    """
    if shutil.which("git") is None:
        raise ReleaseError("a release needs git: apt-get install git")
    commit, epoch_s = _git(root, "log", "-1", "--format=%H %ct").split()
    return Source(commit, int(epoch_s), is_clean=not _git(root, "status", "--porcelain").strip())


def copy(root: Path, folder: Path) -> None:
    """Copy the tracked files as they are now, with permissions that do not depend on this machine."""
    # a commit of the changes in tracked files, which no branch has; nothing where there are none
    changed = _git(root, "-c", "user.name=release", "-c", "user.email=release", "stash", "create").strip()
    folder.mkdir(parents=True)
    archive = folder.with_suffix(".tar")
    _git(root, "archive", "--output", str(archive), changed or "HEAD")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    archive.unlink()


def _git(root: Path, *words: str) -> str:
    # a checkout of another user, as in a container, is what the caller has named
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *words]
    try:
        return run(command, "")
    except ReleaseError:
        raise ReleaseError(
            f"{root} is no git checkout with a commit: clone the repository, and release from there"
        ) from None
