"""The ``hetsyn`` command. A subcommand's code is imported when it runs, so that ``hetsyn serve`` needs no
torch and ``hetsyn --help`` needs nothing."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated

import typer

from hetsyn_client.errors import HetsynError


@dataclass(frozen=True)
class Subcommand:
    """Where a subcommand lives: a module with a ``typer.Typer`` of the subcommand's name.

    extra: what brings the dependencies that the subcommand needs beyond those of the package.
    """

    module: str
    help: str
    extra: str


SUBCOMMANDS = {
    "train": Subcommand("hetsyn_model.commands", "Train a network on recordings or spikes.", "train"),
    "experiment": Subcommand("experiments.commands", "Run one of the paper's experiments.", "train"),
    "export": Subcommand("export.commands", "Turn a trained checkpoint into an artifact that can be served.", "train"),
    "serve": Subcommand("service.commands", "Serve the models of a folder over HTTP.", "cpu"),
    "stream": Subcommand("hetsyn_client.commands", "Stream a recording to a server and show what it hears.", "cpu"),
    "bench": Subcommand("hetsyn_client.loadtest.commands", "Put a server under load and measure its latency.", "bench"),
    "inspect": Subcommand("service.commands", "Check an artifact and show its sizes, errors and accuracy.", "cpu"),
}
OPTIONAL = ("torch", "h5py", "matplotlib", "onnx", "scipy", "soundfile", "onnxruntime", "hdrh", "redis", "cryptography")
# of a dependency that the subcommand needs only for some of its options
OWN_EXTRA = {"redis": "redis", "cryptography": "carried"}

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Train, export and serve HetSynLIF spiking networks as a streaming classifier.",
)


def version() -> str:
    try:
        return metadata.version("hetsyn")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hetsyn {version()}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _register(name: str, subcommand: Subcommand) -> None:
    """A stand-in that hands its arguments, --help included, to the real command."""

    @app.command(
        name,
        help=subcommand.help,
        context_settings={
            "allow_extra_args": True,
            "ignore_unknown_options": True,
            "allow_interspersed_args": False,
            "help_option_names": [],
        },
    )
    def run(context: typer.Context) -> None:
        try:
            module = importlib.import_module(subcommand.module)
            command = typer.main.get_command(getattr(module, name))
            command(args=list(context.args), prog_name=f"hetsyn {name}")
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in OPTIONAL:
                raise
            extra = OWN_EXTRA.get(missing, subcommand.extra)
            typer.echo(f"hetsyn: this needs {missing}: pip install 'hetsyn[{extra}]'", err=True)
            sys.exit(2)


for _name, _subcommand in SUBCOMMANDS.items():
    _register(_name, _subcommand)


def main() -> None:
    """Run the command line; exits with 2 where a dependency is missing, with 1 on errors of ours."""
    try:
        app(prog_name="hetsyn")
    except HetsynError as error:
        typer.echo(f"hetsyn: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
