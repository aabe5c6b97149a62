"""``hetsyn bench``. It imports its dependencies when it runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hetsyn_client.access import Access
from hetsyn_client.loadtest.senders import WAYS, Transport
from hetsyn_client.terminal.options import DEFAULT_URL, CaFile, Header, Key, Model, Url, headers_of
from hetsyn_client.terminal.output import open_console

bench = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

STREAMS = 10


@bench.command()
def bench_server(
    url: Url = DEFAULT_URL,
    model: Model = None,
    streams: Annotated[
        int | None, typer.Option(min=1, help=f"Number of streams in real time (open loop). Default: {STREAMS}.")
    ] = None,
    closed: Annotated[
        int | None, typer.Option(min=1, help="Number of streams that each send when answered (closed loop).")
    ] = None,
    find_streams: Annotated[
        float | None,
        typer.Option(min=0.1, help="Find the most streams in real time whose p99 is below so many milliseconds."),
    ] = None,
    transport: Annotated[Transport, typer.Option(help="The interface that chunks use.")] = Transport.infer,
    chunk_ms: Annotated[
        float, typer.Option(min=1, help="Length of a chunk in milliseconds, rounded to steps of the model.")
    ] = 100.0,
    duration_s: Annotated[float, typer.Option(min=0.5, max=3_600, help="Length of the measurement in seconds.")] = 10.0,
    warmup_s: Annotated[float, typer.Option(min=0, max=3_600, help="Load before the measurement, in seconds.")] = 1.0,
    session_chunks: Annotated[int, typer.Option(min=1, help="Chunks of a session; after it, another begins.")] = 50,
    recordings: Annotated[
        Path | None, typer.Option(exists=True, help="WAV file, or folder of WAV files, to send.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    html_path: Annotated[Path | None, typer.Option("--html", help="Write the results and plots to this page.")] = None,
    key: Key = None,
    header: Header = None,
    ca_file: CaFile = None,
) -> None:
    """Put a server under load and measure its latency.

    By default, streams in real time send a chunk whenever one is due, even if the server is too slow (open loop).

    They send synthesised sound, sines or random spikes, as the model takes. Ctrl-C ends a run and reports its results.
    """
    if [streams, closed, find_streams].count(None) < 2:
        raise typer.BadParameter("--streams, --closed and --find-streams cannot be used together: choose one")
    for path in (json_path, html_path):
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"there is no folder {path.parent}: make it first")

    from hetsyn_client.loadtest.html_report import as_html
    from hetsyn_client.loadtest.load import Served, choose_load
    from hetsyn_client.loadtest.report import as_json, conclusion, progress, show, tried
    from hetsyn_client.loadtest.run import Loop, Record, RunSettings, measure, run_loop
    from hetsyn_client.loadtest.search import search
    from hetsyn_client.terminal.backend import Server

    access = Access.checked(url, headers_of(header), key, ca_file)
    described = Server(access.url, model, headers=headers_of(header), key=key, ca_file=ca_file).describe()
    served = Served.described(described)
    load = choose_load(served, chunk_ms / 1000, recordings)
    console = open_console()
    console.print(f"{served.name}: {load.description}", highlight=False, markup=False)
    loop = Loop(closed or streams or STREAMS, is_open=closed is None)
    settings = RunSettings(duration_s, warmup_s, session_chunks)
    way = partial(WAYS[transport], access, served, load)
    about = [f"{served.name} at {access.url} over {transport.value}: {load.description}"]

    def say(sentence: str) -> None:
        about.append(sentence)
        console.print(sentence, highlight=False, markup=False)

    with console.status("begins") as status:

        def told(record: Record, now_s: float) -> None:
            status.update(progress(record, now_s))

        if find_streams is None:
            found, measured = None, run_loop(measure(way(), load, loop, settings, told))
        else:
            found = run_loop(search(way, load, find_streams, settings, told, lambda trial: say(tried(trial))))
            measured = found.measurement
    show(console, measured)
    if found is not None:
        say(conclusion(found))
    if json_path is not None:
        options = {
            "url": access.url,
            "model": served.name,
            "transport": transport.value,
            "load": load.description,
            "chunk_ms": 1000 * load.period_s,
            **asdict(settings),
        }
        searched = {} if found is None else {"search": found.as_json()}
        json_path.write_text(json.dumps(as_json(options, measured) | searched, indent=1) + "\n")
    if html_path is not None:
        html_path.write_text(as_html(about, measured), encoding="utf-8")
    if not measured.answered:
        typer.echo("hetsyn: no chunk got a good answer", err=True)
        raise typer.Exit(1)
