"""What does a chunk cost in the server's own code, without system calls: CPU time, bytecodes and calls of Python?

The protocol objects of the server get real bytes from connections without a socket, in a process of its own for each
checkout (``inside/``). ``/infer`` and ``/stream`` have a connection for each session, ``/streams`` has all sessions
in one frame, and ``engine`` is the engine alone. Bytecodes and calls are exact. A CPU time is the lower quartile of the
rounds of a process, and the median of several processes; those of two checkouts take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.plots import plain, pyplot, save
from benchmarks.revisions import SERVED, checkout_of, commit_of, has_operator, models_of
from tests.support.paths import RECORDINGS, ROOT

MODELS = "bc4ebb1"  # of format 2, which every checkout reads
WAYS = ("/infer", "/stream", "/streams", "engine")
SIZES = (16, 64)
START = ("shd-size", "/infer", 16)
WALKED = (("speech-digits", "/infer", 1), ("speech-digits", "/stream", 1))
MOST_LINES = 60  # of a function that a chunk passes
MOST_RATIO = 1.5  # of the median of a start to that of all
COLOURS = {"this": "#0b6e4f", "other": "#8a8a8a"}
PROCESS_TIMEOUT_S = 600.0
HERE = Path(__file__).parent

Cell = tuple[str, str, int]  # model, way, sessions


@dataclass(frozen=True)
class Side:
    """A checkout to measure.

    Attributes:
        root: its folder.
        models: folder of the models that it serves.
        name: in the report.
        commit: None outside of git.
    """

    root: Path
    models: Path
    name: str
    commit: str | None

    def measure(self, mode: str, cells: Sequence[Cell], seconds: float) -> list[dict[str, Any] | None]:
        """Measure each cell in a new process; None where the checkout has no such interface.

        Args:
            mode: time, count or walk.
            cells: see above.
            seconds: of each.

        Raises:
            SystemExit: the process failed, or did not end.
        """
        folders = {"root": self.root, "models": self.models, "recordings": RECORDINGS}
        order = {name: str(path) for name, path in folders.items()} | {"mode": mode, "cells": cells, "seconds": seconds}
        command = [sys.executable, "-P", "-m", "inside.measure", json.dumps(order)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, (self.root, HERE))),
            "ORT_DISABLE_TELEMETRY": "1",
        }
        try:
            process = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=PROCESS_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{self.name}: no end after {PROCESS_TIMEOUT_S:.0f} s, on a busy machine?") from None
        if process.returncode:
            raise SystemExit(f"{self.name}: {process.stderr.strip()[-2000:]}")
        results: list[dict[str, Any] | None] = json.loads(process.stdout)
        return results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--other", metavar="FOLDER|REVISION", help="another checkout, measured in turns with this one")
    parser.add_argument(
        "--models", default=MODELS, metavar="FOLDER|REVISION", help="models that both serve (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=_count, default=5, help="processes of each checkout that measure CPU times")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of each measurement")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--plot", type=Path, help="where a PNG of the CPU times goes")
    only.add_argument("--starts", type=_count, metavar="N", help="measure one load in N new processes: do they agree?")
    only.add_argument(
        "--walk",
        action="store_true",
        help=f"list the functions that a chunk passes; none may exceed {MOST_LINES} lines",
    )


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is not at least 1")
    return count


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    rounds, seconds, cells = arguments.rounds, arguments.seconds, cells_of(SIZES)
    if arguments.quick:
        rounds, seconds = 1, 0.3
    if arguments.smoke:
        rounds, seconds, cells = 1, 0.1, cells_of(SIZES[:1])
    load_before = os.getloadavg()[0]
    with ExitStack() as stack:
        models = stack.enter_context(models_of(arguments.models))
        sides = {"this": Side(ROOT, models, "this checkout", commit_of(ROOT))}
        if arguments.other is not None:
            other = stack.enter_context(checkout_of(arguments.other))
            is_folder = Path(arguments.other).is_dir()
            commit = commit_of(other) if is_folder else commit_of(ROOT, arguments.other)
            sides["other"] = Side(other, models, arguments.other, commit)
        if arguments.walk:
            results = _walk(sides)
        elif arguments.starts is not None:
            results = _start(sides["this"], arguments.starts, seconds)
        else:
            results = _compare(sides, cells, rounds, seconds)
        results["checkouts"] = {
            name: {"commit": side.commit, "has_native_operator": has_operator(side.root)}
            for name, side in sides.items()
        }
    results["models"] = arguments.models
    results["load_average"] = {"before": load_before, "after": os.getloadavg()[0], "cores": os.cpu_count()}
    if arguments.plot is not None:
        plot(results, arguments.plot)
    return results


def cells_of(sizes: Sequence[int]) -> list[Cell]:
    """List all models and ways with these numbers of sessions."""
    return [(model, way, size) for model in SERVED for size in sizes for way in WAYS]


def _compare(sides: Mapping[str, Side], cells: Sequence[Cell], rounds: int, seconds: float) -> dict[str, Any]:
    console = Console(stderr=True, highlight=False)
    console.print("bytecodes and calls")
    counts = {name: side.measure("count", cells, seconds) for name, side in sides.items()}
    missing = [cell for cell, count in zip(cells, counts["this"], strict=True) if count is None]
    if missing:
        raise SystemExit(f"this checkout has no {', '.join(sorted({way for _, way, _ in missing}))}")
    times: dict[str, list[list[dict[str, Any] | None]]] = {name: [] for name in sides}
    for index in range(rounds):
        console.print(f"CPU time, round {index + 1} of {rounds}")
        for name in list(sides)[:: 1 if index % 2 == 0 else -1]:
            times[name].append(sides[name].measure("time", cells, seconds))
    results = summary(cells, counts, times)
    _print(results, sides)
    return results


def summary(
    cells: Sequence[Cell],
    counts: Mapping[str, Sequence[dict[str, Any] | None]],
    times: Mapping[str, Sequence[Sequence[dict[str, Any] | None]]],
) -> dict[str, Any]:
    """Take the medians of the rounds, and of the ratios within a round, for each cell and side.

    Args:
        cells: see above.
        counts: by side: of each cell.
        times: by side: of each round and cell.
    """
    results: dict[str, Any] = {}
    for index, (model, way, size) in enumerate(cells):
        case: dict[str, Any] = {}
        for side, of_cells in counts.items():
            count = of_cells[index]
            rounds = [one["p25_us"] for of_round in times[side] if (one := of_round[index]) is not None]
            if count is not None:
                case[side] = {**count, "cpu_us": statistics.median(rounds), "cpu_us_of_rounds": rounds}
        if len(case) == 2:
            pairs = zip(case["this"]["cpu_us_of_rounds"], case["other"]["cpu_us_of_rounds"], strict=True)
            case["ratios"] = {
                "bytecodes": case["this"]["bytecodes"] / case["other"]["bytecodes"],
                "calls": case["this"]["calls"] / case["other"]["calls"],
                "cpu_us": statistics.median(this / other for this, other in pairs),
            }
        results[f"{model} {way} {size}"] = case
    return {"cells": results}


def _print(results: Mapping[str, Any], sides: Mapping[str, Side]) -> None:
    names = ", ".join(f"{name}: {side.name}" if len(sides) > 1 else side.name for name, side in sides.items())
    table = Table(title=f"a chunk ({names})", caption="CPU time without system calls. Ratios: this / other.")
    table.add_column("model, way, at a time")
    figures = {"bytecodes": "bytecodes", "calls": "calls", "cpu_us": "us CPU"}
    for title in figures.values():
        for name in sides:
            table.add_column(f"{title}\n{name}", justify="right")
        if len(sides) > 1:
            table.add_column("\nratio", justify="right")
    for cell, case in results["cells"].items():
        row: list[str] = []
        for figure in figures:
            row += [f"{case[side][figure]:,.0f}" if side in case else "-" for side in sides]
            if len(sides) > 1:
                row.append(f"{case['ratios'][figure]:.2f}" if "ratios" in case else "-")
        table.add_row(cell, *row)
    Console(width=120).print(table)


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Draw the CPU time of a chunk as a PNG: a panel a model, a bar for each way and checkout, a dot for each round."""
    figure, panels = pyplot().subplots(1, len(SERVED), figsize=(6 * len(SERVED), 4.6), layout="constrained")
    shifts = {"other": -0.2, "this": 0.2} if "other" in results["checkouts"] else {"this": 0.0}
    for axes, model in zip(panels, SERVED, strict=True):
        cells = {cell.removeprefix(model): case for cell, case in results["cells"].items() if cell.startswith(model)}
        for side, shift in shifts.items():
            cases = [(index + shift, case[side]) for index, case in enumerate(cells.values()) if side in case]
            label = f"{side}: {results['checkouts'][side]['commit']!s:.8}"
            heights = [one["cpu_us"] for _, one in cases]
            axes.bar([x for x, _ in cases], heights, 0.4, color=COLOURS[side], label=label)
            dots = [(x, cpu_us) for x, one in cases for cpu_us in one["cpu_us_of_rounds"]]
            axes.scatter(*zip(*dots, strict=True), s=10, color="black", alpha=0.5)
        axes.set_xticks(range(len(cells)), [cell.strip().replace(" ", "\n") for cell in cells])
        axes.set_title(model, fontsize=10)
        axes.set_xlabel("way, chunks at a time")
        axes.set_ylabel("CPU time of a chunk, µs")
        axes.legend(fontsize=8)
        plain(axes, grid="y")
    save(figure, path, dpi=150)


