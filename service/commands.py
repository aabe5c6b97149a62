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

from service.settings import Batching, Limits, Retention, Settings, StoreSettings

if TYPE_CHECKING:
    from service.carried.keys import CarryKeys

serve = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
inspect = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
# headings of the help
LIMITS, RETENTION, BATCHING, STORE = "Limits", "Retention", "Batching", "Store"
MODELS = Path("models")  # where serve and inspect look unless told otherwise
# Longer than balancers keep an idle connection, so that they close it: a chunk that is sent while the server does is
# lost, and one without a number cannot be sent again.
KEEP_ALIVE_S = 90
COLLECT_AFTER = (20_000, 50, 100)  # objects more than before; younger collections; the same


class DeviceName(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class StoreDtype(StrEnum):
    float32 = "float32"
    float16 = "float16"


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


@serve.command()
def serve_models(
    models: Annotated[Path, typer.Option(help="Folder of models: NAME/VERSION/manifest.json.")] = MODELS,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = Settings.host,
    port: Annotated[int, typer.Option(min=0, max=65_535)] = Settings.port,
    default_model: Annotated[
        str | None, typer.Option(help="Model of requests that name none; else the one that the file 'default' names.")
    ] = None,
    watch_s: Annotated[
        float,
        typer.Option(min=0, help="Look at the folder at this interval and load what is new; 0: on SIGHUP alone."),
    ] = Settings.watch_s,
    device: Annotated[
        DeviceName, typer.Option(help="Where networks run; auto is a GPU where one can be used, else the CPU.")
    ] = DeviceName.auto,
    drain_s: Annotated[
        float, typer.Option(min=0, help="After SIGTERM, serve on for so long while /health/ready says 503.")
    ] = Settings.drain_s,
    log_level: Annotated[LogLevel, typer.Option(help="How much the log says.")] = LogLevel.info,
    max_sessions: Annotated[
        int, typer.Option(min=1, help="Open sessions at most.", rich_help_panel=LIMITS)
    ] = Limits.max_sessions,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Requests in flight at most; one more gets 503 at once.", rich_help_panel=LIMITS)
    ] = Limits.max_waiting,
    max_body_bytes: Annotated[
        int, typer.Option(min=1, help="A longer body gets 413.", rich_help_panel=LIMITS)
    ] = Limits.max_body_bytes,
    max_json_bytes: Annotated[
        int, typer.Option(min=1, help="A longer JSON body gets 413.", rich_help_panel=LIMITS)
    ] = Limits.max_json_bytes,
    max_upload_bytes: Annotated[
        int,
        typer.Option(
            min=1,
            help="Of all bodies under way; more gets 503. At least --max-body-bytes.",
            rich_help_panel=LIMITS,
        ),
    ] = Limits.max_upload_bytes,
    body_timeout_s: Annotated[
        float, typer.Option(min=0.1, help="A body that takes longer gets 408.", rich_help_panel=LIMITS)
    ] = Limits.body_timeout_s,
    max_chunk_steps: Annotated[
        int, typer.Option(min=1, help="A chunk of more network steps gets 413.", rich_help_panel=LIMITS)
    ] = Limits.max_chunk_steps,
    session_idle_s: Annotated[
        float, typer.Option(min=1, help="Drop a session that lies idle for longer.", rich_help_panel=RETENTION)
    ] = Retention.session_idle_s,
    session_age_s: Annotated[
        float, typer.Option(min=1, help="Drop a session at this age.", rich_help_panel=RETENTION)
    ] = Retention.session_age_s,
    ended_keep_s: Annotated[
        float, typer.Option(min=0.1, help="Keep the last reply of an ended session.", rich_help_panel=RETENTION)
    ] = Retention.ended_keep_s,
    expired_keep_s: Annotated[
        float, typer.Option(min=0.1, help="Remember that a session was dropped.", rich_help_panel=RETENTION)
    ] = Retention.expired_keep_s,
    max_remembered: Annotated[
        int,
        typer.Option(
            min=1, help="Ended and dropped sessions to remember, each, without a store.", rich_help_panel=RETENTION
        ),
    ] = Retention.max_remembered,
    sweep_interval_s: Annotated[
        float, typer.Option(min=0.1, help="Between two searches for idle sessions.", rich_help_panel=RETENTION)
    ] = Retention.sweep_interval_s,
    engine_threads: Annotated[
        int, typer.Option(min=1, help="Batches computed at the same time.", rich_help_panel=BATCHING)
    ] = Batching.engine_threads,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Chunks that are computed together at most.", rich_help_panel=BATCHING)
    ] = Batching.max_batch,
    inline_s: Annotated[
        float,
        typer.Option(
            min=0, help="Compute a batch on the event loop if it is expected to take less.", rich_help_panel=BATCHING
        ),
    ] = Batching.inline_s,
    store: Annotated[
        str,
        typer.Option(
            envvar="HETSYN_STORE",
            help="Where sessions are kept: memory://, file:///path/sessions.db, redis://host, valkey://host.",
            rich_help_panel=STORE,
        ),
    ] = StoreSettings.url,
    store_timeout_s: Annotated[
        float, typer.Option(min=0.01, help="The store's time for a batch; then chunks get 503.", rich_help_panel=STORE)
    ] = StoreSettings.timeout_s,
    store_dtype: Annotated[
        StoreDtype, typer.Option(help="Of states in the store; float16 takes half the room.", rich_help_panel=STORE)
    ] = StoreDtype.float32,
    store_half: Annotated[
        bool, typer.Option("--store-half", help="The same as --store-dtype float16.", hidden=True)
    ] = False,
    carry_keys: Annotated[
        Path | None,
        typer.Option(
            help="File of keys for sessions that their clients carry; without it the keys in the environment's "
            "HETSYN_CARRY_KEYS, else there are no such sessions.",
            rich_help_panel=STORE,
        ),
    ] = None,
) -> None:
    """Serve the models of a folder over HTTP."""
    import uvicorn

    from service.app import create_app
    from service.models.catalog import ModelCatalog
    from service.runtime.cuda import open_device
    from service.runtime.onnx import check_runtime
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
        device=device.value,
        drain_s=drain_s,
        limits=Limits(
            max_body_bytes=max_body_bytes,
            max_json_bytes=max_json_bytes,
            max_upload_bytes=max_upload_bytes,
            body_timeout_s=body_timeout_s,
            max_chunk_steps=max_chunk_steps,
            max_sessions=max_sessions,
            max_waiting=max_waiting,
        ),
        retention=Retention(
            session_idle_s=session_idle_s,
            session_age_s=session_age_s,
            ended_keep_s=ended_keep_s,
            expired_keep_s=expired_keep_s,
            max_remembered=max_remembered,
            sweep_interval_s=sweep_interval_s,
        ),
        batching=Batching(engine_threads=engine_threads, max_batch=max_batch, inline_s=inline_s),
        store=StoreSettings(url=store, timeout_s=store_timeout_s, dtype="float16" if store_half else store_dtype.value),
    )
    opened = open_device(settings.device)
    keys = _carry_keys(carry_keys)
    catalog = ModelCatalog(settings.models, settings.default_model, device=opened)
    app = create_app(settings, catalog, keys=keys)
    server = app.state.server
    where = "the CPU" if opened is None else opened.name
    console = Console(stderr=True, markup=False, highlight=False)
    console.print(f"models: {', '.join(catalog.names)} on {where}")
    console.print(f"sessions: {redacted(settings.store.url)}")
    if keys is not None:
        console.print(f"carried sessions: keys {', '.join(key.hex() for key in keys.ids)}")
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
    process = GracefulServer(config, server.admissions, settings.drain_s, server.reloader.ask)
    with suppress(KeyboardInterrupt):  # the person at the keyboard has had what they wanted
        process.run()
    if not process.started:
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
