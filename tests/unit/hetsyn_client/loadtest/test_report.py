"""JSON and HTML of results that are made up."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.console import Console

from hetsyn_client.loadtest.measurement import Generator, Measurement
from hetsyn_client.loadtest.ramp import Goal, Saturation
from hetsyn_client.loadtest.recorder import Recorder
from hetsyn_client.loadtest.report import as_html
from hetsyn_client.loadtest.results import as_json
from hetsyn_client.loadtest.run import JudgedTrial, RampResult
from hetsyn_client.loadtest.view import measurement_table, notes, saturation_line, trial_table, verdict
from tests.support.measurement import QUIET, measurement

SETTINGS = {"url": "http://h:1", "model": "<m>", "seed": 0, "expected_interval_ms": None}


def search() -> RampResult:
    trials = (
        JudgedTrial(measurement(10), "", True),
        JudgedTrial(measurement(30, 200.0), "p99 1400 ms", True),
        JudgedTrial(measurement(20, 90.0), "p99 600 ms", False),
    )
    saturation = Saturation(streams=12, low=11, high=13, is_certain=True, is_beyond=False)
    return RampResult(Goal(100.0, 99.0), saturation, measurement(32), trials)


def empty() -> Measurement:
    return Recorder(0.0, 1.0).measurement("closed", 2, None, QUIET, 0, "interrupted")


def svgs(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring("<svg" + part.partition("</svg>")[0] + "</svg>") for part in page.split("<svg")[1:]]


def texts(page: str) -> list[str]:
    return [text.text or "" for svg in svgs(page) for text in svg.iter("{http://www.w3.org/2000/svg}text")]


def test_json_has_everything_and_can_be_written() -> None:
    single = json.loads(json.dumps(as_json(SETTINGS, measurement())))
    assert single["settings"]["seed"] == 0
    assert single["measurement"]["errors"] == {"refused (503)": 1}
    assert single["measurement"]["latency"]["count"] == 300
    found = json.loads(json.dumps(as_json(SETTINGS, search())))
    assert found["saturation"] == {"streams": 12, "low": 11, "high": 13, "is_certain": True, "is_beyond": False}
    assert [trial["missed"] for trial in found["trials"]] == ["", "p99 1400 ms", "p99 600 ms"]


def test_the_page_of_a_run_has_four_plots_and_escapes_names() -> None:
    page = as_html(SETTINGS, measurement())
    assert len(svgs(page)) == 4
    assert {"latency, ms", "chunks a second", "percentile", "errors", "p99"} <= set(texts(page))
    assert "hetsyn bench: &lt;m&gt;" in page
    assert "<m>" not in page
    assert "errors: 1 refused (503)" in page
    assert set(re.findall(r"https?://[^/<]*", page)) == {"http://h:1", "http://www.w3.org"}  # it loads nothing


def test_the_page_of_a_search_has_two_more() -> None:
    page = as_html(SETTINGS | {"transport": "stream"}, search())
    assert len(svgs(page)) == 6
    assert {"target", "saturation", "failed", "not counted", "offered", "achieved"} <= set(texts(page))
    assert "<h1>Saturation: 12 streams hold p99 within 100 ms (90% sure: 11 to 13), over /stream</h1>" in page
    assert "p99 600 ms (not counted)" in page


def test_the_page_of_a_run_begins_with_its_verdict_and_draws_the_target() -> None:
    page = as_html(SETTINGS | {"target_ms": 100.0, "percentile": 99.0}, measurement())
    assert page.index("<h1>10 streams do not hold p99 within 100 ms over /infer: ") < page.index("<svg")
    assert texts(page).count("target") == 3
    held = replace(measurement(), errors={}, offered_per_s=100.0)
    page = as_html(SETTINGS | {"target_ms": 1000.0, "percentile": 90.0}, held)
    assert "<h1>10 streams hold p90 within 1000 ms over /infer: p90 " in page
    assert "over /stream, of 2 streams that each wait" in verdict(replace(measurement(2), mode="closed"), "stream")


def test_nothing_on_the_page_is_wider_than_a_phone_but_tables_that_scroll() -> None:
    page = as_html(SETTINGS, search())
    assert 'content="width=device-width, initial-scale=1"' in page
    assert page.count("<table>") == page.count("<div class=wide><table>")
    assert "minmax(min(100%, 440px), 1fr)" in page


def test_pages_of_runs_without_an_answer() -> None:
    assert svgs(as_html(SETTINGS, empty())) == []
    nothing = RampResult(
        Goal(100.0, 99.0), Saturation(0, 0, 0, True, False), empty(), (JudgedTrial(empty(), "x", True),)
    )
    assert len(svgs(as_html(SETTINGS, nothing))) == 2
    unfinished = replace(nothing, trials=())
    assert len(svgs(as_html(SETTINGS, unfinished))) == 2


def printed(*parts: object) -> str:
    console = Console(width=120, record=True, force_terminal=False)
    for part in parts:
        console.print(part)
    return console.export_text()


def test_the_tables_of_a_terminal() -> None:
    text = printed(measurement_table(measurement()), trial_table(search().trials))
    assert "10 streams in real time: 97 of 103 chunks/s over 3.0 s" in text
    assert "from when due" in text
    assert "p99 600 ms, not counted: the machine was busy" in text
    assert "closed loop of 2: 0 chunks/s" in printed(measurement_table(empty()))


def test_notes_say_what_a_reader_must_know() -> None:
    assert notes(replace(measurement(), errors={})) == []
    # what listens uses nothing itself: who the others are is not known
    behind_a_proxy = replace(QUIET, server_cores=0.01, other_cores=1.0)
    assert notes(replace(measurement(), errors={}, generator=behind_a_proxy)) == []
    loud = replace(
        measurement(),
        unanswered=4,
        sessions_left=2,
        stopped="interrupted",
        generator=Generator(0.95, 30.0, 3, 0, server_cores=0.8, other_cores=1.04),
    )
    text = "\n".join(notes(loud))
    for part in ("1 refused (503)", "4 chunks had no answer", "CPU 95%", "1.0 cores", "2 sessions", "interrupted"):
        assert part in text


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (Saturation(0, 0, 0, True, False), "not even one stream"),
        (Saturation(50, 50, 50, True, True), "more were not tried"),
        (Saturation(50, 40, 60, False, False), "the search ended early: from 40 to 60 streams"),
    ],
)
def test_the_last_line_of_a_search(found: Saturation, line: str) -> None:
    assert line in saturation_line(replace(search(), saturation=found))
