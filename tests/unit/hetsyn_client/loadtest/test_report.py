"""JSON, table and sentences of results that are made up."""

from __future__ import annotations

import json
import re
from array import array
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from hetsyn_client.loadtest.html_report import as_html
from hetsyn_client.loadtest.report import as_json, notes, progress, show
from hetsyn_client.loadtest.run import Distribution, Measurement, Record
from tests.support.measurement import measurement

SETTINGS = {"url": "http://h:1", "model": "<m>", "transport": "stream"}
NUMBERS = re.compile(r"([\d.]+) ([\d.]+)")
NOTHING = Distribution.of(np.zeros(0))
EMPTY = replace(measurement(), answered=0, latency=NOTHING, service=NOTHING, over_time=[])


def test_json_has_everything_and_can_be_written() -> None:
    written = json.loads(json.dumps(as_json(SETTINGS, measurement())))
    assert written["settings"]["transport"] == "stream"
    assert written["measurement"]["errors"] == {"refused (503)": 1}
    assert written["measurement"]["latency"]["count"] == 300


def test_the_table_of_a_terminal() -> None:
    console = Console(width=120, record=True, force_terminal=False)
    show(console, measurement())
    show(console, replace(measurement(), mode="closed", offered_per_s=None))
    show(console, EMPTY)
    text = console.export_text()
    assert "10 streams in real time: 97 of 103 chunks/s over 3.0 s" in text
    assert "from when due" in text
    assert "closed loop of 10: 97 chunks/s" in text
    assert "note: errors: 1 refused (503)" in text


@pytest.mark.parametrize(
    "measured",
    [
        measurement(),
        measurement(latency_ms=0.001),
        replace(measurement(latency_ms=9_000.0), mode="closed", over_time=[(0.0, 1.0, 2.0)], duration_s=600.0),
    ],
)
def test_a_page_shows_the_latency_and_loads_nothing(measured: Measurement) -> None:
    page = as_html(["<m> & more"], measured)
    assert "<p>&lt;m&gt; &amp; more</p><p>errors: 1 refused (503)</p>" in page
    assert f"<td>{measured.latency.max_ms:,.1f}</td>" in page
    assert not re.search("src=|href=|url\\(|@import", page)
    plots = [ElementTree.fromstring(plot) for plot in re.findall("<svg.*?</svg>", page)]
    assert [plot.findtext("text[@class='name']") for plot in plots] == ["Latency over time", "Latency by percentile"]
    for plot in plots:
        _, _, width, height = map(float, plot.attrib["viewBox"].split())
        places = [tuple(map(float, place)) for path in plot.iter("path") for place in NUMBERS.findall(path.attrib["d"])]
        places += [(float(text.attrib["x"]), float(text.attrib["y"])) for text in plot.iter("text")]
        assert all(0 <= x <= width and 0 <= y <= height for x, y in places)
    assert len(plots[1].findall("path[@class]")) == (2 if measured.mode == "open" else 1)


def test_a_page_of_a_run_without_answers_has_no_plot() -> None:
    assert "<svg" not in as_html(["nothing"], EMPTY)


def test_notes_say_what_a_reader_must_know() -> None:
    assert notes(replace(measurement(), errors={})) == []
    loud = replace(
        measurement(), unanswered=4, sessions_left=2, stopped="interrupted", generator_cpu_share=0.95,
        generator_late_ms=30.0,
    )  # fmt: skip
    text = "\n".join(notes(loud))
    for part in ("1 refused (503)", "4 chunks had no answer", "CPU 95%", "30.0 ms", "2 sessions", "interrupted"):
        assert part in text


def test_progress_says_how_far_a_run_is() -> None:
    record = Record(10.0, 14.0, due_s=array("d", [10.5]), sent_s=array("d", [10.5]), answered_s=array("d", [10.52]))
    record.errors["timeout"] += 1
    assert progress(record, 9.5) == "warms up, 0.5 s"
    assert progress(record, 12.0) == "2 of 4 s: 0 chunks/s, p50 20.0 ms, p99 20.0 ms, 1 errors"
