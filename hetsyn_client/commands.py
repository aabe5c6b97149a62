"""``hetsyn stream`` and ``hetsyn record``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hetsyn_client.server_url import (
    CaFileOption,
    HeaderOption,
    KeyOption,
    ServerArgument,
    ServerOption,
    headers_of,
    server_url,
)
from hetsyn_client.terminal.options import (
    DEFAULT_RATE_HZ,
    AsJson,
    Channels,
    ChunkMs,
    EncodingChoice,
    Rate,
    Save,
    Utterances,
)

stream = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
record = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@stream.command()
def stream_file(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER|-...",
            help="Recordings (WAV, FLAC, Ogg), or spikes or values: .h5, .npz, .npy, .csv; folders of them; or - for "
            "sound on standard input.",
        ),
    ],
    url: ServerOption = None,
    model: Annotated[str | None, typer.Option(help="Model; by default the server's default model.")] = None,
    utterances: Utterances = None,
    as_json: AsJson = False,
    save: Save = None,
    chunk_ms: ChunkMs = None,
    realtime: Annotated[
        bool | None,
        typer.Option("--realtime/--no-realtime", help="Send a file no faster than it lasts. Default: a single file."),
    ] = None,
    rate: Rate = DEFAULT_RATE_HZ,
    channels: Channels = 1,
    encoding: EncodingChoice = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca_file: CaFileOption = None,
) -> None:
    """Stream recordings, spikes, values or standard input to a server, and show what it hears while it comes.

    Several files are summed up, with the accuracy where files or their folders are named after labels.
    """
    if named := [file for file in files if str(file).startswith(("http:/", "https:/"))]:
        raise typer.BadParameter(f"{named[0]} is a server: name it with --url")
    address, headers = server_url(None, url), headers_of(header)
    from hetsyn_client.files import H5
    from hetsyn_client.terminal.backend import Server
    from hetsyn_client.terminal.command import Choices, stream_all

    choices = Choices(
        paths=files,
        utterances=utterances,
        as_json=as_json,
        save=save,
        chunk_ms=chunk_ms,
        realtime=(len(files) == 1 and files[0].is_file() and files[0].suffix.lower() not in H5)
        if realtime is None
        else realtime,
        rate_hz=rate,
        channels=channels,
        encoding=None if encoding is None else encoding.value,
    )
    stream_all(lambda: Server(address, model, headers=headers, key=key, ca_file=ca_file), choices)


@record.command()
def record_words(
    folder: Annotated[Path, typer.Argument(help="Of the recordings; its name is the word, such as words/yes.")],
    server: ServerArgument = None,
    url: ServerOption = None,
    model: Annotated[
        str | None, typer.Option(help="That finds the words; default: the server's default model.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many words.")] = None,
    rate: Rate = DEFAULT_RATE_HZ,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca_file: CaFileOption = None,
) -> None:
    """Write each word that is spoken on standard input into a file of its own, to train on.

    Standard input is WAV or 16-bit samples of one channel: arecord -f S16_LE -c 1 -r 16000 | hetsyn record words/yes
    """
    address, headers = server_url(server, url), headers_of(header)
    from hetsyn_client.terminal import record as recording
    from hetsyn_client.terminal.backend import Server

    recording.record_words(Server(address, model, headers=headers, key=key, ca_file=ca_file), folder, count, rate)
