"""The version stands in pyproject.toml alone. The top section of the changelog has to agree with it."""

from __future__ import annotations

import re
import tomllib

from build_support.release.errors import ReleaseError

UNRELEASED = "Unreleased"
_HEADING = re.compile(r"^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?[ \t]*$", re.MULTILINE)


def version_of(pyproject: str) -> str:
    """Read the version from pyproject.toml."""
    return str(tomllib.loads(pyproject)["project"]["version"])


def unreleased(changelog: str, version: str) -> str | None:
    """Say why this version is not released yet, by the changelog; None if its section is the top one.

    Raises:
        ReleaseError: changelog and version contradict each other.
    """
    sections: list[tuple[str, str]] = _HEADING.findall(changelog)
    if not sections:
        raise ReleaseError(f"CHANGELOG.md has no section: begin one with '## [{version}] - DATE'")
    top, date = sections[0]
    if top == UNRELEASED:
        if version in (name for name, _ in sections[1:]):
            raise ReleaseError(f"version {version} is released already: raise the version in pyproject.toml")
        return f"CHANGELOG.md's top section is [{UNRELEASED}]; for the release, name it '## [{version}] - DATE'"
    if top != version:
        raise ReleaseError(
            f"CHANGELOG.md's top section is [{top}], and pyproject.toml has version {version}: make them equal"
        )
    if not date:
        raise ReleaseError(f"CHANGELOG.md's top section has no date: write '## [{version}] - YYYY-MM-DD'")
    return None
