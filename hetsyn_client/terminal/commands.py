"""``hetsyn stream``."""

from __future__ import annotations

import typer

from hetsyn_client.terminal.options import (
    DEFAULT_CHUNK_MS,
    DEFAULT_RATE_HZ,
    DEFAULT_URL,
    AsJson,
    CaFile,
    Channels,
    ChunkMs,
    Files,
    Header,
    Key,
    Model,
    Rate,
    Url,
    Utterances,
    Values,
    headers_of,
)

stream = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@stream.command()
def stream_files(
    files: Files,
    url: Url = DEFAULT_URL,
    model: Model = None,
    utterances: Utterances = None,
    as_json: AsJson = False,
    chunk_ms: ChunkMs = DEFAULT_CHUNK_MS,
    rate: Rate = DEFAULT_RATE_HZ,
    channels: Channels = 1,
    values: Values = None,
    key: Key = None,
    header: Header = None,
    ca_file: CaFile = None,
) -> None:
    """Stream recordings, spikes, values or standard input to a server, and show what it hears while it comes.

    After several files comes a summary, with the accuracy if files or their folders are named after labels.
    """
    if named := [file for file in files if str(file).startswith(("http:/", "https:/"))]:
        raise typer.BadParameter(f"{named[0]} is a server: name it with --url")
    headers = headers_of(header)
    from hetsyn_client.terminal.backend import Server
    from hetsyn_client.terminal.streaming import Choices, stream_all

    choices = Choices(
        files=files,
        utterances=utterances,
        as_json=as_json,
        chunk_ms=chunk_ms,
        rate_hz=rate,
        channels=channels,
        values=values,
    )
    stream_all(lambda: Server(url, model, headers=headers, key=key, ca_file=ca_file), choices)
