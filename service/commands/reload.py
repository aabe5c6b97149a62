"""``hetsyn reload``: a signal to a server."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from service.errors import HetsynError

reload = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@reload.command()
def reload_models(
    pid: Annotated[int, typer.Argument(min=1, help="Process number, which hetsyn serve prints when it starts.")],
) -> None:
    """Make a server on this machine read its folder of models again."""
    if not hasattr(signal, "SIGUSR1"):
        raise HetsynError("this system has no SIGUSR1: start the server with --watch-s")
    # SIGUSR1 ends a program that does not expect it, so other programs get none
    arguments = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/cmdline").exists():
        if not arguments.exists():
            raise HetsynError(f"there is no process {pid}: hetsyn serve prints its number when it starts")
        words = [Path(word).name for word in arguments.read_text(errors="replace").split("\0")]
        if not {"hetsyn", "serve"} <= set(words):
            raise HetsynError(f"process {pid} is not hetsyn serve, which prints its number when it starts")
    try:
        os.kill(pid, signal.SIGUSR1)
    except OSError as error:
        raise HetsynError(f"process {pid} cannot be asked to reload: {error.strerror}") from error
    typer.echo(f"process {pid} reloads its models: its log says what changed")
