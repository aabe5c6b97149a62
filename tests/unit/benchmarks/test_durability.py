"""What the durability benchmark makes of its rounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.durability import plot, summary
from benchmarks.load import Figures
from tests.support.paths import RECORDINGS
from tests.support.recordings import cut, digit


def figures(chunks_per_s: float, p50_ms: float) -> Figures:
    return Figures(chunks_per_s, p50_ms, 3 * p50_ms, 0.4, 0.1)


def rounds() -> dict[str, dict[str, list[Figures]]]:
    """In the second round everything is slower by half."""
    memory = [figures(1000, 1.0), figures(500, 2.0), figures(1000, 1.0)]
    stored = [figures(700, 1.5), figures(350, 2.5), figures(800, 1.4)]
    return {title: {"1": one, "64": one} for title, one in (("memory", memory), ("file", stored))}


def test_ratios_are_taken_within_a_round() -> None:
    results = summary(rounds())
    assert results["ratios"]["chunks a second at 64 sessions, file / memory"] == pytest.approx(0.7)
    assert results["added_ms"]["p50 added at 1 sessions, file"] == pytest.approx(0.5)
    assert results["stores"]["file"]["64"]["chunks_per_s"] == 700


def test_it_is_drawn(tmp_path: Path) -> None:
    plot(summary(rounds()), tmp_path / "durability.png")
    assert (tmp_path / "durability.png").stat().st_size > 10_000


def test_a_file_s_name_says_the_digit() -> None:
    assert [digit(Path(name)) for name in ("seven.wav", "7_theo_3.wav")] == ["seven", "seven"]


def test_the_chunks_of_a_recording_are_the_recording() -> None:
    path = RECORDINGS / "seven.wav"
    content_type, chunks = cut(path, 0.05)
    assert content_type == "audio/L16;rate=8000;endianness=little-endian"
    assert b"".join(chunks) == path.read_bytes()[-sum(map(len, chunks)) :]
    assert {len(chunk) for chunk in chunks[:-1]} == {800}
