"""The server that a command talks to, named alike by ``hetsyn stream``, ``hetsyn record`` and ``hetsyn bench``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8000"  # where hetsyn serve listens by default

ServerArgument = Annotated[
    str | None, typer.Argument(metavar="URL", help=f"The server; by default HETSYN_URL, or {DEFAULT_URL}.")
]
ServerOption = Annotated[str | None, typer.Option("--url", metavar="URL", help="The server, instead of the argument.")]


def server_url(argument: str | None, option: str | None) -> str:
    """The address that was given either way, or else the environment's.

    Raises:
        typer.BadParameter: two addresses were given.
    """
    if argument is not None and option is not None and argument != option:
        raise typer.BadParameter(f"{argument} and --url {option} are two servers: name one")
    return argument or option or os.environ.get("HETSYN_URL") or DEFAULT_URL
