"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hetsyn_client.errors import InputError


def check_file(path: Path, option: str) -> None:
    """Check that the file of an option may be written or replaced, before the work for it is done.

    Raises:
        InputError: it may not.
    """
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {path.parent}: make it first")
    if path.exists() and not path.is_file():
        there = "a folder" if path.is_dir() else "no file, but a pipe or a device"  # which would be replaced
        raise InputError(f"{option} {path}: this is {there}: name a file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path}: nothing may be written in {path.parent}: name another folder")


def write_whole(path: Path, content: bytes, option: str) -> None:
    """Write the file of an option, or replace it.

    Raises:
        InputError: it cannot be written.
    """
    try:
        number, fresh = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
            Path(fresh).chmod(0o644)
            Path(fresh).replace(path)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be written ({error.strerror}): name another file") from error
