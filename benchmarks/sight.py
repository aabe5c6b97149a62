"""What does it cost to see what a server does: histograms, scrapes, lines of JSON, a webhook, traces?

All sides run at the same time and get each load in turns, in an order that changes from round to round. They are
started anew after half of the rounds:

- ``before``: another checkout (``--against``), from before these existed
- ``defaults``: this checkout as ``hetsyn serve`` starts it: histograms, and the context of each request
- ``all``: lines of JSON, a webhook, and a scrape of /metrics each second
- ``lines``: a line of JSON for each request besides (``--log-level debug``)

With ``--traces``, these in place of ``all`` and ``lines``, in a run of their own, because the thread that exports spans
works on while others are measured:

- ``sampled``: as ``all``, with one chunk in a hundred as spans of OpenTelemetry, which go to a collector here
- ``traces``: likewise, with every chunk

The loads are closed loops of 16 sessions over ``/infer``, ``/stream`` and ``/streams`` on both shipped models.
``ratios`` has the medians over the rounds of CPU time a chunk and of chunks a second, by side, against the first side.
Passed: over all loads, ``all`` (or ``sampled``) takes no more than 1 / 0.95 of the first side's CPU time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.compare import Checkout, workloads
from benchmarks.contenders import ROOT
from benchmarks.load import Figures, LoadError, closed_loop
from benchmarks.server_process import ServerProcess
from benchmarks.transports import cases
from hetsyn_client.loadtest.run import RunSettings
from hetsyn_client.loadtest.target import Address

SESSIONS = 16
TRANSPORTS = ("infer", "stream", "streams")
SCRAPE_S = 1.0
LEAST_RATIO = 0.95
JUDGED = ("all", "sampled")
OPTIONS = ("--client-share", "1")
SAMPLED = (("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.01"))
LINES = ("--log-format", "json", "--log-level", "info")


Round = dict[str, dict[str, Figures]]  # case -> side -> figures
Servers = dict[str, tuple[ServerProcess, Address]]


@dataclass(frozen=True)
class Side:
    """A way to run the server.

    Attributes:
        name: see above.
        checkout: whose server it is.
        options: of ``hetsyn serve``.
        environment: of its process.
        is_scraped: /metrics is read each ``SCRAPE_S``.
    """

    name: str
    checkout: Checkout
    options: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    is_scraped: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", type=Path, help="folder of an earlier checkout, with its .venv")
    parser.add_argument("--traces", action="store_true", help="measure the price of traces")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.6, help="of each load")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    rounds, seconds = (2, 0.3) if arguments.quick else (arguments.rounds, arguments.seconds)
    settings = RunSettings(duration_s=seconds, warmup_s=0.2)
    console = Console(stderr=True, highlight=False)
    with _sink() as url, tempfile.TemporaryDirectory(prefix="hetsyn-sight-") as folder:
        sides = _sides(arguments.against, url, traces=arguments.traces)
        taken: list[Round] = []
        for half in (range(rounds // 2), range(rounds // 2, rounds)):
            with _serving(sides, Path(folder)) as servers:
                for index in half:
                    console.print(f"round {index + 1} of {rounds}")
                    shift = index % len(sides)
                    try:
                        taken.append(_measure([*sides[shift:], *sides[:shift]], servers, settings))
                    except LoadError as error:  # such as none answered, on a machine that is busy
                        console.print(f"the round does not count: {error}")
    if not taken:
        raise SystemExit("no round was complete: run it again on a machine that is less busy")
    results = summary(taken, [side.name for side in sides])
    results["checkouts"] = {side.name: side.checkout.described() for side in sides}
    results["settings"] = {"rounds": len(taken), "seconds": seconds, "sessions": SESSIONS, "cores": os.cpu_count()}
    if arguments.quick:
        del results["passed"]  # one short round proves nothing
    _print(results)
    return results


def _sides(against: Path | None, sink: str, *, traces: bool) -> list[Side]:
    this = Checkout(ROOT, Path(sys.executable)).checked()
    everything = (*LINES, "--webhook-url", f"{sink}/hook")
    collector = (("OTEL_EXPORTER_OTLP_ENDPOINT", sink),)
    before = [] if against is None else [Side("before", Checkout.at(against))]
    first = [*before, Side("defaults", this)]
    if traces:
        return [
            *first,
            Side("sampled", this, everything, (*collector, *SAMPLED), is_scraped=True),
            Side("traces", this, everything, collector, is_scraped=True),
        ]
    return [
        *first,
        Side("all", this, everything, is_scraped=True),
        Side("lines", this, (*everything, "--log-level", "debug"), is_scraped=True),
    ]


@contextmanager
def _serving(sides: Sequence[Side], folder: Path) -> Iterator[Servers]:
    """New processes of all sides."""
    probe = workloads()[0]
    with ExitStack() as running:
        servers: Servers = {}
        for side in sides:
            log = folder / f"{side.name}.log"
            serving = side.checkout.serve(probe, log, (*OPTIONS, *side.options), dict(side.environment))
            _, address = servers[side.name] = running.enter_context(serving)
            if side.is_scraped:
                running.enter_context(_scraped(address))
        yield servers


def _measure(sides: Sequence[Side], servers: Servers, settings: RunSettings) -> Round:
    """One round over all loads."""
    figures: Round = {}
    for case in cases():
        for transport in TRANSPORTS:
            of_case = figures.setdefault(f"{case.artifact.manifest.name}, {transport}", {})
            for side in sides:
                server, address = servers[side.name]
                of_case[side.name] = closed_loop(case.target(transport, address), server, case.load, SESSIONS, settings)
    return figures


def summary(rounds: Sequence[Round], names: Sequence[str]) -> dict[str, Any]:
    """Medians of each side, and of its ratios to the first side within a round.

    Args:
        rounds: at least one.
        names: of the sides.
    """
    base, found = names[0], {}
    judged = next(name for name in names if name in JUDGED)
    for case in rounds[0]:
        sides = {}
        for name in names:
            taken = [one[case][name] for one in rounds]
            pairs = [(one[case][base], one[case][name]) for one in rounds]
            sides[name] = {
                "chunks_per_s": statistics.median(one.chunks_per_s for one in taken),
                "cpu_ms": statistics.median(one.cpu_ms for one in taken),
                "p99_ms": statistics.median(one.p99_ms for one in taken),
                "throughput": statistics.median(one.chunks_per_s / before.chunks_per_s for before, one in pairs),
                "cpu": statistics.median(before.cpu_ms / one.cpu_ms for before, one in pairs),
            }
        found[case] = sides
    ratios = {
        f"{title}, {name}, all loads": statistics.geometric_mean(sides[name][kind] for sides in found.values())
        for kind, title in (
            ("cpu", f"CPU time a chunk, {base} / side"),
            ("throughput", f"chunks a second, side / {base}"),
        )
        for name in names[1:]
    }
    return {
        "passed": statistics.geometric_mean(sides[judged]["cpu"] for sides in found.values()) >= LEAST_RATIO,
        "cases": found,
        "ratios": ratios,
        "rounds": [
            {case: {name: asdict(figures) for name, figures in sides.items()} for case, sides in one.items()}
            for one in rounds
        ],
    }


def _print(results: dict[str, Any]) -> None:
    console = Console(width=120, highlight=False)
    names = list(next(iter(results["cases"].values())))
    table = Table("load", *[f"{name}\nCPU µs, ratio" for name in names])
    for case, sides in results["cases"].items():
        table.add_row(case, *[f"{1e3 * side['cpu_ms']:.1f}, {side['cpu']:.3f}" for side in sides.values()])
    console.print(table)
    for title, ratio in results["ratios"].items():
        console.print(f"{title}: {ratio:.3f}")
    if "passed" in results:
        console.print(f"{'passed' if results['passed'] else 'NOT PASSED'}: the least ratio is {LEAST_RATIO:g}")


@contextmanager
def _scraped(address: Address) -> Iterator[None]:
    """A context in which the metrics of a server are read again and again."""
    ends = threading.Event()

    def scrape() -> None:
        while not ends.wait(SCRAPE_S):
            with suppress(OSError), urllib.request.urlopen(f"{address.url}/metrics", timeout=5) as response:
                response.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


class _Sink(BaseHTTPRequestHandler):
    """Takes whatever is posted."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _sink() -> Iterator[str]:
    """The URL of a collector and receiver that takes all and keeps nothing."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Sink) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
