"""Prints answers as lines: of one word, of utterances, or of JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from hetsyn_client.terminal.backend import Frame
from hetsyn_client.terminal.listen import Hear
from hetsyn_client.terminal.many_files import NO_WORD, NOTHING
from hetsyn_client.terminal.output import open_console

BAR_WIDTH = 30
LABEL_WIDTH = 12


class Json:
    """A line of JSON for each frame."""

    def __call__(self, frame: Frame) -> None:
        typer.echo(json.dumps(frame))


class OneWord:
    """Shows a line for each chunk, which ``update`` may overwrite, and the answer to the whole input."""

    def __init__(self, name: str, console: Console, update: Callable[[Text], None]) -> None:
        self._name = name
        self._console = console
        self._update = update
        self._begin: Frame = {}
        self._end: Frame = {}

    def __call__(self, frame: Frame) -> None:
        if frame["type"] == "Begin":
            self._begin = frame
        elif frame["type"] == "Result":
            self._update(_progress(frame))
        elif frame["type"] == "UtteranceEnd":
            self._end = frame

    def verdict(self) -> None:
        """Show the answer to the whole input."""
        line, end = Text(f"{self._name}: "), self._end
        if end["label"] is not None:
            line.append(end["label"], style="bold green").append(f"  {max(end['probabilities']):.1%}")
        elif end["probabilities"] is not None:
            line.append(NO_WORD, style="bold green")
        else:  # a trace
            line.append(f"{round(1000 * end['end'] / self._begin['step_ms'])} steps")
        self._console.print(line.append(f" ({model_of(self._begin)})"), soft_wrap=True)


class Words:
    """Shows a line for each utterance in which something was heard, and at last all of them.

    ``update`` shows what is heard now; None if a line cannot be overwritten.
    """

    def __init__(self, name: str, console: Console, update: Callable[[Text], None] | None) -> None:
        self._name = name
        self._console = console
        self._update = update
        self._begin: Frame = {}
        self._words: list[str] = []
        self._nothing = NOTHING

    def __call__(self, frame: Frame) -> None:
        if frame["type"] == "Begin":
            self._begin = frame
        elif frame["type"] == "Result" and self._update is not None:
            self._update(_progress(frame))
        elif frame["type"] == "UtteranceEnd" and frame["probabilities"] is not None:
            line = Text(f"{frame['start']:7.2f} - {frame['end']:7.2f} s  ")
            if frame["label"] is None:
                self._nothing = NO_WORD
                line.append(NO_WORD, style="dim")
            else:
                self._words.append(frame["label"])
                line.append(f"{frame['label']:<{LABEL_WIDTH}}", style="bold green")
                line.append(f" {max(frame['probabilities']):6.1%}")
            self._console.print(line, soft_wrap=True)

    def verdict(self) -> None:
        """Show all words."""
        line = Text(f"{self._name}: ").append(" ".join(self._words) or self._nothing, style="bold green")
        self._console.print(line.append(f" ({model_of(self._begin)})"), soft_wrap=True)


@contextmanager
def printer(name: str, *, words: bool, as_json: bool) -> Iterator[Hear]:
    """Show the frames of a stream: its utterances or one answer, for people or as JSON."""
    if as_json:
        yield Json()
        return
    console = open_console()
    shown: OneWord | Words
    if not console.is_terminal:
        if words:
            shown = Words(name, console, None)
        else:
            shown = OneWord(name, console, lambda line: console.print(line, soft_wrap=True))
        yield shown
    else:
        with Live(console=console, auto_refresh=False, transient=words) as live:
            kind = Words if words else OneWord
            shown = kind(name, console, lambda line: live.update(line, refresh=True))
            yield shown
    shown.verdict()


def model_of(begin: Frame) -> str:
    """Name the model of a stream, for people."""
    return f"{begin['model']} {begin['version']}"


def _progress(result: Frame) -> Text:
    line = Text(f"{result['start'] + result['duration']:7.2f} s  ")
    if "readout" in result:
        last = result["readout"][-1] if result["readout"] else []
        return line.append("  ".join(f"{value:+.3f}" for value in last))
    share = max(result["probabilities"] or [0.0])
    filled = round(share * BAR_WIDTH) if result["label"] else 0
    line.append(f"{result['label'] or '...':<{LABEL_WIDTH}} ", style="bold")
    line.append("█" * filled, style="green").append("░" * (BAR_WIDTH - filled), style="dim")
    return line.append(f" {share:6.1%}" if result["label"] else "")
