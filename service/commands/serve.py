"""``hetsyn serve``. It imports the server when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import typer

from service.commands.options import settings_of, signature
from service.settings import is_loopback

serve = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def serve_models(**values: Any) -> None:
    """Serve the models of a folder over HTTP."""
    from service.admission.open_files import allowed_connections
    from service.contract.folder import usual_folder

    settings = settings_of({**values, "models": values["models"] or usual_folder()})
    access, limits = settings.access, settings.limits
    if access.keys is None and not access.insecure and not is_loopback(settings.host):
        raise typer.BadParameter(
            f"--host {settings.host} lets everybody in who reaches the port: name a keys file with --keys (hetsyn keys "
            "add makes one), or say --insecure"
        )
    most = allowed_connections(limits.max_connections, settings.grpc_port is not None)
    settings = replace(settings, limits=replace(limits, max_connections=most))
    gc.disable()  # until the server listens: imports make many objects, and hardly any garbage
    from service.commands.process import run_process  # it imports the server, which takes a second

    raise typer.Exit(run_process(settings))


serve_models.__signature__ = signature()  # type: ignore[attr-defined]
serve_models.__annotations__ = {}
serve.command()(serve_models)
