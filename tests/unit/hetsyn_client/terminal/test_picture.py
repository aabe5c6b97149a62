"""Pictures of streams."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from hetsyn_client.errors import InputError
from hetsyn_client.terminal.picture import check_picture, write_picture
from hetsyn_client.terminal.recorded import LONGEST_S, Recorded

BEGIN = {"type": "Begin", "model": "digits", "version": "1", "step_ms": 10.0, "labels": ["yes", "no"]}


def recorded(seconds: float = 2.0, *, spikes: bool = True, is_trace: bool = False) -> Recorded:
    """A stream in chunks of 0.1 s: half a second of silence, then a word, and so on."""
    stream, rng = Recorded(), np.random.default_rng(0)
    stream(BEGIN)
    for chunk in range(round(seconds * 10)):
        speaks = chunk % 10 >= 5
        frame: dict[str, Any] = {
            "type": "Result", "seq": chunk, "utterance": chunk // 10, "start": chunk / 10, "duration": 0.1,
            "label": "no" if speaks else None, "probabilities": [0.25, 0.75] if speaks and not is_trace else None,
        }  # fmt: skip
        if is_trace:
            frame["readout"] = rng.normal(size=(10, 2)).tolist()
        if spikes:
            layers = [
                {"name": name, "size": size, "times": rng.integers(0, 10, 20).tolist(),
                 "units": rng.integers(0, size, 20).tolist()} for name, size in (("input", 300), ("hidden1", 12))
            ]  # fmt: skip
            frame["spikes"] = {"first_step": 10 * chunk, "steps": 10, "layers": layers}
        stream(frame)
        if chunk % 10 == 9 and not is_trace:
            end = {"start": chunk / 10 - 0.4, "end": chunk / 10 + 0.1, "label": "no", "probabilities": [0.25, 0.75]}
            stream({"type": "UtteranceEnd", "utterance": chunk // 10, **end})
    return stream


def test_a_picture_has_every_layer_and_word(tmp_path: Path) -> None:
    write_picture(recorded(), "words.wav", tmp_path / "words.svg")
    text = (tmp_path / "words.svg").read_text()
    words = [element.text for element in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    assert "words.wav: digits 1" in words
    assert {"input", "300 channels", "hidden1", "12 neurons", "probability", "time, s"} <= set(words)
    assert words.count("no") == 3  # two words and the legend
    assert not re.search(r"<script|href=\"http", text)
    assert [path.name for path in tmp_path.iterdir()] == ["words.svg"]


def test_the_same_stream_gives_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_picture(recorded(), "words.wav", tmp_path / name)
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert (tmp_path / "b.png").read_bytes() == content


@pytest.mark.parametrize("is_trace", [False, True])
def test_without_spikes_there_are_curves_alone(tmp_path: Path, is_trace: bool) -> None:
    write_picture(recorded(spikes=False, is_trace=is_trace), "x", tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    assert "neurons" not in text
    assert ("readout" in text) is is_trace


def test_a_stream_in_which_nothing_is_heard(tmp_path: Path) -> None:
    write_picture(recorded(0.4), "x", tmp_path / "x.svg")
    assert "nothing heard" in (tmp_path / "x.svg").read_text()


def test_spikes_are_at_their_times() -> None:
    layers = recorded(1.0).layers()
    assert [(layer.name, layer.size, len(layer.units)) for layer in layers] == [
        ("input", 300, 200),
        ("hidden1", 12, 200),
    ]
    chunks = np.floor(layers[0].times_s * 10 + 1e-6)
    np.testing.assert_array_equal(chunks, np.repeat(np.arange(10), 20))


def test_a_stream_without_end_is_kept_for_a_minute() -> None:
    stream = recorded(LONGEST_S + 30)
    first, last = stream.span_s
    assert LONGEST_S <= last - first <= LONGEST_S + 0.2
    assert stream.layers()[0].times_s.min() >= first
    assert stream.utterances[0].end_s >= first


def test_a_picture_that_cannot_be_written_is_refused_before(tmp_path: Path) -> None:
    check_picture(tmp_path / "a.PNG")
    with pytest.raises(InputError, match=r"ends in .png or .svg"):
        check_picture(tmp_path / "a.gif")
    with pytest.raises(InputError, match="make it first"):
        check_picture(tmp_path / "no/a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(InputError, match="is a folder: name a file"):
        check_picture(tmp_path / "b.png")
    with pytest.raises(InputError, match="name another file"):
        write_picture(recorded(0.4), "x", tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["b.png"]
    os.mkfifo(tmp_path / "c.png")  # would be replaced, as would a device
    with pytest.raises(InputError, match="a pipe or a device: name a file"):
        check_picture(tmp_path / "c.png")


def test_names_of_files_and_labels_may_have_any_characters(tmp_path: Path) -> None:
    stream = recorded(1.0)
    stream.begin = BEGIN | {"labels": ["_silence_", r"$\frac$"]}
    write_picture(stream, r"a$x$ $\frac$<b>.wav", tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    words = [element.text for element in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    assert r"a$x$ $\frac$<b>.wav: digits 1" in words
    assert {"_silence_", r"$\frac$"} <= set(words)


@pytest.mark.process
def test_without_matplotlib_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        f"sys.argv = ['hetsyn', 'run', 'none', 'none.wav', '--save', {str(tmp_path / 'a.png')!r}]\n"
        "import hetsyn\n"
        "hetsyn.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "matplotlib, which is missing: pip install -e '.[bench]'" in done.stderr
    assert "Traceback" not in done.stderr
