"""The folder of a training run: its configuration, and files that a kill leaves whole."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import torch


class RunError(ValueError):
    """The run folder belongs to another configuration, or is not a run; the message says which field."""


def record_configuration(folder: Path, config: dict[str, Any]) -> None:
    """Make the folder this configuration's, in ``run.json``.

    Raises:
        RunError: it holds a run of another configuration.
    """
    path, text = folder / "run.json", json.dumps(config, indent=1)
    if not path.exists():
        replace_file(path, text.encode())
        return
    before, now = json.loads(path.read_text()), json.loads(text)
    differing = [key for key in {**now, **before} if before.get(key) != now.get(key)]
    if differing:
        raise RunError(
            f"{folder} contains a run with another {', '.join(differing)}: choose another --out, or delete it"
        )


def save_tensors(path: Path, values: dict[str, Any]) -> None:
    """``torch.save``, the whole file or none."""
    buffer = BytesIO()
    torch.save(values, buffer)
    replace_file(path, buffer.getvalue())


def replace_file(path: Path, content: bytes) -> None:
    """A kill leaves the old file or the new one, never half of one."""
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(content)
    fresh.replace(path)
