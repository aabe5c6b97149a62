"""The server that a command talks to, named alike by ``hetsyn stream``, ``hetsyn record`` and ``hetsyn bench``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8000"  # where hetsyn serve listens by default

ServerArgument = Annotated[
    str | None, typer.Argument(metavar="URL", help=f"The server; by default HETSYN_URL, or {DEFAULT_URL}.")
]
ServerOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The server; by default HETSYN_URL, or port 8000 of this machine."),
]
ACCESS = "Access"
KeyOption = Annotated[
    str | None,
    typer.Option("--key", envvar="HETSYN_KEY", help="Sent as Authorization: Bearer KEY.", rich_help_panel=ACCESS),
]
HeaderOption = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="NAME:VALUE", help="Sent with every request; repeatable.", rich_help_panel=ACCESS),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option(
        "--ca-file", envvar="HETSYN_CA_FILE", help="PEM file of certificates to trust.", rich_help_panel=ACCESS
    ),
]


def server_url(argument: str | None, option: str | None) -> str:
    """The address that was given either way, or else the environment's.

    Raises:
        typer.BadParameter: two addresses were given.
    """
    if argument is not None and option is not None and argument != option:
        raise typer.BadParameter(f"{argument} and --url {option} are two servers: name one")
    return argument or option or os.environ.get("HETSYN_URL") or DEFAULT_URL


def headers_of(options: Sequence[str] | None) -> dict[str, str]:
    """The headers that were given as ``NAME:VALUE``.

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
