"""``hetsyn run``: what ``hetsyn stream`` does, without a server. It imports the engine when it runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hetsyn_client.terminal.options import Choices, with_choices

run = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@run.command()
@with_choices
def run_model(
    choices: Choices,
    model: Annotated[
        Path,
        typer.Argument(help="An artifact's folder, a model's folder (for its newest version), or a name in --models."),
    ],
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of models, NAME/VERSION/. Default: models, then the installed one."),
    ] = None,
) -> None:
    """Run a model on recordings, spikes, values or standard input, without a server.

    After several files comes a summary. It has the accuracy if the files or their folders are named after labels.
    """
    from hetsyn_client.terminal.streaming import stream_all
    from service.commands.in_process import InProcess
    from service.contract.folder import MODELS, SHIPPED, named_artifact

    artifact = partial(named_artifact, model, *((MODELS, SHIPPED) if models is None else (models,)))
    stream_all(lambda: InProcess(artifact()), choices)
