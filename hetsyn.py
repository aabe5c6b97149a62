"""The ``hetsyn`` command, and the one module that users import.

    from hetsyn import Network, NetworkSpec, StreamingClient

A name is imported when it is used, and so is a subcommand's code: ``hetsyn serve`` needs no torch, a client needs no
server, and ``hetsyn --help`` needs nothing.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hetsyn_client.errors import HetsynError
from hetsyn_client.extras import install_command

if TYPE_CHECKING:
    from export import export_network, export_nir, import_nir
    from export.evaluation import Evaluation
    from export.onnx_models.importing import import_onnx
    from export.own_network import Source, write_artifact
    from export.parity import Streams
    from export.step import export_step
    from hetsyn_client import AsyncStreamingClient, StreamingClient
    from hetsyn_model import (
        DecisionSpec,
        Events,
        Network,
        NetworkSpec,
        NeuronSpec,
        PathSpec,
        SurrogateSpec,
        from_reference,
        variant,
    )
    from hetsyn_model.training import fit

__all__ = [
    "AsyncStreamingClient",
    "DecisionSpec",
    "Evaluation",
    "Events",
    "HetsynError",
    "Network",
    "NetworkSpec",
    "NeuronSpec",
    "PathSpec",
    "Source",
    "StreamingClient",
    "Streams",
    "SurrogateSpec",
    "export_network",
    "export_nir",
    "export_step",
    "fit",
    "from_reference",
    "import_nir",
    "import_onnx",
    "main",
    "variant",
    "version",
    "write_artifact",
]

# public names by the module that has them
_LAZY = {
    "export": ("export_network", "export_nir", "import_nir"),
    "export.parity": ("Streams",),
    "export.evaluation": ("Evaluation",),
    "export.step": ("export_step",),
    "export.onnx_models.importing": ("import_onnx",),
    "export.own_network": ("Source", "write_artifact"),
    "hetsyn_client": ("AsyncStreamingClient", "StreamingClient"),
    "hetsyn_model": (
        *("DecisionSpec", "Events", "Network", "NetworkSpec", "NeuronSpec", "PathSpec", "SurrogateSpec"),
        *("from_reference", "variant"),
    ),
    "hetsyn_model.training": ("fit",),
}
_MODULE_OF = {name: module for module, names in _LAZY.items() for name in names}


# what a user's own file or folder may hide, by the packages that need it
_NEEDS = {"service": ("service",), "export": ("export", "service")}


class HiddenPackage(HetsynError, ImportError):
    """A package of ours cannot be imported, because something of the user's has its name."""

    code = "hidden-package"


def _import(module: str) -> ModuleType:
    for package in _NEEDS.get(module.partition(".")[0], ()):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            continue
        found = Path(spec.origin)
        if found.parent.resolve() != Path(__file__).with_name(package).resolve():
            hiding = found.parent if found.stem == "__init__" else found
            raise HiddenPackage(f"{hiding} hides hetsyn's package {package!r}: rename it, or start in another folder")
    return importlib.import_module(module)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})


@dataclass(frozen=True)
class Subcommand:
    """Where a subcommand lives: a module with a ``typer.Typer`` of the subcommand's name.

    Attributes:
        help: its line in ``hetsyn --help``.
        extra: brings the dependencies that the subcommand needs beyond those of the package.
    """

    module: str
    help: str
    extra: str


SUBCOMMANDS = {
    "train": Subcommand("hetsyn_model.commands", "Train a network on sound, spikes or series of values.", "train"),
    "export": Subcommand("export.commands", "Turn a trained checkpoint into an artifact that can be served.", "train"),
    "adapt": Subcommand("export.adapting", "Fine-tune a model to the voice of one person.", "train"),
    "import-nir": Subcommand("export.nir.commands", "Import a network of another library by its NIR file.", "train"),
    "export-nir": Subcommand("export.nir.commands", "Write a network as a NIR file for other libraries.", "train"),
    "import-onnx": Subcommand("export.onnx_models.commands", "Turn a stateful ONNX model into an artifact.", "train"),
    "serve": Subcommand("service.commands.serve", "Serve the models of a folder over HTTP.", "cpu"),
    "keys": Subcommand("service.commands.keys", "Make the keys of a server, and change them.", "cpu"),
    "stream": Subcommand(
        "hetsyn_client.terminal.commands", "Stream sound, spikes or values to a server, live or from files.", "cpu"
    ),
    "run": Subcommand("service.commands.run", "Run a model on files or live sound, without a server.", "cpu"),
    "bench": Subcommand("hetsyn_client.loadtest.commands", "Put a server under load and measure its latency.", "cpu"),
    "inspect": Subcommand(
        "export.inspection.commands", "Check an artifact and show its sizes, errors and accuracy.", "cpu"
    ),
}
OPTIONAL = (
    *("torch", "h5py", "matplotlib", "onnx", "onnxscript"),
    *("onnxruntime", "redis", "grpc", "grpc_health", "tritonclient"),
)
# of a dependency that the subcommand needs only for some of its options
OWN_EXTRA = {
    "redis": "redis", "grpc": "grpc", "grpc_health": "grpc", "tritonclient": "grpc",
}  # fmt: skip


class _Commands(typer.core.TyperGroup):
    """The subcommands. An error of ours ends any of them with its sentence and its exit status."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except HetsynError as error:
            typer.echo(f"hetsyn: {error}", err=True)
            sys.exit(error.exit_code)


app = typer.Typer(
    cls=_Commands,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Train, export and serve HetSynLIF spiking networks as a streaming classifier.",
)


def version() -> str:
    """The installed version of hetsyn."""
    try:
        return metadata.version("hetsyn")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"hetsyn {version()}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _command_of(name: str) -> Any:
    """The real command of a subcommand."""
    module = _import(SUBCOMMANDS[name].module)
    return typer.main.get_command(getattr(module, name.replace("-", "_")))


class _StandIn(typer.core.TyperCommand):
    """Leaves it to the real command to complete what a user types in a shell."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        if extra.get("resilient_parsing"):
            return _command_of(str(self.name)).make_context(info_name, args, *more, **extra)
        return super().make_context(info_name, args, *more, **extra)


def _register(name: str, subcommand: Subcommand) -> None:
    """A stand-in that hands its arguments, --help included, to the real command."""

    @app.command(
        name,
        cls=_StandIn,
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
            _command_of(name)(args=list(context.args), prog_name=f"hetsyn {name}")
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in OPTIONAL:
                raise
            extra = OWN_EXTRA.get(missing, subcommand.extra)
            typer.echo(f"hetsyn: this needs {missing}: {install_command(extra)}", err=True)
            sys.exit(1)


for _name, _subcommand in SUBCOMMANDS.items():
    _register(_name, _subcommand)


def main() -> None:
    """Run the command line; exits with 2 if options, inputs or models cannot be used, with 1 on any other error."""
    app(prog_name="hetsyn")


if __name__ == "__main__":
    main()
