"""Many files: finds them and their labels, and counts the right answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from hetsyn_client.errors import InputError
from hetsyn_client.sources.files import H5, SUFFIXES, h5_labels

NOTHING, NO_WORD = "nothing heard", "no word"
SOUNDS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
    *(".w64", ".rf64"),
)
"""Suffixes of recordings in a folder; a file that is named itself may have another one."""


class Input(NamedTuple):
    """One of many inputs.

    Attributes:
        example: its number in a .h5 file; None for another file.
        label: the .h5 file's.
    """

    path: Path
    example: int | None = None
    label: str | None = None

    @property
    def name(self) -> str:
        """Return the name for people."""
        return str(self.path) if self.example is None else f"{self.path}[{self.example}]"


class Heard(NamedTuple):
    """A file and what was heard in it.

    Attributes:
        truth: the label in the name of folder or file; None without.
        labels: heard labels, in order.
        probability: the last label's; None without.
        error: why the file could not be streamed, else empty.
        is_no_word: the model answers ``truth`` with null.
        unnamed: number of utterances with something that is no word of the model.
    """

    file: str
    truth: str | None
    labels: tuple[str, ...]
    probability: float | None
    duration_s: float
    error: str = ""
    is_no_word: bool = False
    unnamed: int = 0

    @property
    def is_right(self) -> bool | None:
        """Return whether only the label was heard; None without a label, or if the file was not streamed."""
        if self.truth is None or self.error:
            return None
        return self.labels == (() if self.is_no_word else (self.truth,))

    def as_json(self) -> dict[str, Any]:
        told = self._asdict() | {"labels": list(self.labels), "right": self.is_right, "error": self.error or None}
        del told["is_no_word"]
        return {"type": "File", **told}


def find_inputs(paths: Iterable[Path]) -> list[Input]:
    """Find the inputs to stream: files, files of folders and their subfolders in order, and examples of .h5 files.

    Raises:
        InputError: a folder is empty, or a .h5 file cannot be read.
    """
    inputs: list[Input] = []
    for path in _files(paths):
        if path.suffix.lower() in H5:
            inputs += [Input(path, number, label) for number, label in enumerate(h5_labels(path))]
        else:
            inputs.append(Input(path))
    return inputs


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(
            each
            for each in path.rglob("*")
            if each.suffix.lower() in (*SOUNDS, *SUFFIXES)
            and each.is_file()
            and not any(part.startswith(".") for part in each.relative_to(path).parts)
        )
        if not found:
            raise InputError(
                f"{path}: has no recording and no .h5, .npz, .npy or .csv file: name a folder that has some"
            )
        files += found
    return files


def truth_of(heard: Input, labels: Sequence[str]) -> str | None:
    """Find the label that a .h5 file gives; else the one of a folder's or file's name, as ``seven_anna_0.wav``."""
    known = {label.casefold(): label for label in labels}
    if heard.example is not None:
        return known.get((heard.label or "").casefold())
    file = heard.path
    stem = file.stem.casefold()
    for name in (file.resolve().parent.name.casefold(), stem, re.split(r"[_.\- ]", stem, maxsplit=1)[0]):
        if name in known:
            return known[name]
    return None


def file_line(heard: Heard) -> Text:
    """Write what was heard in a file, for people."""
    line = Text(f"{heard.file}: ")
    if heard.error:
        return line.append(heard.error.removeprefix(f"{heard.file}: "), style="red")
    is_right = heard.is_right
    style = "bold" if is_right is None else "bold green" if is_right else "bold red"
    line.append(" ".join(heard.labels) or (NO_WORD if heard.unnamed else NOTHING), style=style)
    if heard.probability is not None and len(heard.labels) == 1:
        line.append(f"  {heard.probability:.1%}")
    return line.append(f"  (is {heard.truth})" if is_right is False else "")


class Summary(NamedTuple):
    """Counts of streamed and of rightly heard files.

    Attributes:
        files: streamed files.
        failed: files that could not be streamed.
        labelled: streamed files with a label.
        took_s: seconds of all of it.
    """

    files: int
    failed: int
    labelled: int
    right: int
    duration_s: float
    took_s: float

    @staticmethod
    def of(all_heard: Sequence[Heard], took_s: float) -> Summary:
        verdicts = [heard.is_right for heard in all_heard]
        failed = sum(bool(heard.error) for heard in all_heard)
        labelled = sum(verdict is not None for verdict in verdicts)
        duration_s = sum(heard.duration_s for heard in all_heard)
        return Summary(len(all_heard) - failed, failed, labelled, verdicts.count(True), duration_s, took_s)

    @property
    def accuracy(self) -> float | None:
        return self.right / self.labelled if self.labelled else None

    def as_json(self) -> dict[str, Any]:
        return {"type": "Summary", **self._asdict(), "accuracy": self.accuracy}

    def line(self) -> str:
        """Write the summary for people."""
        files = "1 file" if self.files == 1 else f"{self.files:,} files"
        text = f"{files}, {self.duration_s:.1f} s of input in {self.took_s:.1f} s"
        if self.failed:
            text += f", {self.failed:,} not streamed"
        if self.accuracy is None:
            return f"{text}; no accuracy: no folder, file or label in a .h5 file has a label of the model"
        return f"{text}: {self.right:,} of {self.labelled:,} right ({self.accuracy:.1%})"


def label_table(all_heard: Sequence[Heard]) -> Table | None:
    """Tabulate how the files of each label were heard; None if no file has a label."""
    labelled = [heard for heard in all_heard if heard.is_right is not None]
    if not labelled:
        return None
    table = Table()
    table.add_column("label", no_wrap=True)
    for heading in ("files", "right"):
        table.add_column(heading, justify="right")
    table.add_column("else heard as")
    for label in dict.fromkeys(sorted(str(heard.truth) for heard in labelled)):
        of_label = [heard for heard in labelled if heard.truth == label]
        wrong = Counter(" ".join(heard.labels) or "nothing" for heard in of_label if not heard.is_right)
        others = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in wrong.most_common())
        right = sum(bool(heard.is_right) for heard in of_label)
        table.add_row(Text(label), str(len(of_label)), str(right), Text(others))
    return table
