"""A small disk of a test's own, which can be filled."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NO_MOUNT = "no small disk of its own: only root may mount one, and not in every container"


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Mount a disk in memory on a new folder. Skip the test where that is not possible."""
    folder.mkdir()
    if os.geteuid():
        pytest.skip(NO_MOUNT)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(NO_MOUNT)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write a file until the disk is full. Remove the file to make room again."""
    with path.open("ab", buffering=0) as file:
        for size_bytes in (65_536, 1):
            try:
                while True:
                    file.write(bytes(size_bytes))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
