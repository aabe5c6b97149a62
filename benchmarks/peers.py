"""The SHD-size step model behind Triton, LitServe, Ray Serve and a dict in FastAPI, against `hetsyn serve`.

Each server in turn gets the same chunks (25 steps of 700 channels, packed events) under the same load: a closed loop at
concurrency 1 and 16. First it must give our server's answers to sessions that take turns: the exact step those of our
exact form, the bank graph those of our bank. A peer that does not start or gives other answers is reported with the
reason. ``ratios`` has our bank's chunks a second over each server's, by concurrency.

With `--perf-analyzer`, perf_analyzer loads ours and Triton over the Open Inference Protocol.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table

from benchmarks import perf_analyzer
from benchmarks.load.contenders import (
    MODEL,
    REQUIREMENTS,
    STEPS,
    Contender,
    dict_server,
    empty,
    ours,
    peers,
    shd_load,
)
from benchmarks.load.load import (
    SMOKE_CONCURRENCIES,
    SMOKE_RUN,
    Figures,
    LoadError,
    StreamTarget,
    answers,
    closed_loop,
    typical,
)
from hetsyn_client.errors import ServiceUnreachable
from hetsyn_client.loadtest.run import RunSettings
from service.contract.graph_io import Float32Array
from tests.support.paths import ROOT
from tests.support.servers.server_process import ServerError

CONCURRENCIES: tuple[int, ...] = (1, 16)
WARM_UP_S = 0.5
CHECKED_SESSIONS, CHECKED_CHUNKS = 4, 3
# of a probability: the bank graph is the same graph, the exact step adds up in float32 and may flip a spike
TOLERANCES = {"bank": 1e-5, "exact": 1e-3}
PEERS_PYTHON = "HETSYN_PEERS_PYTHON"
ENVIRONMENT = ROOT / "build/peers"
REFERENCE = "ours-bank"


class WrongAnswersError(Exception):
    """A server's answers differ from ours. The message has the difference."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeats", type=int, default=3, help="rounds over all servers; the median of the undisturbed ones is reported"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of each load")
    parser.add_argument(
        "--patience", type=float, default=15.0, help="seconds to wait for other programs before each closed loop"
    )
    parser.add_argument("--only", nargs="+", metavar="SERVER", help="these servers alone (and ours, the reference)")
    parser.add_argument("--perf-analyzer", action="store_true", help="ours and Triton alone, by perf_analyzer")
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=os.environ.get(PEERS_PYTHON),
        help=f"Python of an environment with {REQUIREMENTS.relative_to(ROOT)}; by default ${PEERS_PYTHON}, "
        f"else that of {ENVIRONMENT.relative_to(ROOT)}, which is made if you agree",
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    repeats, seconds, patience_s = arguments.repeats, arguments.seconds, arguments.patience
    if arguments.quick:
        repeats, seconds, patience_s = 1, 0.6, 0.0
    settings, concurrencies = RunSettings(duration_s=seconds, warmup_s=WARM_UP_S), CONCURRENCIES
    if arguments.smoke:
        settings, concurrencies = SMOKE_RUN, SMOKE_CONCURRENCIES
    python = peers_python(arguments)
    if arguments.perf_analyzer:
        seconds = 0.2 if arguments.smoke else 1.0 if arguments.quick else seconds
        return perf_analyzer.run(python, repeats, seconds, (1,) if arguments.smoke else perf_analyzer.CONCURRENCIES)
    from benchmarks.steps.step_graph import write_exact, write_step_graph  # imports torch: perf_analyzer needs none

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="hetsyn-peers-") as name:
        folder = Path(name)
        step_graph = folder / "step.onnx"
        write_step_graph(MODEL, step_graph)
        write_exact(MODEL, folder / "models" / MODEL.parent.name / MODEL.name)
        contenders = [ours("exact", folder / "models"), ours("bank"), empty(), dict_server(step_graph)]
        missing: dict[str, str] = {}
        if python is not None:
            contenders += peers(python, step_graph, folder)
        if arguments.only:
            contenders = [one for one in contenders if one.name.startswith("ours-") or one.name in arguments.only]
        sent = shd_load()
        runs: dict[str, dict[int, list[Figures]]] = {}
        answered: dict[str, Float32Array] = {}
        for repeat in range(repeats):
            for contender in contenders:
                if contender.name in missing:
                    continue
                console.print(f"round {repeat + 1} of {repeats}: {contender.title}", highlight=False)
                try:
                    with contender.serve(folder / f"{contender.name}.log") as (server, target):
                        if contender.answers_as and contender.name not in answered:
                            answered[contender.name] = _checked(contender, target, sent.chunks, answered)
                        figures = {n: closed_loop(target, server, sent, n, settings, patience_s) for n in concurrencies}
                except (ServerError, LoadError, ServiceUnreachable, WrongAnswersError) as error:
                    if contender.name.startswith("ours-"):
                        raise
                    missing[contender.name] = str(error)
                    continue
                taken = runs.setdefault(contender.name, {n: [] for n in concurrencies})
                for n, one in figures.items():
                    taken[n].append(one)
    results = _results(contenders, runs, answered, missing)
    mean_bytes = round(sum(map(len, sent.chunks)) / len(sent.chunks))
    results["load"] = {
        "chunk": sent.description,
        "chunk_bytes": mean_bytes,
        "seconds": settings.duration_s,
        "rounds": repeats,
    }
    _print(results)
    return results


