"""``hetsyn bench``. It imports its dependencies when it runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hetsyn_client.access import Access
from hetsyn_client.loadtest.senders import HetsynWay, Transport
from hetsyn_client.output import open_console
from hetsyn_client.server_url import (
    CaFileOption,
    HeaderOption,
    KeyOption,
    ServerArgument,
    ServerOption,
    headers_of,
    server_url,
)

bench = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

STREAMS = 10
# of 0.13; the sentence about them can go after one version
REMOVED = (
    "--ramp", "--target-ms", "--percentile", "--max-streams", "--patience", "--expected-interval-ms", "--version",
    "--connections", "--timeout-s", "--grpc-port", "--seed", "--html",
)  # fmt: skip


def _refuse(is_given: bool) -> None:
    if is_given:
        raise typer.BadParameter(
            f"{', '.join(REMOVED)} are gone: hetsyn bench measures one load, so try some numbers of --streams; over "
            "gRPC, measure with perf_analyzer; draw what --json has",
            param_hint="hetsyn bench",
        )


@bench.command()
def bench_server(
    server: ServerArgument = None,
    url: ServerOption = None,
    model: Annotated[str | None, typer.Option(help="Model; by default the server's default model.")] = None,
    streams: Annotated[int | None, typer.Option(min=1, help=f"Streams in real time; by default {STREAMS}.")] = None,
    closed: Annotated[
        int | None, typer.Option(min=1, help="Streams that each send the next chunk when the last is answered.")
    ] = None,
    transport: Annotated[
        Transport,
        typer.Option(
            help="infer: a request a chunk. stream: WS /stream, a connection a session. "
            "v2: the Open Inference Protocol."
        ),
    ] = Transport.infer,
    chunk_ms: Annotated[
        float, typer.Option(min=1, help="Length of a chunk, to the nearest step, and interval of a stream's chunks.")
    ] = 100.0,
    duration_s: Annotated[float, typer.Option(min=0.5, max=3_600, help="Measured time.")] = 10.0,
    warmup_s: Annotated[float, typer.Option(min=0, max=3_600, help="Time before the measurement begins.")] = 1.0,
    session_chunks: Annotated[
        int, typer.Option(min=1, help="Number of chunks in a session; after it, another begins.")
    ] = 50,
    recordings: Annotated[
        Path | None,
        typer.Option(help="WAV file, or folder of WAV files, to send; by default synthesised sound.", exists=True),
    ] = None,
    density: Annotated[
        float | None, typer.Option(min=0, max=1, help="Send spikes: share of channels with one in each step.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca_file: CaFileOption = None,
    removed: Annotated[bool, typer.Option(*REMOVED, hidden=True, is_eager=True, callback=_refuse)] = False,  # noqa: ARG001
) -> None:
    """Put a server under load and measure its latency.

    By default, streams in real time send a chunk whenever one is due, even if
    the server is too slow (open loop). Ctrl-C ends a run and reports the
    results so far.
    """
    if streams is not None and closed is not None:
        raise typer.BadParameter("--streams and --closed cannot be used together: choose one")
    if json_path is not None and not json_path.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {json_path.parent}: make it first")

    from hetsyn_client.loadtest.load import Served, choose_load
    from hetsyn_client.loadtest.report import as_json, progress, show
    from hetsyn_client.loadtest.run import ClosedLoop, OpenLoop, RunSettings, measure, run_loop
    from hetsyn_client.terminal.backend import Server

    access = Access.checked(server_url(server, url), headers_of(header), key, ca_file)
    described = Server(access.url, model, headers=headers_of(header), key=key, ca_file=ca_file).describe()
    served = Served.described(described)
    load = choose_load(served, chunk_ms / 1000, recordings, density)
    console = open_console()
    console.print(f"{served.name}: {load.description}", highlight=False, markup=False)
    mode = OpenLoop(streams or STREAMS) if closed is None else ClosedLoop(closed)
    settings = RunSettings(duration_s, warmup_s, session_chunks)
    way = HetsynWay(access, transport, served, load)
    with console.status("begins") as status:
        measured = run_loop(measure(way, load, mode, settings, lambda *now: status.update(progress(*now))))
    options = {
        "url": access.url,
        "model": served.name,
        "transport": transport.value,
        "load": load.description,
        "chunk_ms": 1000 * load.period_s,
        **asdict(settings),
    }
    show(console, measured)
    if json_path is not None:
        json_path.write_text(json.dumps(as_json(options, measured), indent=1) + "\n")
    if not measured.answered:
        typer.echo("hetsyn: no chunk got a good answer", err=True)
        raise typer.Exit(1)
