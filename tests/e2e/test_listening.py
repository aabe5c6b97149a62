"""``hetsyn stream -`` and ``hetsyn run MODEL -`` as programs: live sound on standard input, and Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tests.support.data.microphone import RATE_HZ, spoken
from tests.support.paths import GSC, ROOT, SPEECH
from tests.support.servers.server_process import RestartableServer
from tests.support.tools import NO_COMMANDS, NO_TERMINALS

pytestmark = pytest.mark.process

pty = pytest.importorskip("pty", reason="no pseudo-terminals: only POSIX has them")
WORDS = ("three", "seven", "zero")
RAW = ("--rate", str(RATE_HZ))


def hetsyn(*arguments: str) -> subprocess.Popen[bytes]:
    command, pipe = [sys.executable, "-m", "hetsyn", *arguments], subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)


def heard(lines: list[str]) -> list[str]:
    """The words that lines of a time and a word show."""
    return [line.split()[4] for line in lines if " s  " in line]


def command_of(kind: str, url: str) -> list[str]:
    return ["stream", "-", "--url", url] if kind == "stream" else ["run", "speech-digits", "-"]


@pytest.mark.parametrize("kind", ["stream", "run"])
def test_a_word_shows_before_anything_else_comes(url: str, kind: str) -> None:
    with hetsyn(*command_of(kind, url), *RAW) as listener:
        assert listener.stdin is not None
        assert listener.stdout is not None
        listener.stdin.write(spoken("seven"))
        listener.stdin.flush()
        assert heard([listener.stdout.readline().decode()]) == ["seven"]
        listener.stdin.write(spoken("two"))
        listener.stdin.close()
        rest = listener.stdout.read().decode().splitlines()
    assert listener.returncode == 0
    assert heard(rest) == ["two"]
    assert rest[-1] == f"standard input: seven two (speech-digits {SPEECH.name})"


@pytest.mark.parametrize("kind", ["stream", "run"])
def test_what_is_no_word_has_a_line_too(url: str, kind: str) -> None:
    command = [sys.executable, "-m", "hetsyn", *command_of(kind, url), *RAW]
    said = reversed_words()[0] + spoken("two")
    lines = subprocess.run(command, cwd=ROOT, input=said, capture_output=True, check=True).stdout.decode().splitlines()
    assert [line.partition(" s  ")[2].partition("  ")[0] for line in lines[:-1]] == ["no word", "two"]
    assert lines[-1] == f"standard input: two (speech-digits {SPEECH.name})"


@pytest.mark.parametrize("kind", ["stream", "run"])
def test_ctrl_c_ends_the_input_and_what_came_is_answered(url: str, kind: str) -> None:
    with hetsyn(*command_of(kind, url), *RAW) as listener:
        assert listener.stdin is not None
        assert listener.stdout is not None
        listener.stdin.write(spoken("seven") + spoken("two")[: 2 * RATE_HZ])  # the second word has not ended
        listener.stdin.flush()
        assert heard([listener.stdout.readline().decode()]) == ["seven"]
        listener.send_signal(signal.SIGINT)
        rest = listener.stdout.read().decode().splitlines()
        assert listener.wait(timeout=30) == 0
        assert listener.stderr is not None
        assert listener.stderr.read() == b""
    assert rest[-1].startswith("standard input: seven")


def test_a_server_that_is_started_again_is_found_again(tmp_path: Path) -> None:
    server = RestartableServer("--store", f"file://{tmp_path / 'sessions.db'}")
    try:
        server.ready()
        with hetsyn("stream", "-", "--url", server.url, *RAW) as listener:
            assert listener.stdin is not None
            assert listener.stdout is not None
            word = spoken("seven")
            listener.stdin.write(word + spoken("two")[: 2 * RATE_HZ])  # the server ends in the midst of a word
            listener.stdin.flush()
            first = listener.stdout.readline().decode().rstrip()
            server.kill()
            server.restart()
            listener.stdin.write(spoken("two")[2 * RATE_HZ :])
            listener.stdin.close()
            lines = [first, *listener.stdout.read().decode().splitlines()]
        assert listener.returncode == 0
    finally:
        server.stop()
    assert lines[:-1] == lines_of_run(word + spoken("two"))


def lines_of_run(content: bytes) -> list[str]:
    """The words that ``hetsyn run`` hears, undisturbed."""
    command = [sys.executable, "-m", "hetsyn", "run", "speech-digits", "-", *RAW]
    done = subprocess.run(command, cwd=ROOT, input=content, capture_output=True, check=True)
    return done.stdout.decode().splitlines()[:-1]


def test_on_a_terminal_the_line_below_is_overwritten(tmp_path: Path) -> None:
    try:
        terminal, stdout = pty.openpty()
    except OSError:
        pytest.skip(NO_TERMINALS)
    (tmp_path / "words.raw").write_bytes(spoken("seven", "two"))
    command = [sys.executable, "-m", "hetsyn", "run", "speech-digits", "-", *RAW]
    with (tmp_path / "words.raw").open("rb") as words:
        listener = subprocess.Popen(command, cwd=ROOT, stdin=words, stdout=stdout, env=os.environ | {"TERM": "xterm"})
    os.close(stdout)
    written = b""
    try:
        while more := os.read(terminal, 4096):
            written += more
    except OSError:  # Linux says so when nobody writes any more
        pass
    os.close(terminal)
    assert listener.wait() == 0
    text = re.sub(r"\x1b\[[?0-9;]*m", "", written.decode())
    assert re.search(r"\r\x1b\[2K +1\.\d0 s  seven", text)  # what is heard just now
    final = [line.rpartition("\x1b[2K")[2] for line in text.replace("\r\n", "\n").split("\n")]
    assert heard([line for line in final if " - " in line]) == ["seven", "two"]
    assert final[-2].endswith(f"standard input: seven two (speech-digits {SPEECH.name})")


def test_words_are_recorded_until_there_are_enough(url: str, tmp_path: Path) -> None:
    """The files have the samples that were said, and the network hears each word in its own."""
    said, folder = spoken(*WORDS), tmp_path / "words/three"
    for count, new in (("2", [1, 2]), ("0", [3, 4, 5])):
        command = [sys.executable, "examples/record.py", str(folder), "--url", url, *RAW, "--count", count]
        shown = subprocess.run(command, cwd=ROOT, input=said, stdout=subprocess.PIPE, check=True).stdout.decode()
        assert shown.splitlines()[-1] == f"{folder}: {len(new)} new recordings"
        for number, word in zip(new, WORDS, strict=False):
            path = folder / f"{number:03}.wav"
            assert path.read_bytes()[44:] in said
            done = subprocess.run(
                [sys.executable, "-m", "hetsyn", "run", "speech-digits", str(path), "--one-word"],
                cwd=ROOT, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert done.stdout.splitlines()[-1].startswith(f"{path.name}: {word}  ")
    assert len(list(folder.iterdir())) == 5


def reversed_words() -> list[bytes]:
    """Words that nobody has trained on, at ``RATE_HZ``: shipped recordings, backwards."""
    return [np.frombuffer(spoken(word), "<i2")[::-1].tobytes() for word in ("zero", "one", "five")]


def recorded_words() -> list[bytes]:
    """Takes of *yes* by three people."""
    if not GSC.is_dir():
        pytest.skip(NO_COMMANDS)
    takes = (soundfile.read(path, dtype="int16") for path in sorted((GSC / "yes").glob("*.flac"))[:3])
    return [spoken() + soxr.resample(sound, rate_hz, RATE_HZ).tobytes() + spoken() for sound, rate_hz in takes]


@pytest.mark.parametrize("words_of", [reversed_words, recorded_words])
def test_words_that_the_model_does_not_know_are_recorded_and_what_is_no_word_is_said(
    url: str, tmp_path: Path, words_of: Callable[[], list[bytes]]
) -> None:
    words, rng = words_of(), np.random.default_rng(0)
    click = rng.normal(0, 3_000, RATE_HZ // 100).astype("<i2").tobytes()
    steady = rng.normal(0, 3_000, 5 * RATE_HZ).astype("<i2").tobytes()
    sentence = b"".join(spoken(word)[9_600:-9_600] for word in (*WORDS, *WORDS))  # without the pauses
    said = b"".join([*words, click, spoken(), sentence, spoken(), steady, spoken()])
    folder = tmp_path / "words"
    command = [sys.executable, "examples/record.py", str(folder), "--url", url, *RAW]
    done = subprocess.run(command, cwd=ROOT, input=said, capture_output=True, check=True)
    *lines, last = done.stdout.decode().splitlines()
    assert last == f"{folder}: 3 new recordings"
    assert [line.split("  ")[-1] for line in lines[:3]] == [f"{folder}/{number:03}.wav" for number in (1, 2, 3)]
    whys = ("too short", "too long: say one word, then pause", "steady noise")
    assert [line.partition(" s  ")[2] for line in lines[3:]] == [f"not kept, {why}" for why in whys]
    assert all(path.read_bytes()[44:] in said for path in folder.iterdir())
    command = [sys.executable, "-m", "hetsyn", "run", "speech-digits", str(folder)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split(": ")[1] for line in answer.splitlines()[:3]] == ["no word"] * 3


def test_nothing_recorded_is_an_error(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "examples/record.py", str(tmp_path / "yes"), "--url", url, *RAW]
    done = subprocess.run(command, cwd=ROOT, input=spoken(), capture_output=True, check=False)
    assert done.returncode == 1
    assert b"nothing was recorded: is the microphone on" in done.stderr
