"""``hetsyn run``: what ``hetsyn stream`` does, without a server. It imports the engine when it runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hetsyn_client.terminal.options import (
    DEFAULT_CHUNK_MS,
    DEFAULT_RATE_HZ,
    AsJson,
    Channels,
    ChunkMs,
    Files,
    Rate,
    Utterances,
    Values,
)

run = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@run.command()
def run_model(
    model: Annotated[
        Path,
        typer.Argument(help="An artifact's folder, a model's folder (for its newest version), or a name in --models."),
    ],
    files: Files,
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of models, NAME/VERSION/. Default: models if it has any, else the installed one."),
    ] = None,
    utterances: Utterances = None,
    as_json: AsJson = False,
    chunk_ms: ChunkMs = DEFAULT_CHUNK_MS,
    rate: Rate = DEFAULT_RATE_HZ,
    channels: Channels = 1,
    values: Values = None,
) -> None:
    """Run a model on recordings, spikes, values or standard input, without a server.

    After several files comes a summary, with the accuracy if files or their folders are named after labels.
    """
    from hetsyn_client.terminal.streaming import Choices, stream_all
    from service.commands.in_process import InProcess
    from service.contract.folder import named_artifact, usual_folder

    choices = Choices(
        files=files,
        utterances=utterances,
        as_json=as_json,
        chunk_ms=chunk_ms,
        rate_hz=rate,
        channels=channels,
        values=values,
    )
    artifact = partial(named_artifact, model, models or usual_folder())
    stream_all(lambda: InProcess(artifact()), choices)
