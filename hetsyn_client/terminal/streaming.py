"""Runs ``hetsyn stream`` and ``hetsyn run`` on any backend."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from hetsyn_client.errors import HetsynError, InputError, ServiceUnreachable
from hetsyn_client.sources.files import H5
from hetsyn_client.terminal.backend import Backend, Frame
from hetsyn_client.terminal.listen import Stop, interruptible, listen
from hetsyn_client.terminal.many_files import Heard, Input, Summary, file_line, find_inputs, label_table, truth_of
from hetsyn_client.terminal.options import Choices
from hetsyn_client.terminal.output import open_console
from hetsyn_client.terminal.show import printer
from hetsyn_client.terminal.source import Source, file_source, standard_input_source
from hetsyn_client.terminal.standard_input import StandardInput

STANDARD_INPUT = Path("-")


def stream_all(open_backend: Callable[[], Backend], choices: Choices) -> None:
    """Stream the user's inputs, and show the answers. The backend is opened after the choices were checked.

    Raises:
        HetsynError: an input cannot be used, or the backend fails.
        typer.Exit: some of many files could not be streamed.
    """
    first = choices.files[0]
    is_many = len(choices.files) > 1 or first.is_dir() or first.suffix.lower() in H5
    for path in choices.files:
        if path == STANDARD_INPUT and is_many:
            raise InputError("- is standard input, which goes alone: name either - or files")
        if path != STANDARD_INPUT and not path.exists():
            raise InputError(f"{path}: there is no such file: name a recording, a folder, or - for standard input")
    backend = open_backend()
    described = backend.describe()
    with interruptible() as stop:
        if is_many:
            _stream_many(backend, described, choices, stop)
        else:
            _stream_one(backend, described, choices, stop)


def _stream_one(backend: Backend, described: Mapping[str, Any], choices: Choices, stop: Stop) -> None:
    path = choices.files[0]
    if path == STANDARD_INPUT:
        source = _open_standard_input(stop, choices)
    else:
        source = file_source(path, choices.chunk_s, described)
    words = _has_words(described, source) if choices.utterances is None else choices.utterances
    with printer(source.name, words=words, as_json=choices.as_json) as show:
        listen(backend, source, show, stop, endpointing=words)


def _stream_many(backend: Backend, described: Mapping[str, Any], choices: Choices, stop: Stop) -> None:
    if described["decision"]["rule"] == "trace":
        raise InputError(f"model {described['name']!r} draws a trace, which has no labels: stream one file at a time")
    inputs = find_inputs(choices.files)
    console = open_console()
    all_heard: list[Heard] = []
    began_s = time.monotonic()
    for each in inputs:
        if stop():
            break
        heard = _stream_input(backend, described, choices, each, stop)
        all_heard.append(heard)
        if choices.as_json:
            typer.echo(json.dumps(heard.as_json()))
        else:
            console.print(file_line(heard), soft_wrap=True)
    summary = Summary.of(all_heard, time.monotonic() - began_s)
    if choices.as_json:
        typer.echo(json.dumps(summary.as_json()))
    else:
        table = label_table(all_heard)
        if table is not None:
            console.print(table)
        console.print(Text(summary.line()), soft_wrap=True)
    if summary.failed:
        raise typer.Exit(1)


def _stream_input(backend: Backend, described: Mapping[str, Any], choices: Choices, each: Input, stop: Stop) -> Heard:
    """Stream one of many inputs. If it fails, the others still run."""
    labels, duration_s, probability, unnamed = list[str](), 0.0, None, 0

    def hear(frame: Frame) -> None:
        nonlocal duration_s, probability, unnamed
        if frame["type"] == "Result":
            duration_s = frame["start"] + frame["duration"]
        elif frame["type"] == "UtteranceEnd" and frame["label"] is not None:
            labels.append(frame["label"])
            probability = max(frame["probabilities"])
        elif frame["type"] == "UtteranceEnd" and frame["probabilities"] is not None:
            unnamed += 1

    truth, error = truth_of(each, described["labels"]), ""
    rejected = described.get("rejected_labels", ())  # older servers lack it
    try:
        source = file_source(each.path, choices.chunk_s, described, each.example)
        listen(backend, source, hear, stop, endpointing=bool(choices.utterances))
    except ServiceUnreachable:
        raise
    except HetsynError as problem:
        error = str(problem)
    return Heard(each.name, truth, tuple(labels), probability, duration_s, error, truth in rejected, unnamed)


def _open_standard_input(stop: Stop, choices: Choices) -> Source:
    """Read a pipe until its end or ``stop``.

    Raises:
        InputError: standard input is a terminal, or neither sound nor values.
    """
    if sys.stdin is None or sys.stdin.isatty():
        there = "closed" if sys.stdin is None else "a terminal"
        raise InputError(f"standard input is {there}: send sound into it, as 'arecord -f S16_LE -r 16000 | ...'")
    incoming = StandardInput(sys.stdin.fileno(), stop)
    return standard_input_source(incoming, choices.chunk_s, choices.rate, choices.channels, choices.values)


def _has_words(described: Mapping[str, Any], source: Source) -> bool:
    """Return whether the model has settings to find words in this kind of input."""
    encoder = described["encoder"]
    own = "spikes" if encoder is None else encoder["kind"]
    return described.get("endpointing") is not None and own == source.kind