def peers_python(arguments: argparse.Namespace) -> Path | None:
    """Find the Python that has the peers, or install them if the user agrees. A smoke does without them.

    Raises:
        SystemExit: they are not installed.
    """
    python = ENVIRONMENT / "bin/python"
    if arguments.peers_python is not None or python.exists():
        return arguments.peers_python or python
    if arguments.smoke:
        return None
    commands = (
        [sys.executable, "-m", "venv", str(ENVIRONMENT)],
        [str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)],
    )
    shown = " && ".join(map(shlex.join, commands))
    print(f"The peers are not installed. To install them (some minutes):\n  {shown}", file=sys.stderr)
    if not sys.stdin.isatty() or not Confirm.ask("Install them now?", default=False):
        raise SystemExit(2)
    try:
        for command in commands:
            subprocess.run(command, check=True)
    except BaseException:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)  # half an environment would be taken for a whole one
        raise
    return python


def _checked(
    contender: Contender, target: StreamTarget, chunks: Sequence[bytes], answered: dict[str, Float32Array]
) -> Float32Array:
    """Compare the server's answers [session, chunk, outputs] with ours in the same form, and return them.

    Raises:
        WrongAnswersError: they differ.
    """
    got = answers(target, CHECKED_SESSIONS, chunks[:CHECKED_CHUNKS])
    form = contender.answers_as
    assert form is not None
    expected = answered.get(f"ours-{form}", got)
    labels, distance = _difference(got, expected)
    if labels or not distance <= TOLERANCES[form]:
        raise WrongAnswersError(
            f"the answers differ from our {form} form: {labels} of {got[..., 0].size} labels differ, "
            f"probabilities by {distance:.1e}"
        )
    return got


def _difference(a: Float32Array, b: Float32Array) -> tuple[int, float]:
    """Number of labels that differ, and the largest difference of a probability."""
    return int((a.argmax(-1) != b.argmax(-1)).sum()), float(np.abs(a - b).max())


def _results(
    contenders: Sequence[Contender],
    runs: dict[str, dict[int, list[Figures]]],
    answered: dict[str, Float32Array],
    missing: dict[str, str],
) -> dict[str, Any]:
    servers: dict[str, dict[str, Any]] = {
        one.name: {
            "title": one.title,
            "form": one.answers_as,
            "differs_from_ours": None
            if one.name not in answered
            else _difference(answered[one.name], answered[f"ours-{one.answers_as}"])[1],
            "loads": {str(n): asdict(typical(rounds)) for n, rounds in runs[one.name].items()},
        }
        for one in contenders
        if one.name in runs
    }
    labels, distance = _difference(answered["ours-bank"], answered["ours-exact"])
    reference = servers[REFERENCE]["loads"]
    ratios = {
        f"{REFERENCE} / {name}": {
            n: reference[n]["chunks_per_s"] / load["chunks_per_s"] for n, load in server["loads"].items()
        }
        for name, server in servers.items()
        if name != REFERENCE
    }
    return {
        "servers": servers,
        "missing": missing,
        "bank_against_exact": {"labels": labels, "probabilities": distance},
        "ratios": ratios,
        "runs": {
            name: {str(n): [asdict(load) for load in loads] for n, loads in taken.items()}
            for name, taken in runs.items()
        },
    }


def _print(results: dict[str, Any]) -> None:
    table = Table(
        "server",
        "concurrency",
        "chunks/s",
        "p50 ms",
        "p99 ms",
        "CPU ms",
        "ours / it",
        title=f"chunks of {STEPS} steps, closed loop",
    )
    disturbed = 0.0
    for name, server in results["servers"].items():
        for n, load in server["loads"].items():
            disturbed = max(disturbed, load["others_cores"])
            ratio = results["ratios"].get(f"{REFERENCE} / {name}", {}).get(n)
            table.add_row(
                server["title"],
                n,
                f"{load['chunks_per_s']:,.0f}",
                f"{load['p50_ms']:.2f}",
                f"{load['p99_ms']:.2f}",
                f"{load['cpu_ms']:.2f}",
                "" if ratio is None else f"{ratio:.2f}",
            )
    console = Console()
    console.print(table)
    console.print(f"cores that other programs kept busy: up to {disturbed:.2f}", highlight=False)
    for name, reason in results["missing"].items():
        console.print(f"missing: {name}: {reason}", markup=False, highlight=False)
