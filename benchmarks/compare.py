"""Is `hetsyn serve` of this checkout as fast as that of another checkout? Both under the same load, in turns.

In each round both servers start anew, both on the same models (``--models``). Each load goes to one server and then to
the other, and the first of the two alternates from round to round. The loads are closed loops at concurrency 16 and 64:
chunks of 100 ms of the shipped recordings for ``speech-digits``, and packed events of 25 steps for ``shd-size``.
``ratios`` has the medians of the ratios within a round. Above 1 this checkout is better. Passed: no ratio below 0.97. A
throughput is judged only if three rounds were quiet, because other programs disturb it far more than the CPU time.

With ``--streams``, a search over each interface of each side takes their place: how many real-time streams of
``shd-size`` have a p99 under 100 ms? Nothing is judged there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import transports
from benchmarks.load.contenders import ours_target, shd_load, speech_target
from benchmarks.load.load import SMOKE_CONCURRENCIES, SMOKE_RUN, Figures, SearchLimits, closed_loop, missing_answer
from benchmarks.revisions import FIXTURES, has_operator, models_of
from hetsyn_client.loadtest.load import Load, recorded
from hetsyn_client.loadtest.run import RunSettings
from tests.support.paths import MODELS, RECORDINGS, ROOT
from tests.support.servers.server_process import ServerProcess, free_port
from tests.support.servers.target import Address, Target

CHUNK_S = 0.1
CONCURRENCIES: tuple[int, ...] = (16, 64)
LEAST_RATIO = 0.97
LEAST_QUIET_ROUNDS = 3  # with fewer, disturbed rounds count too, and throughput is not judged
SIDES = ("this", "other")
ALL = "chunks a second, this / other, geometric mean of all loads"

Round = dict[str, dict[str, Figures]]  # case -> side -> figures
Most = dict[str, dict[str, int]]  # transport -> side -> streams


@dataclass(frozen=True)
class Checkout:
    """A checkout of the project with an environment.

    Attributes:
        root: its folder.
    """

    root: Path
    python: Path

    @staticmethod
    def at(root: Path) -> Checkout:
        """Open the checkout in a folder, with its environment ``.venv``.

        Raises:
            SystemExit: no folder, no environment there, or one that runs the code of another folder.
        """
        if not root.is_dir():
            raise SystemExit(f"there is no folder {root}: name that of the other checkout")
        checkout = Checkout(root.resolve(), root.resolve() / ".venv/bin/python")
        if not checkout.python.exists():
            raise SystemExit(f"{root} has no environment: run 'make install' there first")
        return checkout.checked()

    def checked(self) -> Checkout:
        """
        Raises:
            SystemExit: the environment runs the code of another folder.
        """
        code = Path(self._output("-c", "import service; print(service.__file__)"))
        if not code.is_relative_to(self.root):
            raise SystemExit(f"{self.python} runs the server in {code.parent}, not the one in {self.root}")
        return self

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.root), "ORT_DISABLE_TELEMETRY": "1"}

    def described(self) -> dict[str, Any]:
        """Commit, Python and native operator, as JSON values."""
        git = ["git", "-C", str(self.root)]
        commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
        return {
            "commit": commit.stdout.strip() or None,
            "has_uncommitted_changes": bool(changes.stdout.strip()),
            "python": self._output("-c", "import platform; print(platform.python_version())"),
            "has_native_operator": has_operator(self.root),
        }

    @contextmanager
    def serve(self, probe: Workload, log: Path, models: Path = MODELS) -> Iterator[tuple[ServerProcess, Address]]:
        """Start ``hetsyn serve`` of this checkout, and wait until it has answered a chunk of ``probe``.

        Args:
            probe: see above.
            log: file for the server's output.
            models: folder of the models.

        Raises:
            ServerError: it did not start.
        """
        address = Address("127.0.0.1", free_port())
        # -P: not the working directory's hetsyn.py
        command = [str(self.python), "-P", "-m", "hetsyn", "serve", "--models", str(models)]
        command += ["--port", str(address.port), "--log-level", "warning", "--client-share", "1"]
        missing = missing_answer(probe.target(address), probe.load.chunks[0])
        with ServerProcess(command, self.environment, missing, log) as server:
            yield server, address

    def _output(self, *arguments: str) -> str:
        command = [str(self.python), "-P", *arguments]
        process = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=False
        )
        if process.returncode:
            raise SystemExit(f"{self.python}: {process.stderr.strip()[-400:]}")
        return process.stdout.strip()


@dataclass(frozen=True)
class Workload:
    """Chunks for one model.

    Attributes:
        load: the chunks.
        target: the model's interface at an address.
    """

    name: str
    load: Load
    target: Callable[[Address], Target]


def workloads(models: Path) -> list[Workload]:
    """Make the chunks to send: sound for the speech model of a folder, and spikes."""
    sound = recorded(RECORDINGS, CHUNK_S)
    every = sound.content_type.replace("audio/pcm;encoding=pcm_s16le", "audio/L16") + ";endianness=little-endian"
    sound = replace(sound, content_type=every)  # a type that every checkout reads
    return [
        Workload("speech-digits", sound, lambda address: speech_target(address, sound, models)),
        Workload("shd-size", shd_load(), ours_target),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", type=Path, help="folder of the other checkout, with its .venv")
    parser.add_argument(
        "--models", default=FIXTURES, metavar="FOLDER|REVISION", help="models that both serve (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=12, help="the most rounds")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of each load")
    parser.add_argument("--patience", type=float, default=1.0, help="seconds to wait for quiet before each load")
    parser.add_argument("--limit-s", type=float, default=420.0, help="no round begins that would end later than this")
    parser.add_argument("--streams", action="store_true", help="most real-time streams in place of closed loops")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    rounds, seconds, patience_s = arguments.rounds, arguments.seconds, arguments.patience
    if arguments.quick:
        rounds, seconds, patience_s = 1, 0.5, 0.0
    this = Checkout(ROOT, Path(sys.executable)).checked()
    if arguments.against is None and not arguments.smoke:
        raise SystemExit("give the other checkout: --against FOLDER")
    checkouts = {"this": this, "other": this if arguments.against is None else Checkout.at(arguments.against)}
    settings, concurrencies = RunSettings(duration_s=seconds, warmup_s=0.4), CONCURRENCIES
    if arguments.smoke:
        settings, concurrencies = SMOKE_RUN, SMOKE_CONCURRENCIES
    console = Console(stderr=True, highlight=False)
    taken: list[Round] = []
    most: list[Most] = []
    began_s = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hetsyn-compare-")))
        models = stack.enter_context(models_of(arguments.models))
        for index in range(rounds):
            elapsed_s = time.monotonic() - began_s
            if elapsed_s * (index + 1) / max(1, index) > arguments.limit_s:
                console.print(f"no time for more than {index} of {rounds} rounds")
                break
            console.print(f"round {index + 1} of {rounds}")
            order = SIDES if index % 2 == 0 else SIDES[::-1]
            if arguments.streams:
                limits = SearchLimits(1, 0.0) if arguments.smoke else SearchLimits()
                most.append(_most_streams(checkouts, order, settings, limits, folder, models))
            else:
                taken.append(_measure(checkouts, order, concurrencies, settings, patience_s, folder, models))
    results = summary_of_streams(most) if arguments.streams else summary(taken)
    results["checkouts"] = {side: checkout.described() for side, checkout in checkouts.items()}
    results["settings"] = {
        "rounds": len(taken) + len(most),
        "seconds": settings.duration_s,
        "cores": os.cpu_count(),
        "models": arguments.models,
    }
    if arguments.quick:
        results.pop("passed", None)  # one short round proves nothing
    (_print_streams if arguments.streams else _print)(results)
    return results


def _measure(
    checkouts: dict[str, Checkout],
    order: Sequence[str],
    concurrencies: Sequence[int],
    settings: RunSettings,
    patience_s: float,
    folder: Path,
    models: Path,
) -> Round:
    """Measure one round, with new processes.

    Args:
        order: which side comes first.
        models: folder of both.
    """
    loads = workloads(models)
    figures: Round = {}
    with ExitStack() as running:
        servers = {
            side: running.enter_context(checkouts[side].serve(loads[0], folder / f"{side}.log", models))
            for side in order
        }
        for workload in loads:
            for concurrency in concurrencies:
                case = figures.setdefault(f"{workload.name}, concurrency {concurrency}", {})
                for side in order:
                    server, address = servers[side]
                    target = workload.target(address)
                    case[side] = closed_loop(target, server, workload.load, concurrency, settings, patience_s)
    return figures


def _most_streams(
    checkouts: dict[str, Checkout],
    order: Sequence[str],
    settings: RunSettings,
    limits: SearchLimits,
    folder: Path,
    models: Path,
) -> Most:
    """Find the most streams of each side over each interface, with a new server for each."""
    case, probe = transports.cases(one=True)[0], workloads(models)[-1]
    found: Most = {}
    for transport in transports.TRANSPORTS:
        for side in order:
            with checkouts[side].serve(probe, folder / f"{side}.log", models) as (server, address):
                search = transports.search(case, transport, address, server.pids, settings, limits)
                found.setdefault(transport, {})[side] = search["streams"]
    return found


def summary_of_streams(rounds: Sequence[Most]) -> dict[str, Any]:
    """Medians of both sides, and of the ratios within a round, with quartiles."""
    most: dict[str, dict[str, Any]] = {
        transport: {
            **{side: statistics.median(one[transport][side] for one in rounds) for side in SIDES},
            "ratio": _spread([one[transport]["this"] / max(1, one[transport]["other"]) for one in rounds]),
        }
        for transport in rounds[0]
    }
    ratios = {f"streams, {transport}, this / other": one["ratio"]["median"] for transport, one in most.items()}
    return {"streams": most, "ratios": ratios, "rounds": list(rounds)}


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Medians of both sides, and of the ratios within a round, with quartiles, over the rounds that were quiet.

    Args:
        rounds: at least one.
    """
    cases: dict[str, Any] = {}
    for case in rounds[0]:
        pairs = [(one[case]["this"], one[case]["other"]) for one in rounds]
        quiet = [pair for pair in pairs if all(figures.is_quiet for figures in pair)]
        counted = quiet if len(quiet) >= LEAST_QUIET_ROUNDS else pairs
        cases[case] = {
            "rounds": len(counted),
            "quiet_rounds": len(quiet),
            "is_throughput_judged": counted is quiet,
            **{side: _medians([pair[index] for pair in counted]) for index, side in enumerate(SIDES)},
            "throughput": _spread([this.chunks_per_s / other.chunks_per_s for this, other in counted]),
            "cpu": _spread([other.cpu_ms / this.cpu_ms for this, other in counted]),
        }
    throughputs = [case["throughput"]["median"] for case in cases.values()]
    judged = [case["cpu"]["median"] for case in cases.values()]
    judged += [case["throughput"]["median"] for case in cases.values() if case["is_throughput_judged"]]
    ratios = {
        f"{title}, {case}": figures[kind]["median"]
        for kind, title in (("throughput", "chunks a second, this / other"), ("cpu", "CPU time a chunk, other / this"))
        for case, figures in cases.items()
    }
    return {
        "passed": min(judged) >= LEAST_RATIO,
        "cases": cases,
        "ratios": ratios | {ALL: statistics.geometric_mean(throughputs)},
        "rounds": [
            {case: {side: asdict(figures) for side, figures in sides.items()} for case, sides in one.items()}
            for one in rounds
        ],
    }


