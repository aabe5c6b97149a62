"""Writes the files of a training run's folder, so that a kill leaves them whole."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from hetsyn_model.spec.errors import ModelError

CONFIGURATION = "run.json"


class RunError(ModelError):
    """The folder has another configuration or is not a run, or its training failed; the message says which and why."""

    code = "bad-run"


def record_configuration(folder: Path, config: dict[str, Any]) -> None:
    """Record the configuration in the folder's ``run.json``; raise a RunError if another one is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RunError(f"{folder}: a file is in the way: name another folder for the run") from error
    path, text = folder / CONFIGURATION, json.dumps(config, indent=1)
    if not path.exists():
        replace_file(path, text.encode())
        return
    try:
        before, now = _flat(json.loads(path.read_text(encoding="utf-8"))), _flat(json.loads(text))
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path}: not the configuration of a run ({error}): choose another --out, or delete the folder"
        ) from error
    differing = [key for key in {**now, **before} if before.get(key) != now.get(key)]
    if differing:
        changes = ", ".join(f"{key} ({before.get(key)} there, {now.get(key)} now)" for key in differing)
        raise RunError(
            f"{folder} contains a run that differs in {changes}: "
            "give that run's values to continue it, choose another --out, or delete the folder"
        )


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries to keys with dots."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def save_tensors(path: Path, values: dict[str, Any]) -> None:
    """Save values with ``torch.save``, atomically."""
    buffer = BytesIO()
    torch.save(values, buffer)
    replace_file(path, buffer.getvalue())


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically: a kill leaves the old content or the new one."""
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(content)
    fresh.replace(path)
