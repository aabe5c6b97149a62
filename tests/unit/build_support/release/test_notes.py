"""The notes of a release are sections of the pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from build_support.release.errors import ReleaseError
from build_support.release.notes import notes
from tests.support.paths import ROOT


def test_they_say_what_it_does_for_whom_with_which_figures_and_what_is_untried() -> None:
    text = notes(ROOT, "1.2.0", "abc123", ["image: none"])
    headings = re.findall("^#+ .*$", text, re.MULTILINE)
    assert headings[:3] == ["# HetSyn 1.2.0", "## Figures", "## Tried, and untried"]
    assert "## Changes" in headings
    for part in (
        "abc123",
        "**It is for**",
        "**It is not for**",
        "| figure |",
        "- image: none",
        "| a GPU |",
        "**Server**",
    ):
        assert part in text
    assert re.findall(r"\]\((?!https?://)", text) == []
    assert "png" not in text


def test_a_page_without_the_section_ends_the_release(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Another title\n")
    with pytest.raises(ReleaseError, match=r"'# HetSyn' in README.md: write it"):
        notes(tmp_path, "1.2.0", "abc123", [])