def _medians(figures: Sequence[Figures]) -> dict[str, float]:
    return {name: statistics.median(asdict(one)[name] for one in figures) for name in asdict(figures[0])}


def _spread(ratios: Sequence[float]) -> dict[str, float]:
    low, median, high = np.percentile(ratios, (25, 50, 75)).tolist()
    return {"low_quartile": low, "median": median, "high_quartile": high}


def _print_streams(results: dict[str, Any]) -> None:
    table = Table("shd-size over", *SIDES, "this / other\n(quartiles)", title=_title(results))
    for transport, figures in results["streams"].items():
        cells = [f"{figures[side]:,.0f}" for side in SIDES]
        table.add_row(f"/{transport}", *cells, _shown(figures["ratio"]))
    Console(width=120, highlight=False).print(table)


def _title(results: dict[str, Any]) -> str:
    return ", ".join(f"{side} {checkout['commit']}" for side, checkout in results["checkouts"].items())


def _shown(spread: dict[str, float]) -> str:
    return f"{spread['median']:.3f} ({spread['low_quartile']:.3f} to {spread['high_quartile']:.3f})"


def _print(results: dict[str, Any]) -> None:
    console = Console(width=120, highlight=False)
    table = Table(
        "load", "chunks/s\nthis", "\nother", "this / other\n(quartiles)", "CPU ms a chunk\nthis", "\nother",
        "other / this\n(quartiles)", "quiet\nrounds", title=_title(results),
    )  # fmt: skip
    for case, figures in results["cases"].items():
        cells = [case]
        for name, digits, kind in (("chunks_per_s", 0, "throughput"), ("cpu_ms", 3, "cpu")):
            cells += [f"{figures[side][name]:,.{digits}f}" for side in SIDES]
            cells.append(_shown(figures[kind]))
        table.add_row(*cells, f"{figures['quiet_rounds']} of {results['settings']['rounds']}")
    console.print(table)
    console.print(f"{ALL}: {results['ratios'][ALL]:.3f}")
    for case, figures in results["cases"].items():
        if not figures["is_throughput_judged"]:
            console.print(f"{case}: fewer than {LEAST_QUIET_ROUNDS} quiet rounds, so only the CPU time is judged")
    if "passed" in results:
        console.print(f"{'passed' if results['passed'] else 'NOT PASSED'}: the least ratio is {LEAST_RATIO:g}")
