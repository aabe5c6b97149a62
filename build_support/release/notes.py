"""The notes of a release, made of the pages: what it does, for whom, the figures, what is untried, what has changed."""

from __future__ import annotations

import re
from pathlib import Path

from build_support.release.errors import ReleaseError

NAME = "RELEASE-NOTES.md"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://)[^)]*\)")
_HEADING = re.compile(r"^#{1,2} .*$", re.MULTILINE)


def notes(root: Path, version: str, commit: str, tried: list[str]) -> str:
    """Write the notes from README.md, docs/guides/install.md and the top section of CHANGELOG.md.

    Args:
        tried: what this release was tried on, a sentence each.

    Raises:
        ReleaseError: a page lacks its section.
    """
    readme, install, changelog = (root / name for name in ("README.md", "docs/guides/install.md", "CHANGELOG.md"))
    intro, _, purpose = _section(readme, "# HetSyn").partition("```sh")
    return (
        "\n\n".join(
            [
                f"# HetSyn {version}\n\nCommit {commit}.",
                intro.strip(),
                purpose[purpose.index("**It is for**") :].strip(),
                "## Figures\n\n" + _section(readme, "## Figures"),
                "## Tried, and untried\n\n" + "\n".join(f"- {line}" for line in tried),
                _section(install, "## Platforms"),
                "## Changes\n\n" + _section(changelog, "## ["),
            ]
        )
        + "\n"
    )


def _section(page: Path, heading: str) -> str:
    """Return what stands below the first heading that begins so, without pictures and links into the repository."""
    text = page.read_text()
    found = next((match for match in _HEADING.finditer(text) if match[0].startswith(heading)), None)
    if found is None:
        raise ReleaseError(
            f"the notes need a section {heading!r} in {page.name}: write it, or correct {Path(__file__).name}"
        )
    following = _HEADING.search(text, found.end())
    body = text[found.end() : following.start() if following else None]
    return _LINK.sub(lambda link: "" if link[1] else link[2], body).strip()
