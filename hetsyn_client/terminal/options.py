"""The options that ``hetsyn stream`` and ``hetsyn run`` share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

INPUT = "Standard input"


class EncodingName(StrEnum):
    pcm_s16le = "pcm_s16le"
    pcm_s24le = "pcm_s24le"
    pcm_f32le = "pcm_f32le"
    mulaw = "mulaw"
    alaw = "alaw"
    values = "values"


Utterances = Annotated[
    bool | None,
    typer.Option(
        "--utterances/--one-word",
        help="Find the words of a stream, or take each file as one. Default: the words, where the model says how to "
        "find them; of many files, each is one.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each event.")]
Save = Annotated[
    Path | None,
    typer.Option(help="Draw the spikes of all layers and the probabilities over time into this .png or .svg file."),
]
ChunkMs = Annotated[
    float | None, typer.Option(min=1, max=60_000, help="Length of a chunk; by default 100, 20 for a picture.")
]
Rate = Annotated[
    int, typer.Option("--rate", min=1, help="Sample rate of samples without a header, in Hz.", rich_help_panel=INPUT)
]
Channels = Annotated[
    int,
    typer.Option(
        "--channels", min=1, help="Channels of such samples, or numbers of a row of values.", rich_help_panel=INPUT
    ),
]
EncodingChoice = Annotated[
    EncodingName | None,
    typer.Option(
        "--encoding", help="Encoding of such samples, by default pcm_s16le; or values.", rich_help_panel=INPUT
    ),
]
DEFAULT_RATE_HZ = 16_000
