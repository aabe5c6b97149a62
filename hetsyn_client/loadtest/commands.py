"""``hetsyn bench``. It imports its dependencies when it runs."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from hetsyn_client.server_url import (
    CaFileOption,
    HeaderOption,
    KeyOption,
    ServerArgument,
    ServerOption,
    headers_of,
    server_url,
)

if TYPE_CHECKING:
    from hetsyn_client.loadtest.measurement import Measurement
    from hetsyn_client.loadtest.run import RampResult, Stop

bench = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

STREAMS = 10
DENSITY = 0.045  # of the Spiking Heidelberg Digits
DURATION_S, TRIAL_S = 10.0, 4.0


class Transport(StrEnum):
    """How chunks go to the server."""

    infer = "infer"
    stream = "stream"
    streams = "streams"
    v2 = "v2"
    grpc = "grpc"


@bench.command()
def bench_server(
    server: ServerArgument = None,
    url: ServerOption = None,
    model: Annotated[str | None, typer.Option(help="Model; by default the server's default model.")] = None,
    version: Annotated[str | None, typer.Option(help="Version; by default the newest.")] = None,
    form: Annotated[str | None, typer.Option(help="exact or bank; by default the model's default form.")] = None,
    streams: Annotated[int | None, typer.Option(min=1, help=f"Streams in real time; by default {STREAMS}.")] = None,
    ramp: Annotated[
        bool, typer.Option("--ramp", help="Find the largest number of streams that holds the target.")
    ] = False,
    closed: Annotated[
        int | None, typer.Option(min=1, help="Streams that each send the next chunk when the last is answered.")
    ] = None,
    chunk_ms: Annotated[
        float, typer.Option(min=1, help="Length of a chunk, and interval of a stream's chunks.")
    ] = 100.0,
    duration_s: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=86_400,
            help=f"Measured time; by default {DURATION_S:g}, or {TRIAL_S:g} for each trial of --ramp.",
        ),
    ] = None,
    warmup_s: Annotated[float, typer.Option(min=0, max=3_600, help="Time before the measurement begins.")] = 1.0,
    target_ms: Annotated[float, typer.Option(min=0.1, help="The latency to hold in real time.")] = 100.0,
    percentile: Annotated[float, typer.Option(min=1, max=99.9, help="The percentile of the latency to hold.")] = 99.0,
    max_streams: Annotated[int, typer.Option(min=1, help="--ramp: the most streams to try.")] = 10_000,
    patience: Annotated[
        int,
        typer.Option(min=0, help="--ramp: at most so many failed trials do not count when other programs are busy."),
    ] = 20,
    expected_interval_ms: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="--closed: interval at which each stream would send if the server were fast enough."
        ),
    ] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(help="WAV file, or folder of WAV files, to send; by default synthesised sound.", exists=True),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help=f"Share of channels with a spike in each step; {DENSITY:g} for a model without an encoder.",
        ),
    ] = None,
    session_chunks: Annotated[
        int, typer.Option(min=1, help="Number of chunks in a session; after it, another begins.")
    ] = 50,
    transport: Annotated[
        Transport,
        typer.Option(
            help="infer: a request a chunk. stream: WS /stream, a connection a session. streams: WS /streams. "
            "v2, grpc: the Open Inference Protocol."
        ),
    ] = Transport.infer,
    grpc_port: Annotated[
        int, typer.Option(min=1, max=65_535, help="--transport grpc: the server's port for gRPC.")
    ] = 8001,
    connections: Annotated[
        int, typer.Option(min=1, help="The most connections; for --transport streams at most 4. stream has one each.")
    ] = 256,
    timeout_s: Annotated[float, typer.Option(min=0.1, max=600, help="Time limit of one request.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the arrivals and of the synthesised input.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    html_path: Annotated[Path | None, typer.Option("--html", help="Write a report with plots to this file.")] = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca_file: CaFileOption = None,
) -> None:
    """Put a server under load and measure its latency.

    By default, streams in real time send a chunk whenever one is due, even if
    the server is too slow (open loop). Ctrl-C ends a run and reports the
    results so far.
    """
    modes = {"--streams": streams is not None, "--ramp": ramp, "--closed": closed is not None}
    chosen = [name for name, is_given in modes.items() if is_given]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} cannot be used together: choose one")
    if expected_interval_ms is not None and closed is None:
        raise typer.BadParameter("--expected-interval-ms corrects a closed loop: give --closed too, or leave it out")
    for path in (json_path, html_path):
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"there is no folder {path.parent}: make it first")
    import_module("hdrh")  # before any load, so that a missing dependency is reported at once
    if html_path is not None:
        import_module("matplotlib")

    from hetsyn_client.loadtest.load import choose_load
    from hetsyn_client.loadtest.ramp import Goal, RampSettings
    from hetsyn_client.loadtest.run import ClosedLoop, OpenLoop, RunSettings, Stop, measure, run_loop, saturate
    from hetsyn_client.loadtest.served_model import fetch_model
    from hetsyn_client.loadtest.target import Address
    from hetsyn_client.loadtest.transports import target_type
    from hetsyn_client.loadtest.view import View, verdict

    address = Address.parse(server_url(server, url), headers_of(header), key, ca_file)
    served = fetch_model(address, model, version, form)
    load = choose_load(
        served, chunk_ms / 1000, recordings=recordings, density=density, default_density=DENSITY, seed=seed
    )
    target = target_type(transport)(address, load.content_type, served.name, served.version, served.form)
    target.channels, target.grpc_port = served.channels, grpc_port
    settings = RunSettings(
        duration_s=duration_s or (TRIAL_S if ramp else DURATION_S),
        warmup_s=warmup_s,
        session_chunks=session_chunks,
        connections=connections,
        timeout_s=timeout_s,
        seed=seed,
    )
    goal = Goal(target_ms, percentile)
    console = Console()
    console.print(f"{served.name} {served.version}, {served.form}: {load.description}", highlight=False, markup=False)
    stop = Stop()
    result: Measurement | RampResult
    with _interruptible(stop), View(console) as view:
        if ramp:
            limits = RampSettings(max_streams=max_streams, patience=patience)
            result = run_loop(saturate(target, load, goal, settings, limits, stop=stop, watch=view))
        else:
            expected_s = expected_interval_ms / 1000 if expected_interval_ms is not None else None
            mode = OpenLoop(streams or STREAMS) if closed is None else ClosedLoop(closed, expected_s)
            result = run_loop(measure(target, load, mode, settings, stop=stop, watch=view))
    described = {
        "url": address.url,
        "model": served.name,
        "version": served.version,
        "form": served.form,
        "transport": transport.value,
        "load": load.description,
        "chunk_ms": 1000 * load.period_s,
        "duration_s": settings.duration_s,
        "warmup_s": warmup_s,
        "session_chunks": session_chunks,
        "connections": connections,
        "timeout_s": timeout_s,
        "seed": seed,
        "expected_interval_ms": expected_interval_ms,
        **({"target_ms": target_ms, "percentile": percentile} if closed is None else {}),
    }
    _show(console, result)
    found = verdict(result, transport.value, None if closed is not None else goal)
    console.print(found, style="bold", highlight=False, markup=False, soft_wrap=True)
    _write(described, result, json_path, html_path)
    if not _is_anything_answered(result):
        typer.echo("hetsyn: no chunk got a good answer", err=True)
        raise typer.Exit(1)


@contextmanager
def _interruptible(stop: Stop) -> Iterator[None]:
    """The first Ctrl-C ends the run with a report; the second ends the program."""

    def interrupted(*_: Any) -> None:
        stop.reason = "interrupted"
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _show(console: Console, result: Measurement | RampResult) -> None:
    from hetsyn_client.loadtest.run import RampResult
    from hetsyn_client.loadtest.view import measurement_table, notes, trial_table

    measurement: Measurement | None
    if isinstance(result, RampResult):
        if console.is_terminal:
            console.print(trial_table(result.trials))
        measurement = result.at_saturation
    else:
        measurement = result
    if measurement is not None:
        console.print(measurement_table(measurement))
        for note in notes(measurement):
            console.print(f"note: {note}", style="yellow", highlight=False, markup=False)


def _write(
    described: dict[str, Any], result: Measurement | RampResult, json_path: Path | None, html_path: Path | None
) -> None:
    if json_path is not None:
        from hetsyn_client.loadtest.results import as_json

        json_path.write_text(json.dumps(as_json(described, result), indent=1) + "\n")
    if html_path is not None:
        from hetsyn_client.loadtest.report import as_html

        html_path.write_text(as_html(described, result))


def _is_anything_answered(result: Measurement | RampResult) -> bool:
    from hetsyn_client.loadtest.run import RampResult

    if isinstance(result, RampResult):
        return any(trial.measurement.answered for trial in result.trials)
    return result.answered > 0
