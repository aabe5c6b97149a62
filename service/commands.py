"""``hetsyn serve`` and ``hetsyn inspect``. Each imports what it needs when it runs."""

from __future__ import annotations

import gc
import json
import os
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from service.carried.keys import CarryKeys

serve = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
inspect = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
MODELS = Path("models")  # where serve and inspect look unless told otherwise
# Longer than balancers keep an idle connection, so that they close it: a chunk that is sent while the server does is
# lost, and one without a number cannot be sent again.
KEEP_ALIVE_S = 90
COLLECT_AFTER = (20_000, 50, 100)  # objects more than before; younger collections; the same


class DeviceName(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


@serve.command()
def serve_models(
    models: Annotated[Path, typer.Option(help="Folder of models: NAME/VERSION/manifest.json.")] = MODELS,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535)] = 8000,
    default_model: Annotated[
        str | None, typer.Option(help="Model of requests that name none; else the one that the file 'default' names.")
    ] = None,
    watch_s: Annotated[
        float,
        typer.Option(min=0, help="Look at the folder at this interval and load what is new; 0: on SIGHUP alone."),
    ] = 0.0,
    session_idle_s: Annotated[float, typer.Option(min=1, help="Drop a session that lies idle for longer.")] = 600.0,
    max_sessions: Annotated[int, typer.Option(min=1, help="Open sessions at most.")] = 10_000,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Requests in flight at most; one more gets 503 at once.")
    ] = 1_024,
    max_batch: Annotated[int, typer.Option(min=1, help="Chunks that are computed together at most.")] = 64,
    max_body_bytes: Annotated[int, typer.Option(min=1, help="A longer body gets 413.")] = 16 * 1024 * 1024,
    max_upload_bytes: Annotated[
        int, typer.Option(min=1, help="Of all bodies under way; more gets 503. At least --max-body-bytes.")
    ] = 256 * 1024 * 1024,
    body_timeout_s: Annotated[float, typer.Option(min=0.1, help="A body that takes longer gets 408.")] = 30.0,
    log_level: Annotated[LogLevel, typer.Option(help="How much the log says.")] = LogLevel.info,
    engine_threads: Annotated[int, typer.Option(min=1, help="Chunks computed at the same time.")] = 2,
    device: Annotated[
        DeviceName, typer.Option(help="Where networks run; auto is a GPU where one can be used, else the CPU.")
    ] = DeviceName.auto,
    store: Annotated[
        str,
        typer.Option(
            envvar="HETSYN_STORE",
            help="Where sessions are kept: memory://, file:///path/sessions.db, redis://host, valkey://host.",
        ),
    ] = "memory://",
    store_half: Annotated[
        bool, typer.Option("--store-half", help="Keep states in the store as float16: half the room, less exact.")
    ] = False,
    session_age_s: Annotated[float, typer.Option(min=1, help="Drop a session at this age.")] = 86_400.0,
    carry_keys: Annotated[
        Path | None,
        typer.Option(
            help="File of keys for sessions that their clients carry; without it the keys in the environment's "
            "HETSYN_CARRY_KEYS, else there are no such sessions."
        ),
    ] = None,
    drain_s: Annotated[
        float, typer.Option(min=0, help="After SIGTERM, serve on for so long while /health/ready says 503.")
    ] = 0.0,
) -> None:
    """Serve the models of a folder over HTTP."""
    import uvicorn

    from service.app import create_app
    from service.models.catalog import ModelCatalog
    from service.runtime.cuda import open_device
    from service.runtime.onnx import check_runtime
    from service.settings import Settings
    from service.shutdown import GracefulServer
    from service.store.url import redacted

    check_runtime()
    if max_upload_bytes < max_body_bytes:
        raise typer.BadParameter(f"--max-upload-bytes {max_upload_bytes} is less than --max-body-bytes")
    settings = Settings(
        models=models,
        default_model=default_model,
        watch_s=watch_s,
        host=host,
        port=port,
        session_idle_s=session_idle_s,
        max_sessions=max_sessions,
        max_waiting=max_waiting,
        max_batch=max_batch,
        max_body_bytes=max_body_bytes,
        max_upload_bytes=max_upload_bytes,
        body_timeout_s=body_timeout_s,
        engine_threads=engine_threads,
        device=device.value,
        store=store,
        store_half=store_half,
        session_age_s=session_age_s,
        drain_s=drain_s,
    )
    opened = open_device(settings.device)
    keys = _carry_keys(carry_keys)
    catalog = ModelCatalog(settings.models, settings.default_model, device=opened)
    catalog.load()
    app = create_app(settings, catalog, keys=keys)
    where = "the CPU" if opened is None else opened.name
    Console(stderr=True).print(f"models: {', '.join(catalog.names)} on {where}", markup=False, highlight=False)
    Console(stderr=True).print(f"sessions: {redacted(settings.store)}", markup=False, highlight=False)
    if keys is not None:
        ids = ", ".join(key.hex() for key in keys.ids)
        Console(stderr=True).print(f"carried sessions: keys {ids}", markup=False, highlight=False)
    # a line a chunk would cost a tenth of the time of a chunk; /metrics counts
    access_log = log_level is LogLevel.debug
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=log_level.value,
        access_log=access_log,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    # What was loaded stays, the collector need not walk it again and again. And a batch makes thousands of objects, of
    # which hardly any is in a cycle: looking after every 700 of them took a tenth of a server's time.
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    server = GracefulServer(config, app.state.sessions, settings.drain_s, app.state.reloader.ask)
    with suppress(KeyboardInterrupt):  # the person at the keyboard has had what they wanted
        server.run()
    if not server.started:
        raise typer.Exit(3)


