"""MkDocs hook: the site has the repository's pages at their own paths, so that links are the same in both."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of ``docs/`` by the tracked pages and the files that they link to."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pages = [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]
    linked = {(page.parent / target).resolve() for page in pages for target in LINK.findall(page.read_text())}
    ours = {path for path in [*pages, *linked] if path.is_file() and path.is_relative_to(ROOT)}
    theme = [file for file in files if file.src_dir != config.docs_dir]
    found = [File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)) for path in sorted(ours)]
    return Files([*theme, *found])
