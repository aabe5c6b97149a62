"""Answers as lines, on a terminal and elsewhere."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from hetsyn_client.terminal.show import OneWord, Words, printer

BEGIN = {"type": "Begin", "model": "digits", "version": "1", "step_ms": 10.0, "labels": ["yes", "[no]"]}


def result(label: str | None, share: float | None, **more: Any) -> dict[str, Any]:
    probabilities = None if share is None else [1 - share, share]
    return {
        "type": "Result", "seq": 0, "utterance": 0, "start": 0.2, "duration": 0.1, "label": label,
        "probabilities": probabilities, **more,
    }  # fmt: skip


def end(label: str | None, start: float, stop: float) -> dict[str, Any]:
    probabilities = None if label is None else [0.25, 0.75]
    return {"type": "UtteranceEnd", "start": start, "end": stop, "label": label, "probabilities": probabilities}


FRAMES = [
    BEGIN,
    result(None, None),
    {"type": "SpeechStarted", "utterance": 0, "at": 0.2},
    result("[no]", 0.5),
    end("[no]", 0.1, 0.72),
    end(None, 0.72, 3.0),
    end("yes", 3.0, 13.5),
    end(None, 13.5, 14.0) | {"probabilities": [0.75, 0.25]},
]


def test_words_are_lines_with_times(capsys: pytest.CaptureFixture[str]) -> None:
    with printer("x.wav", words=True, as_json=False) as show:
        for frame in FRAMES:
            show(frame)
    assert capsys.readouterr().out.splitlines() == [
        "   0.10 -    0.72 s  [no]          75.0%",
        "   3.00 -   13.50 s  yes           75.0%",
        "  13.50 -   14.00 s  no word",
        "x.wav: [no] yes (digits 1)",
    ]


def test_what_is_heard_just_now_shows_on_a_terminal() -> None:
    lines: list[Text] = []
    console = Console(file=io.StringIO(), highlight=False)
    show = Words("x.wav", console, lines.append)
    for frame in FRAMES:
        show(frame)
    assert [str(line).split() for line in lines] == [
        ["0.30", "s", "...", "░" * 30],
        ["0.30", "s", "[no]", "█" * 15 + "░" * 15, "50.0%"],
    ]


@pytest.mark.parametrize(("probabilities", "said"), [(None, "nothing heard"), ([0.1, 0.9], "no word")])
def test_what_is_no_word_is_told_from_silence(
    capsys: pytest.CaptureFixture[str], probabilities: list[float] | None, said: str
) -> None:
    with printer("x.wav", words=True, as_json=False) as show:
        show(BEGIN)
        show(end(None, 0.0, 0.6) | {"probabilities": probabilities})
        show(end(None, 0.6, 3.0))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["   0.00 -    0.60 s  no word"] * (said == "no word") + [f"x.wav: {said} (digits 1)"]


def test_one_word_and_a_trace() -> None:
    lines: list[Text] = []
    file = io.StringIO()
    show = OneWord("x.npz", Console(file=file, highlight=False), lines.append)
    show(BEGIN)
    show(result(None, None, readout=[[0.5, 1.0], [0.25, -2.0]]))
    show(end(None, 0.0, 0.3))
    show.verdict()
    assert [str(line) for line in lines] == ["   0.30 s  +0.250  -2.000"]
    show(end("yes", 0.0, 0.3))
    show.verdict()
    show(end(None, 0.0, 0.3) | {"probabilities": [0.1, 0.9]})
    show.verdict()
    assert file.getvalue().splitlines() == [
        "x.npz: 30 steps (digits 1)",
        "x.npz: yes  75.0% (digits 1)",
        "x.npz: no word (digits 1)",
    ]


def test_json_is_a_line_a_frame(capsys: pytest.CaptureFixture[str]) -> None:
    with printer("x.wav", words=True, as_json=True) as show:
        for frame in FRAMES:
            show(frame)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == FRAMES
