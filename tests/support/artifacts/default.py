"""Names the default model of a folder."""

from __future__ import annotations

from pathlib import Path


def with_default(folder: Path, name: str) -> Path:
    """Write the file ``default``, and return the folder."""
    (folder / "default").write_text(name)
    return folder
