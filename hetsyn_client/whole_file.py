"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hetsyn_client.errors import InputError


def write_whole(path: Path, content: bytes, option: str) -> None:
    """Write a file, or replace it.

    Args:
        path: of the file.
        content: of it.
        option: of the command that names it.

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
