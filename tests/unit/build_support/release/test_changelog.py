"""Which sections of the changelog agree with the version."""

from __future__ import annotations

import pytest

from build_support.release.changelog import unreleased, version_of
from build_support.release.errors import ReleaseError
from tests.support.paths import ROOT

pytestmark = pytest.mark.long


def changelog(*sections: str) -> str:
    return "# Changelog\n" + "".join(f"\n## {section}\n\n- **A change** [of it](page.md).\n" for section in sections)


def test_the_top_section_of_a_release_is_its_own() -> None:
    assert unreleased(changelog("[1.2.0] - 2026-11-28", "[1.1.0] - 2026-01-01"), "1.2.0") is None


def test_before_the_release_the_sentence_says_how_to_name_the_section() -> None:
    reason = unreleased(changelog("[Unreleased]", "[1.1.0] - 2026-01-01"), "1.2.0")
    assert reason is not None
    assert "'## [1.2.0] - DATE'" in reason


@pytest.mark.parametrize(
    ("sections", "remedy"),
    [
        ([], "begin one with '## [1.2.0] - DATE'"),
        (["[Unreleased]", "[1.2.0] - 2026-11-28"], "raise the version"),
        (["[1.3.0] - 2026-11-28", "[1.2.0] - 2026-11-28"], "make them equal"),
        (["[1.2.0]"], "write '## [1.2.0] - YYYY-MM-DD'"),
    ],
)
def test_a_contradiction_says_what_to_do(sections: list[str], remedy: str) -> None:
    with pytest.raises(ReleaseError) as raised:
        unreleased(changelog(*sections), "1.2.0")
    assert remedy in str(raised.value)


def test_this_repository_agrees() -> None:
    unreleased((ROOT / "CHANGELOG.md").read_text(), version_of((ROOT / "pyproject.toml").read_text()))
