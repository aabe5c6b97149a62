"""``hetsyn serve``: an option for each setting. It imports the server when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.commands.option_values import (
    DeviceName,
    Forms,
    LogFormatName,
    LogLevel,
    check_origins,
)
from service.settings import (
    AccessSettings,
    Batching,
    GrpcSettings,
    Limits,
    Retention,
    Settings,
    StoreSettings,
    is_loopback,
)

serve = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
# headings of the help
ACCESS, LIMITS, RETENTION, BATCHING, STORE = "Access", "Limits", "Retention", "Batching", "Store"


@serve.command()
def serve_models(
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of models, NAME/VERSION/. Default: models if it has any, else the installed one."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 listens on all.")] = Settings.host,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")
    ] = Settings.port,
    default_model: Annotated[
        str | None,
        typer.Option(help="Model of requests that name none. Default: the model named in the file 'default'."),
    ] = None,
    watch_s: Annotated[
        float,
        typer.Option(min=0, help="Check the folder for new models at this interval; 0: see hetsyn reload."),
    ] = Settings.watch_s,
    load_timeout_s: Annotated[
        float, typer.Option(min=0.1, help="A model that takes longer to load and test is not served.")
    ] = Settings.load_timeout_s,
    max_model_bytes: Annotated[
        int, typer.Option(min=1, help="A model whose files and states are larger is not served.")
    ] = Settings.max_model_bytes,
    cors_origins: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin",
            callback=check_origins,
            help="Origin whose pages may use this server, as https://example.org; can be repeated.",
        ),
    ] = None,
    device: Annotated[
        DeviceName, typer.Option(help="Where networks run; auto is a GPU if it gives the CPU's answers, else the CPU.")
    ] = DeviceName.auto,
    forms: Annotated[
        Forms, typer.Option(help="Forms that clients may choose; default is each model's default form only.")
    ] = Forms.any,
    model_control: Annotated[str | None, typer.Option(hidden=True)] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port for the Open Inference Protocol over gRPC; 0 takes a free one."),
    ] = None,
    grpc_tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain of that port, in PEM. Default: no TLS.")
    ] = None,
    grpc_tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate, in PEM.")] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            envvar="HETSYN_KEYS",
            help="File of keys, as hetsyn keys writes it; clients then need a key. It is read again when it changes.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Serve others than this machine although there are no keys.", rich_help_panel=ACCESS
        ),
    ] = False,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            help="Certificate chain of the HTTP port, in PEM; read again when it changes. Default: no TLS.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="Private key of that certificate, in PEM.", rich_help_panel=ACCESS)
    ] = None,
    workers: Annotated[str | None, typer.Option(envvar="HETSYN_WORKERS", hidden=True)] = None,
    drain_s: Annotated[
        float, typer.Option(min=0, help="After SIGTERM, continue to serve for this time while /health/ready says 503.")
    ] = Settings.drain_s,
    finish_s: Annotated[
        float, typer.Option(min=0, help="After that, finish requests in flight for this time; then they get 503.")
    ] = Settings.finish_s,
    log_level: Annotated[LogLevel, typer.Option(help="Log messages of this level and above.")] = LogLevel.info,
    log_format: Annotated[
        LogFormatName, typer.Option(envvar="HETSYN_LOG_FORMAT", help="Lines of text, or an object of JSON each.")
    ] = LogFormatName.text,
    webhook_url: Annotated[str | None, typer.Option(envvar="HETSYN_WEBHOOK_URL", hidden=True)] = None,
    max_sessions: Annotated[
        int, typer.Option(min=1, help="The most open sessions; with a store, in memory.", rich_help_panel=LIMITS)
    ] = Limits.max_sessions,
    max_session_bytes: Annotated[
        int,
        typer.Option(
            min=1,
            help="The most memory for sessions; one that would begin or grow beyond it gets 503.",
            rich_help_panel=LIMITS,
        ),
    ] = Limits.max_session_bytes,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="The most requests in flight; one more gets 503.", rich_help_panel=LIMITS)
    ] = Limits.max_waiting,
    max_waiting_steps: Annotated[
        int,
        typer.Option(
            min=1,
            help="The most network steps of chunks in flight; more get 503. 8 spikes count as a step.",
            rich_help_panel=LIMITS,
        ),
    ] = Limits.max_waiting_steps,
    queue_timeout_s: Annotated[
        float,
        typer.Option(min=0.1, help="A chunk that is not begun within this time gets 503.", rich_help_panel=LIMITS),
    ] = Limits.queue_timeout_s,
    max_body_bytes: Annotated[
        int, typer.Option(min=1, help="A longer body gets 413.", rich_help_panel=LIMITS)
    ] = Limits.max_body_bytes,
    max_json_bytes: Annotated[str | None, typer.Option(hidden=True)] = None,
    max_upload_bytes: Annotated[
        int,
        typer.Option(
            min=1,
            help="The most bytes of all bodies under way; more get 503. At least --max-body-bytes.",
            rich_help_panel=LIMITS,
        ),
    ] = Limits.max_upload_bytes,
    max_uploads: Annotated[
        int,
        typer.Option(
            min=1, help="The most incomplete bodies; one more ends the oldest with 408.", rich_help_panel=LIMITS
        ),
    ] = Limits.max_uploads,
    max_unread_bytes: Annotated[
        int,
        typer.Option(
            min=1,
            help="The most bytes of replies that clients do not read; more end the connections unread for longest.",
            rich_help_panel=LIMITS,
        ),
    ] = Limits.max_unread_bytes,
    max_connections: Annotated[
        int,
        typer.Option(
            min=1, help="The most connections; one more closes the one that has waited longest.", rich_help_panel=LIMITS
        ),
    ] = Limits.max_connections,
    client_share: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=1,
            help="The share of these limits for one client address; 1 behind a proxy.",
            rich_help_panel=LIMITS,
        ),
    ] = Limits.client_share,
    key_share: Annotated[
        float,
        typer.Option(
            min=0.001, max=1, help="The share for one key, where there are keys (--keys).", rich_help_panel=LIMITS
        ),
    ] = Limits.key_share,
    header_timeout_s: Annotated[
        float,
        typer.Option(min=0.1, help="Close a connection if its headers take longer to arrive.", rich_help_panel=LIMITS),
    ] = Limits.header_timeout_s,
    body_timeout_s: Annotated[
        float, typer.Option(min=0.1, help="A body that takes longer to arrive gets 408.", rich_help_panel=LIMITS)
    ] = Limits.body_timeout_s,
    idle_timeout_s: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Close a connection if the next request, or reading a reply, takes longer.",
            rich_help_panel=LIMITS,
        ),
    ] = Limits.idle_timeout_s,
    max_chunk_steps: Annotated[
        int, typer.Option(min=1, help="A chunk of more network steps gets 413.", rich_help_panel=LIMITS)
    ] = Limits.max_chunk_steps,
    session_idle_s: Annotated[
        float, typer.Option(min=1, help="A session without a chunk for this long expires.", rich_help_panel=RETENTION)
    ] = Retention.session_idle_s,
    first_chunk_idle_s: Annotated[
        float,
        typer.Option(
            min=1,
            help="Without a store, a session of one chunk that is idle for this long makes room for another.",
            rich_help_panel=RETENTION,
        ),
    ] = Retention.first_chunk_idle_s,
    session_age_s: Annotated[
        float, typer.Option(min=1, help="A session of this age expires.", rich_help_panel=RETENTION)
    ] = Retention.session_age_s,
    ended_keep_s: Annotated[
        float,
        typer.Option(min=0.1, help="Keep the last reply of an ended session for this time.", rich_help_panel=RETENTION),
    ] = Retention.ended_keep_s,
    expired_keep_s: Annotated[
        float,
        typer.Option(min=0.1, help="Refuse the id of an expired session for this time.", rich_help_panel=RETENTION),
    ] = Retention.expired_keep_s,
    sweep_interval_s: Annotated[
        float, typer.Option(min=0.1, help="Time between two searches for expired sessions.", rich_help_panel=RETENTION)
    ] = Retention.sweep_interval_s,
    engine_threads: Annotated[
        int, typer.Option(min=1, help="Number of batches to compute at the same time.", rich_help_panel=BATCHING)
    ] = Batching.engine_threads,
    max_batch: Annotated[
        int, typer.Option(min=1, help="The most chunks in a batch.", rich_help_panel=BATCHING)
    ] = Batching.max_batch,
    inline_s: Annotated[
        float,
        typer.Option(
            min=0,
            help="Compute a batch on the event loop if it should take less time than this.",
            rich_help_panel=BATCHING,
        ),
    ] = Batching.inline_s,
    store: Annotated[
        str,
        typer.Option(
            envvar="HETSYN_STORE",
            help="Session store: memory:// (for one process), file:///path/sessions.db, valkey://host, or valkey-cluster://a,b/.",
            rich_help_panel=STORE,
        ),
    ] = StoreSettings.url,
    store_timeout_s: Annotated[
        float,
        typer.Option(
            min=0.01, help="Time limit for a batch of store requests; after it, chunks get 503.", rich_help_panel=STORE
        ),
    ] = StoreSettings.timeout_s,
    store_dtype: Annotated[str | None, typer.Option(hidden=True)] = None,
    store_half: Annotated[bool, typer.Option("--store-half", hidden=True)] = False,
    carry_keys: Annotated[
        Path | None,
        typer.Option(
            help="File of keys for carried sessions. Without this file, HETSYN_CARRY_KEYS in the environment gives the "
            "keys; without keys, carried sessions are refused.",
            rich_help_panel=STORE,
        ),
    ] = None,
) -> None:
    """Serve the models of a folder over HTTP."""
    has_terminal = sys.stdin is not None and sys.stdin.isatty()
    _hold_reloads(has_terminal)
    from service.admission.open_files import allowed_connections
    from service.contract.folder import usual_folder

    if workers is not None:
        raise typer.BadParameter(
            "hetsyn serve is one process, without --workers (HETSYN_WORKERS): to use more cores, run several processes "
            "with one store behind the shipped HAProxy, as docker compose up --scale api=N does"
        )
    if max_upload_bytes < max_body_bytes:
        raise typer.BadParameter(f"--max-upload-bytes {max_upload_bytes} is less than --max-body-bytes")
    if (grpc_tls_cert is None) is not (grpc_tls_key is None) or (grpc_tls_cert is not None and grpc_port is None):
        raise typer.BadParameter("--grpc-tls-cert and --grpc-tls-key go together, with --grpc-port: give all three")
    if webhook_url is not None:
        raise typer.BadParameter(
            "leave --webhook-url (HETSYN_WEBHOOK_URL) out: hetsyn_sessions_dropped_total counts the sessions that the "
            "server drops, and with --log-format json each has a line"
        )
    if model_control is not None:
        raise typer.BadParameter(
            "leave --model-control out: clients do not load or unload models; change the folder "
            "of models, and run hetsyn reload, or start with --watch-s"
        )
    if max_json_bytes is not None:
        raise typer.BadParameter(
            "leave --max-json-bytes out: JSON of /infer has 256 KiB at most; larger input is sent packed, within "
            "--max-body-bytes"
        )
    if store_dtype is not None or store_half:
        option = "--store-half" if store_half else "--store-dtype"
        raise typer.BadParameter(f"leave {option} out: stores keep states in full precision, as float32")
    if (tls_cert is None) is not (tls_key is None):
        raise typer.BadParameter("--tls-cert and --tls-key go together: give both")
    if keys is None and not insecure and not is_loopback(host):
        raise typer.BadParameter(
            f"--host {host} lets everybody in who reaches the port: name a keys file with --keys (hetsyn keys add "
            "makes one), or say --insecure"
        )
    settings = Settings(
        models=models or usual_folder(),
        default_model=default_model,
        watch_s=watch_s,
        load_timeout_s=load_timeout_s,
        max_model_bytes=max_model_bytes,
        host=host,
        port=port,
        cors_origins=tuple(cors_origins or ()),
        device=device.value,
        forms=forms.value,
        drain_s=drain_s,
        finish_s=finish_s,
        limits=Limits(
            max_body_bytes=max_body_bytes,
            max_upload_bytes=max_upload_bytes,
            max_uploads=max_uploads,
            max_unread_bytes=max_unread_bytes,
            max_connections=allowed_connections(max_connections),
            client_share=client_share,
            key_share=key_share,
            header_timeout_s=header_timeout_s,
            body_timeout_s=body_timeout_s,
            idle_timeout_s=idle_timeout_s,
            max_chunk_steps=max_chunk_steps,
            max_sessions=max_sessions,
            max_session_bytes=max_session_bytes,
            max_waiting=max_waiting,
            max_waiting_steps=max_waiting_steps,
            queue_timeout_s=queue_timeout_s,
        ),
        retention=Retention(
            session_idle_s=session_idle_s,
            first_chunk_idle_s=first_chunk_idle_s,
            session_age_s=session_age_s,
            ended_keep_s=ended_keep_s,
            expired_keep_s=expired_keep_s,
            sweep_interval_s=sweep_interval_s,
        ),
        batching=Batching(engine_threads=engine_threads, max_batch=max_batch, inline_s=inline_s),
        store=StoreSettings(url=store, timeout_s=store_timeout_s),
        grpc=GrpcSettings(grpc_port, grpc_tls_cert, grpc_tls_key),
        access=AccessSettings(keys, insecure, tls_cert, tls_key),
    )
    from service.commands.process import run_process  # it imports the server, which takes a second

    raise typer.Exit(run_process(settings, carry_keys, log_level.value, log_format.value, has_terminal=has_terminal))


def _hold_reloads(has_terminal: bool) -> None:
    """Let requests for a reload wait until the server handles them: their signals would end the process."""
    if hasattr(signal, "SIGUSR1"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1} if has_terminal else {signal.SIGUSR1, signal.SIGHUP})
