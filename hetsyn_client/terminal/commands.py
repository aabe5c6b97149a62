"""``hetsyn stream``."""

from __future__ import annotations

import typer

from hetsyn_client.terminal.options import (
    DEFAULT_URL,
    CaFile,
    Choices,
    Header,
    Key,
    Model,
    Url,
    headers_of,
    with_choices,
)

stream = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@stream.command()
@with_choices
def stream_files(
    choices: Choices,
    url: Url = DEFAULT_URL,
    model: Model = None,
    key: Key = None,
    header: Header = None,
    ca_file: CaFile = None,
) -> None:
    """Stream recordings, spikes, values or standard input to a server, and show what it hears while it comes.

    After several files comes a summary. It has the accuracy if the files or their folders are named after labels.
    """
    if named := [file for file in choices.files if str(file).startswith(("http:/", "https:/"))]:
        raise typer.BadParameter(f"{named[0]} is a server: name it with --url")
    headers = headers_of(header)
    from hetsyn_client.terminal.backend import Server
    from hetsyn_client.terminal.streaming import stream_all

    stream_all(lambda: Server(url, model, headers=headers, key=key, ca_file=ca_file), choices)
