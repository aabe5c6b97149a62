from __future__ import annotations

import re

from rich.console import Console

from hetsyn_client.loadtest.ramp import Saturation
from hetsyn_client.loadtest.recorder import Recorder
from hetsyn_client.loadtest.run import ClosedLoop, JudgedTrial, OpenLoop, RunSettings
from hetsyn_client.loadtest.view import View
from tests.support.measurement import measurement

KNOWN = Saturation(streams=12, low=11, high=13, is_certain=False, is_beyond=False)


def trial() -> JudgedTrial:
    return JudgedTrial(measurement(), "", True)


def test_on_a_terminal_it_shows_how_far_a_run_is() -> None:
    console = Console(width=100, force_terminal=True, record=True)
    recorder = Recorder(10.0, 14.0)
    recorder.answered(10.5, 10.5, 10.52)
    recorder.failed("timeout", 10.5, 10.6)
    recorder.roll(12.0)
    with View(console) as view:
        view.begins(OpenLoop(1_234), RunSettings(duration_s=4.0))
        view.goes_on(recorder, 9.5)
        view.judged(trial(), KNOWN)
        view.goes_on(recorder, 12.0)
        view.waits()
    text = console.export_text()
    assert "1,234 streams in real time: warms up, 0.5 s" in text
    assert "2 of 4 s" in text
    assert "1 errors" in text
    assert "saturation between 11 and 13 streams" in text
    assert "holds" in text
    assert "waits until other programs" in text


def test_drawing_is_not_done_too_often() -> None:
    console = Console(width=100, force_terminal=True, record=True)
    with View(console) as view:
        view.begins(ClosedLoop(3), RunSettings())
        for n in range(10):
            view.goes_on(Recorder(10.0, 14.0), 9.0 + n / 20)
    # at 9.0; the end draws the last once more
    assert set(re.findall(r"warms up, ([\d.]+) s", console.export_text())) == {"1.0"}


def test_elsewhere_it_prints_a_line_for_each_trial() -> None:
    console = Console(width=100, force_terminal=False, record=True)
    with View(console) as view:
        view.begins(OpenLoop(10), RunSettings())
        view.goes_on(Recorder(10.0, 14.0), 11.0)
        view.waits()
        view.judged(trial(), KNOWN)
    assert console.export_text().strip() == "10 streams: 80.1 ms median, 140.0 ms p99: holds"
