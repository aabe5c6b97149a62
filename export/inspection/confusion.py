"""Reads the export's counts of the answers for each label's examples."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from service.contract.artifact import GOLDEN, Artifact

MOST_SHOWN = 10  # confusions in a terminal


def read_confusion(artifact: Artifact) -> NDArray[np.int64] | None:
    """Read the counts [label, answer] of the export's examples; None if they had no labels."""
    manifest = artifact.manifest
    if GOLDEN not in manifest.files:
        return None
    try:
        with np.load(io.BytesIO(artifact.read(GOLDEN)), allow_pickle=False) as file:
            name = f"{manifest.network.form}.confusion"
            found = file[name] if name in file.files else None
    except Exception:  # a damaged file may raise anything; the server's golden test reports it
        return None
    is_sound = found is not None and found.dtype.kind in "iu" and found.shape == (len(manifest.labels),) * 2
    return found if is_sound else None


def confusion_table(counts: NDArray[np.int64], labels: Sequence[str]) -> Table | Text:
    """Show the most frequent confusions in a terminal."""
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.any():
        return Text("no confusions")  # a table without rows would fill the line with blanks
    table = Table(title="confusions", title_justify="left", box=SIMPLE_HEAD, padding=0)
    for heading in ("label", "answered as", "times"):
        table.add_column(heading, justify="right" if heading == "times" else "left")
    for index in np.argsort(-wrong, axis=None, kind="stable")[:MOST_SHOWN]:
        label, answer = divmod(int(index), len(labels))
        if wrong[label, answer]:
            table.add_row(escape(labels[label]), escape(labels[answer]), f"{wrong[label, answer]:,}")
    return table
