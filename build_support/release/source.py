"""The tracked files of a checkout, as every build of this commit finds them."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from build_support.release.errors import ReleaseError, run


@dataclass(frozen=True)
class Source:
    """What is released.

    Attributes:
        files: tracked ones, from the root of the checkout.
        commit: of the checkout.
        epoch_s: when that was committed, for ``SOURCE_DATE_EPOCH``.
        is_clean: whether the files are those of the commit.
    """

    files: tuple[str, ...]
    commit: str
    epoch_s: int
    is_clean: bool


def read(root: Path) -> Source:
    """What a checkout has.

    Raises:
        ReleaseError: there is no git, or no checkout.
    """
    if shutil.which("git") is None:
        raise ReleaseError("a release needs git: apt-get install git")
    found = _git(root, "ls-files", "-z").split("\0")
    commit, epoch_s = _git(root, "log", "-1", "--format=%H %ct").split()
    changed = _git(root, "status", "--porcelain").strip()
    return Source(tuple(name for name in found if name), commit, int(epoch_s), is_clean=not changed)


def copy(root: Path, source: Source, folder: Path) -> None:
    """Copy the tracked files, with times and permissions that do not depend on this machine.

    Raises:
        ReleaseError: a tracked file is missing.
    """
    for name in source.files:
        original, copied = root / name, folder / name
        if not os.path.lexists(original):
            raise ReleaseError(f"{name} is missing in the checkout: git restore '{name}', or commit its removal")
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, copied, follow_symlinks=False)
        if not copied.is_symlink():
            copied.chmod(0o755 if original.stat().st_mode & 0o100 else 0o644)
        os.utime(copied, (source.epoch_s, source.epoch_s), follow_symlinks=False)


def _git(root: Path, *words: str) -> str:
    # a checkout of another user, as in a container, is what the caller has named
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *words]
    try:
        return run(command, "")
    except ReleaseError:
        raise ReleaseError(
            f"{root} is no git checkout with a commit: clone the repository, and release from there"
        ) from None