def _start(side: Side, starts: int, seconds: float) -> dict[str, Any]:
    """Measure one load in new processes. Passed: no median is far above the median of all."""
    medians: list[float] = []
    for _ in range(starts):
        (result,) = side.measure("time", [START], seconds)
        assert result is not None
        medians.append(result["median_us"])
        print(f"start {len(medians)}: {medians[-1]:.0f} us a chunk", flush=True)
    ratio = max(medians) / statistics.median(medians)
    print(f"median of all {statistics.median(medians):.0f} us, largest / median {ratio:.2f} (at most {MOST_RATIO})")
    return {"load": START, "medians_us": medians, "largest_ratio": ratio, "passed": ratio <= MOST_RATIO}


def _walk(sides: Mapping[str, Side]) -> dict[str, Any]:
    """List the functions that a warm chunk passes. Passed: none of this checkout is too long."""
    results: dict[str, Any] = {"passed": True}
    for name, side in sides.items():
        walked = side.measure("walk", WALKED, 0.0)
        results[name] = {way: result for (_, way, _), result in zip(WALKED, walked, strict=True)}
        for way, result in results[name].items():
            if result is None:
                print(f"{way} of {side.name}: not there")
                continue
            long = {one: lines for one, lines in result["functions"].items() if lines > MOST_LINES}
            print(f"{way} of {side.name}: {len(result['functions'])} functions in {result['files']} files")
            for one, lines in long.items():
                print(f"  {one} has {lines} lines, at most {MOST_LINES}")
            results["passed"] &= name != "this" or not long
    return results
