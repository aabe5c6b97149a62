"""What the benchmark of latency makes of the moments of a chunk."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.latency import ECHO, INFER, MOMENTS, STREAM, plot, show, summary

# in ns, one chunk that is due at 0 and answered at 100,000
NOTED = [
    (10_000, "received"), (30_000, "session"), (35_000, "queue"), (40_000, "engine"), (60_000, "computed"),
    (61_000, "engine"), (70_000, "computed"), (75_000, "commit"), (80_000, "kept"), (85_000, "written"),
]  # fmt: skip
TIMES = [(0, 5_000, 100_000)]


def parts(noted: list[tuple[int, str]], sent_ns: int = 5_000) -> dict[str, float]:
    found: dict[str, float] = summary({INFER: [(0, sent_ns, 100_000)]}, noted)["ways"][INFER]["parts_us"]
    return found


def test_parts_end_at_their_moments_and_add_up() -> None:
    found = parts(NOTED)
    assert list(found) == list(MOMENTS.values())
    assert list(found.values()) == [5, 5, 20, 5, 5, 30, 5, 5, 5, 15]  # the engine ran twice: it is one part
    assert sum(found.values()) == 100


def test_what_was_not_noted_belongs_to_the_part_after_it() -> None:
    found = parts([moment for moment in NOTED if moment[1] not in ("session", "queue", "commit", "kept")])
    assert found["queue: wait for others"] == 30
    assert found["session: decide, check"] == 0
    assert sum(found.values()) == 100


def test_an_answer_that_is_there_before_the_server_has_noted_it_took_the_server_all_the_time() -> None:
    found = parts([*NOTED[:-1], (110_000, "written")])
    assert (found["frame or response, send"], found["system: to the client's loop"]) == (20, 0)


def test_moments_of_other_chunks_do_not_count() -> None:
    assert parts([(-5_000, "received"), *NOTED, (5_000_000, "written")]) == parts(NOTED)


def test_a_server_that_begins_before_the_system_returns_to_the_client_takes_no_negative_time() -> None:
    found = parts(NOTED, sent_ns=12_000)
    assert (found["client: send"], found["system: to the server's loop"]) == (10, 0)


def test_percentiles_the_table_and_the_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = {"chunk_ms": 20.0, "store": "none", **summary({ECHO: [(0, 0, 50_000)], STREAM: TIMES}, NOTED)}
    assert results["ways"][ECHO]["p99_us"] == 50
    assert "parts_us" not in results["ways"][ECHO]
    show(results)
    assert "all: p99" in capsys.readouterr().out
    plot(results, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
