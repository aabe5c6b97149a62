"""What the benchmark of transports makes of its rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.transports import plot, show, summary


def one_round(streams: int, server_us: float | None) -> dict[str, Any]:
    common = {"p50_ms": 5.0, "counted": True, "generator_us": 20.0, "other_cores": 0.1}
    held = {"streams": streams - 10, "p99_ms": 40.0, "missed": "", "server_us": server_us, **common}
    missed = {"streams": 2 * streams, "p99_ms": 300.0, "missed": "p99 300 ms", "server_us": 1.0, **common}
    return {"streams": streams, "low": streams - 5, "high": streams + 5, "trials": [missed, held]}


@pytest.fixture
def results() -> dict[str, Any]:
    slow, fast = one_round(100, 165.0), one_round(460, None)
    return summary(
        {"m": {"infer": [slow, one_round(120, 155.0), slow], "stream": [one_round(210, 80.0)], "streams": [fast]}}
    )


def test_ratios_are_those_of_medians_to_infer(results: dict[str, Any]) -> None:
    assert results["models"]["m"]["infer"]["streams"] == 100
    assert results["models"]["m"]["infer"]["streams_of_rounds"] == [100, 120, 100]
    assert results["ratios"] == {"m: streams, stream / infer": 2.1, "m: streams, streams / infer": 4.6}


def test_cpu_time_is_that_of_the_largest_load_that_held(results: dict[str, Any]) -> None:
    assert results["models"]["m"]["infer"]["server_us"] == 165.0
    assert results["models"]["m"]["streams"]["server_us"] is None


def test_where_nothing_held_the_smallest_load_counts() -> None:
    taken = one_round(100, 165.0)
    taken["trials"] = taken["trials"][:1]
    assert summary({"m": {"infer": [taken]}})["models"]["m"]["infer"]["server_us"] == 1.0


def test_a_round_without_a_load_that_was_too_much_tells_the_most_that_was_tried(
    results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = one_round(1188, 80.0)
    taken["trials"] = [trial | {"streams": 616} for trial in taken["trials"] if not trial["missed"]]
    unbounded = summary({"m": {"infer": [one_round(500, 165.0)], "streams": [taken]}})
    figures = unbounded["models"]["m"]["streams"]
    assert (figures["streams"], figures["is_least"]) == (616, True)
    assert unbounded["ratios"] == {"m: streams, streams / infer": 616 / 500}
    assert not results["models"]["m"]["streams"]["is_least"]
    show(unbounded)
    assert "≥ 616" in capsys.readouterr().out
    plot(unbounded, tmp_path / "x.png")


def test_the_table_and_the_plot(results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(results)
    printed = capsys.readouterr().out
    assert "/strea" in printed
    assert "4.60" in printed
    plot(results, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
