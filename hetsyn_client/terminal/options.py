"""The options that several commands share: the server, and how input is streamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT_URL = "http://127.0.0.1:8000"  # the default of hetsyn serve
ACCESS, INPUT = "Access", "Standard input"

Url = Annotated[
    str,  # the whole default would be cut at 80 columns
    typer.Option(
        "--url", envvar="HETSYN_URL", show_default=False, help="The server. Default: port 8000 of this machine."
    ),
]
Model = Annotated[str | None, typer.Option("--model", help="Model. Default: the server's default model.")]
Key = Annotated[
    str | None,
    typer.Option("--key", envvar="HETSYN_KEY", help="Sent as Authorization: Bearer KEY.", rich_help_panel=ACCESS),
]
Header = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="NAME:VALUE", help="Sent with every request; repeatable.", rich_help_panel=ACCESS),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        envvar="HETSYN_CA_FILE",
        help="Certificates to trust in place of the usual ones, PEM.",
        rich_help_panel=ACCESS,
    ),
]


Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE|FOLDER|-...",
        help="Recordings (WAV, FLAC, Ogg, MP3), or spikes or values (.h5, .npz, .npy, .csv); folders of them; or - for "
        "sound on standard input.",
    ),
]
Utterances = Annotated[
    bool | None,
    typer.Option(
        "--utterances/--one-word",
        help="Find the words in the input, or take each file as one word. Default: find them, if the model can; of "
        "several files, take each as one.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each event.")]
ChunkMs = Annotated[float, typer.Option(min=1, max=60_000, help="Length of a chunk in milliseconds.")]
Rate = Annotated[
    int, typer.Option("--rate", min=1, help="Sample rate in Hz, where there is no WAV header.", rich_help_panel=INPUT)
]
Channels = Annotated[
    int,
    typer.Option("--channels", min=1, help="Channels of sound, where there is no WAV header.", rich_help_panel=INPUT),
]
Values = Annotated[
    int | None,
    typer.Option(
        "--values",
        min=1,
        help="Take rows of this many float32 values, not sound.",
        show_default=False,
        rich_help_panel=INPUT,
    ),
]


@dataclass(frozen=True)
class Choices:
    """What a user chooses to stream, and how: files and options of ``hetsyn stream`` and ``hetsyn run``."""

    files: Files
    utterances: Utterances = None
    as_json: AsJson = False
    chunk_ms: ChunkMs = 100.0
    rate: Rate = 16_000
    channels: Channels = 1
    values: Values = None

    @property
    def chunk_s(self) -> float:
        return self.chunk_ms / 1000


def with_choices(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of ``Choices`` after its own, in place of its parameter ``choices``."""
    chosen, own = (signature(of, eval_str=True).parameters.values() for of in (Choices, command))

    def run(**given: Any) -> None:
        command(choices=Choices(**{each.name: given.pop(each.name) for each in chosen}), **given)

    every = [*(each for each in own if each.name != "choices"), *chosen]
    named = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in every]
    run.__doc__, run.__annotations__ = command.__doc__, {}
    run.__signature__ = Signature(named)  # type: ignore[attr-defined]
    return run


def headers_of(options: Sequence[str] | None) -> dict[str, str]:
    """Read the headers that were given as ``NAME:VALUE``.

    Raises:
        typer.BadParameter: one has no colon.
    """
    headers = {}
    for option in options or ():
        name, colon, value = option.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f"{option!r} is no header: write NAME:VALUE, as 'X-Tenant: 7'")
        headers[name.strip()] = value.strip()
    return headers