@inspect.command()
def inspect_model(
    model: Annotated[
        Path, typer.Argument(help="Folder of an artifact, or of a model's versions (the newest), or a name in models/.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check an artifact's files and show what it says of itself."""
    from service.models.describe import summary
    from service.models.folder import newest_artifact

    if not model.exists() and (MODELS / model).exists():
        model = MODELS / model
    described = summary(newest_artifact(model).manifest)
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    console = Console()
    console.print(_facts(described))
    console.print(_forms(described))


def _carry_keys(path: Path | None) -> CarryKeys | None:
    """From the file, else from the environment; never from the command line, which others can read."""
    from service.carried.keys import VARIABLE, parse_keys, read_keys

    if path is not None:
        return read_keys(path)
    return parse_keys(os.environ[VARIABLE], VARIABLE) if os.environ.get(VARIABLE) else None


def _facts(described: dict[str, Any]) -> Table:
    table = Table(title=escape(f"{described['name']} {described['version']}"), show_header=False, title_justify="left")
    encoder, decision = described["encoder"], described["decision"]
    hidden = "-".join(map(str, [described["input"]["channels"], *described["hidden"], described["outputs"]]))
    facts = {
        "description": described["description"],
        "layers": hidden,
        "step": f"{1000 * described['input']['step_s']:g} ms",
        "input": described["input"]["description"] or "spikes",
        "encoder": "none: takes spikes"
        if encoder is None
        else f"audio at {encoder['sample_rate_hz']} Hz, {encoder['samples_per_step']} samples a step, "
        f"{encoder['state_bytes']:,} bytes of state",
        "labels": ", ".join(described["labels"]) or "none",
        "decision": f"{decision['rule']}, skips {decision['skip_steps']} steps, tail of {decision['tail_steps']}",
        "files": f"{len(described['files'])}, {described['total_bytes']:,} bytes, hashes match",
    }
    for name, value in (facts | described["provenance"]).items():
        table.add_row(escape(name), escape(str(value)))
    return table


def _forms(described: dict[str, Any]) -> Table:
    table = Table()
    table.add_column("form", no_wrap=True)
    for heading in ("state bytes a session", "file bytes", "kernel error", "spike mismatch", "accuracy"):
        table.add_column(heading, justify="right")
    for name, form in described["forms"].items():
        is_default = name == described["default_form"]
        table.add_row(
            f"{name} (default)" if is_default else name,
            f"{form['state_bytes']:,}",
            f"{form['file_bytes']:,}",
            f"{max(form['kernel_error'].values(), default=0.0):.2g}",
            "-" if form["spike_mismatch"] is None else f"{form['spike_mismatch']:.2%}",
            "-" if form["accuracy"] is None else f"{form['accuracy']:.2%}",
        )
    return table
