"""A file of an artifact, replaced by other bytes under a manifest that is right."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def rewrite(folder: Path, file: str, content: bytes) -> None:
    """Replace a file, and its hash in the manifest: only loading it tells that the content is wrong."""
    (folder / file).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
