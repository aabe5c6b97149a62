"""``hetsyn run`` against ``hetsyn stream`` and its server: the same frames to the bit, for every kind of input."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from hetsyn import main
from hetsyn_client.errors import HetsynError
from hetsyn_client.terminal.backend import Backend, Server
from hetsyn_client.terminal.commands import stream
from hetsyn_client.terminal.options import Choices
from hetsyn_client.terminal.streaming import stream_all
from hetsyn_model.training.config import load_config
from hetsyn_model.training.datasets.examples import SpikeStream
from hetsyn_model.training.datasets.readers import read
from service.commands.in_process import InProcess
from service.commands.run import run
from service.contract.folder import named_artifact
from tests.support.artifacts.leaky_values import write_leaky
from tests.support.data.microphone import RATE_HZ, spoken
from tests.support.data.wav import at_0_hz, wav
from tests.support.paths import MODELS, RECORDINGS, SPEECH
from tests.support.servers.socket_server import running

WORDS = ("three", "seven", "zero")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(MODELS) as address:
        yield address


def lines_of(command: Any, *arguments: str) -> list[str]:
    done = CliRunner().invoke(command, list(arguments), env={"COLUMNS": "200"})
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output.splitlines()


def frames(lines: list[str]) -> list[dict[str, Any]]:
    """Frames, without what two sessions never share."""
    mine = ("session", "max_inflight", "expires_at", "took_s")
    return [{name: value for name, value in json.loads(line).items() if name not in mine} for line in lines]


def both(url: str, model: str, *options: str) -> list[dict[str, Any]]:
    """The frames of a file, which server and ``hetsyn run`` give alike."""
    streamed = frames(lines_of(stream, *options, "--json", "--url", url, "--model", model))
    ran = frames(lines_of(run, model, *options, "--json", "--models", str(MODELS)))
    assert ran == streamed
    return ran


@pytest.mark.parametrize(("choice", "heard"), [("--one-word", 1), ("--utterances", 3)])
def test_sound(url: str, tmp_path: Path, choice: str, heard: int) -> None:
    (tmp_path / "words.wav").write_bytes(wav(spoken(*WORDS), RATE_HZ))
    told = both(url, "speech-digits", str(tmp_path / "words.wav"), choice, "--chunk-ms", "70")
    ends = [frame["label"] for frame in told if frame["type"] == "UtteranceEnd" and frame["label"]]
    assert len(ends) == heard
    assert heard == 1 or ends == list(WORDS)


def test_sound_of_another_rate_in_floats(url: str, tmp_path: Path) -> None:
    samples, rate_hz = soundfile.read(RECORDINGS / "seven.wav")
    soundfile.write(tmp_path / "seven.flac", np.stack([samples, samples], 1), 2 * rate_hz)
    told = both(url, "speech-digits", str(tmp_path / "seven.flac"), "--one-word")
    assert told[-1]["end"] == pytest.approx(len(samples) / rate_hz / 2, abs=0.2)


@pytest.mark.parametrize("model", ["delayed-match", "shd-words", "pattern-generation"])
def test_spikes(url: str, tmp_path: Path, model: str) -> None:
    channels = json.loads((MODELS / model / "1/manifest.json").read_text())["input"]["channels"]
    np.savez(tmp_path / "spikes.npz", spikes=np.random.default_rng(0).random((383, channels)) < 0.05)
    told = both(url, model, str(tmp_path / "spikes.npz"))
    assert told[-1]["type"] == "UtteranceEnd"
    assert sum(frame["type"] == "Result" for frame in told) > 1


@pytest.mark.parametrize("kind", ["uint16", "float16"])
def test_times_of_any_number_type(url: str, tmp_path: Path, kind: str) -> None:
    """As ``hetsyn train`` puts them into steps, so that the tested accuracy is the served one."""
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 300, 4000) if kind == "uint16" else rng.uniform(0, 1.2, 4000)).astype(kind)
    units = rng.integers(0, 700, 4000)
    np.savez(tmp_path / "times.npz", times=times, units=units, offsets=[0, 4000], labels=[0])
    (trained,) = read(tmp_path / "times.npz", load_config("spikes")).items
    assert isinstance(trained, SpikeStream)
    spikes = np.zeros((trained.length, 700), bool)
    spikes[trained.steps, trained.units] = True
    np.savez(tmp_path / "steps.npz", spikes=spikes)
    told, expected = (both(url, "shd-words", str(tmp_path / name)) for name in ("times.npz", "steps.npz"))
    assert told == expected


def test_values(tmp_path: Path) -> None:
    write_leaky(tmp_path / "models", "sensor", channels=3)
    np.save(tmp_path / "sensor.npy", np.random.default_rng(0).normal(size=(57, 3)))
    with running(tmp_path / "models") as address:
        streamed = frames(lines_of(stream, str(tmp_path / "sensor.npy"), "--json", "--url", address))
    ran = frames(lines_of(run, str(tmp_path / "models/sensor"), str(tmp_path / "sensor.npy"), "--json"))
    assert ran == streamed


def test_a_folder_is_summed_up(url: str) -> None:
    told = both(url, "speech-digits", str(RECORDINGS))
    *files, summary = told
    assert [file["labels"] for file in files] == [[Path(file["file"]).stem] for file in files]
    assert summary["files"] == summary["right"] == summary["labelled"] == 10
    assert summary["accuracy"] == 1.0
    for lines in (
        lines_of(stream, *map(str, sorted(RECORDINGS.glob("*.wav"))), "--url", url),
        lines_of(run, "speech-digits", *map(str, sorted(RECORDINGS.glob("*.wav"))), "--models", str(MODELS)),
    ):
        assert f"{RECORDINGS / 'seven.wav'}: seven" in lines[5]
        assert lines[-1].endswith(": 10 of 10 right (100.0%)")


def test_a_file_that_is_no_recording_does_not_stop_a_folder(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/broken.wav").write_bytes(b"nothing")
    (tmp_path / "one/good.wav").write_bytes((RECORDINGS / "one.wav").read_bytes())
    (tmp_path / "one/wrong.wav").write_bytes((RECORDINGS / "two.wav").read_bytes())
    (tmp_path / "one/read.me").write_bytes(b"nothing")
    done = CliRunner().invoke(run, [str(MODELS / "speech-digits"), str(tmp_path)], env={"COLUMNS": "200"})
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert "one/broken.wav: this is not a WAV file" in lines[0]
    assert "one/wrong.wav: two" in lines[2]
    assert lines[2].endswith("(is one)")
    assert ", 1 not streamed: 1 of 2 right (50.0%)" in lines[-1]
    assert lines[-3].split() == ["│", "one", "│", "2", "│", "1", "│", "two", "│"]


def test_it_needs_neither_torch_nor_a_server_nor_a_picture() -> None:
    arguments = ["hetsyn", "run", "speech-digits", str(RECORDINGS / "seven.wav"), "--models", str(MODELS)]
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'fastapi', 'starlette', 'uvicorn', 'matplotlib', 'onnx'))\n"
        f"sys.argv = {arguments!r}\n"
        "import hetsyn\n"
        "hetsyn.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"seven.wav: seven (speech-digits {SPEECH.name})"


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["no-such-model", "a.wav"], "there is no such file"),
        (
            ["no-such-model", str(RECORDINGS)],
            r"no such model: name the folder of an artifact, or a model \(.*speech-digits",
        ),
        (["speech-digits", "-", str(RECORDINGS)], "standard input, which goes alone"),
        (["shd-size", str(RECORDINGS / "one.wav")], "takes spikes, not audio"),
        (["shd-size", str(RECORDINGS / "one.wav"), "--utterances"], "takes spikes, not audio"),
        (["pattern-generation", str(RECORDINGS)], "draws a trace, which has no labels"),
        (["speech-digits", str(MODELS / "default")], "give a whole recording"),
        (["speech-digits", "0-hz.wav"], r"0-hz\.wav: the WAV file has a rate of 0 Hz: its header is damaged"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(
    arguments: list[str], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("0-hz.wav").write_bytes(at_0_hz(wav(bytes(1600))))
    done = CliRunner().invoke(run, [*arguments, "--models", str(MODELS)])
    assert isinstance(done.exception, HetsynError), done.output
    assert re.search(advice, str(done.exception)), done.exception


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ([str(RECORDINGS)], "model"),
        ([str(RECORDINGS / "one.wav")], "model"),
        (["-"], "model"),
        ([str(RECORDINGS), str(RECORDINGS / "one.wav")], "model"),
        (["speech-digits"], "FILE"),
        ([str(MODELS / "speech-digits")], "FILE"),
        ([str(SPEECH)], "FILE"),
    ],
)
def test_a_missing_argument_is_the_one_that_is_named(
    arguments: list[str], missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hetsyn", "run", *arguments, "--models", str(MODELS)])
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    named = f"{arguments[0]} is no model: name one before it, as in hetsyn run speech-digits {arguments[0]}"
    assert (named if missing == "model" else "Missing argument 'FILE|FOLDER|-...'") in capsys.readouterr().err


def containers(content: bytes) -> dict[str, bytes]:
    """Sound as files of each kind that a program may write to a pipe."""
    samples = np.frombuffer(content, "<i2")
    files = {"raw": content}
    for name, subtype in (("wav", "PCM_16"), ("wav of 24 bits", "PCM_24")):
        file = io.BytesIO()
        soundfile.write(file, samples, RATE_HZ, format="WAV", subtype=subtype)
        files[name] = file.getvalue()
    header = wav(b"", RATE_HZ, channels=2)
    files["wav of two channels whose length is open"] = header + np.repeat(samples, 2).tobytes()
    files["wav with something after the sound"] = files["wav"] + b"LIST" + bytes(3001)
    return files


def feed(backend: Backend, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stream a pipe."""
    read, write = os.pipe()

    def writes() -> None:
        with os.fdopen(write, "wb") as pipe:
            pipe.write(content)

    writer = threading.Thread(target=writes)
    writer.start()
    with os.fdopen(read) as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        choices = Choices([Path("-")], None, False, 100.0, RATE_HZ, 1, None)
        stream_all(lambda: backend, choices)
        writer.join()
        for thread in threading.enumerate():
            if thread.name == "standard input":  # else it would read from the next file of this number
                thread.join()


@pytest.mark.parametrize("name", containers(bytes(8)))
def test_a_header_on_standard_input_is_recognised(
    url: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = containers(spoken(*WORDS))[name]
    for backend in (Server(url, "speech-digits"), InProcess(named_artifact(Path("speech-digits"), MODELS))):
        feed(backend, content, monkeypatch)
        said = f"standard input: three seven zero (speech-digits {SPEECH.name})"
        assert capsys.readouterr().out.splitlines()[-1] == said
