"""``hetsyn run``: what ``hetsyn stream`` does, without a server. It imports the engine when it runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hetsyn_client.terminal.options import Choices, with_choices

run = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _folders(models: Path | None) -> tuple[Path, ...]:
    from service.contract.folder import MODELS, SHIPPED

    return (MODELS, SHIPPED) if models is None else (models,)


def _check_is_model(context: typer.Context, model: Path) -> Path:
    """Refuse input in place of the model; else its files would be called missing."""
    from service.contract.folder import find_model

    is_input = model == Path("-") or model.exists()
    if is_input and find_model(model, *_folders(context.params["models"])) is None:
        raise typer.BadParameter(f"{model} is no model: name one before it, as in hetsyn run speech-digits {model}")
    return model


def _complete_model(context: typer.Context, incomplete: str) -> list[str]:
    from service.contract.folder import model_names

    return [name for name in model_names(*_folders(context.params.get("models"))) if name.startswith(incomplete)]


@run.command()
@with_choices
def run_model(
    choices: Choices,
    model: Annotated[
        Path,
        typer.Argument(
            help="An artifact's folder, a model's folder (for its newest version), or a name in --models.",
            callback=_check_is_model,
            autocompletion=_complete_model,
        ),
    ],
    models: Annotated[
        Path | None,
        typer.Option(is_eager=True, help="Folder of models, NAME/VERSION/. Default: models, then the installed one."),
    ] = None,
) -> None:
    """Run a model on recordings, spikes, values or standard input, without a server.

    After several files comes a summary. It has the accuracy if the files or their folders are named after labels.
    """
    from hetsyn_client.terminal.streaming import stream_all
    from service.commands.in_process import InProcess
    from service.contract.folder import named_artifact

    artifact = partial(named_artifact, model, *_folders(models))
    stream_all(lambda: InProcess(artifact()), choices)
