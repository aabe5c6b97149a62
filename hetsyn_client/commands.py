"""``hetsyn stream`` and ``hetsyn record``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hetsyn_client.terminal.options import (
    DEFAULT_RATE_HZ,
    DEFAULT_URL,
    AsJson,
    CaFile,
    Channels,
    ChunkMs,
    EncodingChoice,
    EncodingName,
    Files,
    Header,
    Key,
    Model,
    Rate,
    Save,
    Url,
    Utterances,
    headers_of,
)

stream = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
record = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@stream.command()
def stream_files(
    files: Files,
    url: Url = DEFAULT_URL,
    model: Model = None,
    utterances: Utterances = None,
    as_json: AsJson = False,
    save: Save = None,
    chunk_ms: ChunkMs = None,
    realtime: Annotated[
        bool | None,
        typer.Option(
            "--realtime/--no-realtime",
            help="Send a file no faster than it lasts, or at once. Default: a single file no faster, several at once.",
        ),
    ] = None,
    rate: Rate = DEFAULT_RATE_HZ,
    channels: Channels = 1,
    encoding: EncodingChoice = EncodingName.pcm_s16le,
    key: Key = None,
    header: Header = None,
    ca_file: CaFile = None,
) -> None:
    """Stream recordings, spikes, values or standard input to a server, and show what it hears while it comes.

    Several files are summed up, with the accuracy where files or their folders are named after labels.
    """
    if named := [file for file in files if str(file).startswith(("http:/", "https:/"))]:
        raise typer.BadParameter(f"{named[0]} is a server: name it with --url")
    headers = headers_of(header)
    from hetsyn_client.files import H5
    from hetsyn_client.terminal.backend import Server
    from hetsyn_client.terminal.command import Choices, stream_all

    is_single = len(files) == 1 and files[0].is_file() and files[0].suffix.lower() not in H5
    choices = Choices(
        files=files,
        utterances=utterances,
        as_json=as_json,
        save=save,
        chunk_ms=chunk_ms,
        realtime=is_single if realtime is None else realtime,
        rate_hz=rate,
        channels=channels,
        encoding=encoding.value,
    )
    stream_all(lambda: Server(url, model, headers=headers, key=key, ca_file=ca_file), choices)


@record.command()
def record_words(
    folder: Annotated[Path, typer.Argument(help="Folder for the recordings; its name is the word, as words/yes.")],
    url: Url = DEFAULT_URL,
    model: Model = None,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this number of words. Default: never.")] = None,
    rate: Rate = DEFAULT_RATE_HZ,
    key: Key = None,
    header: Header = None,
    ca_file: CaFile = None,
) -> None:
    """Write each word that is spoken on standard input into a file of its own, to train on.

    The server's model finds the words. Standard input is WAV or 16-bit samples of one channel:

    arecord -f S16_LE -c 1 -r 16000 | hetsyn record words/yes
    """
    headers = headers_of(header)
    from hetsyn_client.terminal import record as recording
    from hetsyn_client.terminal.backend import Server

    recording.record_words(Server(url, model, headers=headers, key=key, ca_file=ca_file), folder, count, rate)
