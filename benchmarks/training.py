"""Seconds and peak memory of a training batch: exact form against bank, the SHD network, 32 streams x 250 steps.

Both sides run forward and backward on the same spikes and the same number of threads. They take turns, each in a
process of its own, so that the peak memory is its own. ``ratios`` has exact / bank.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FORMS = ("bank", "exact")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    batch, steps, repeats = (8, 60, 1) if arguments.quick else (32, 250, arguments.repeats)
    if arguments.smoke:
        batch, steps = 2, 15
    taken: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
    for _ in range(repeats):
        for form in FORMS:
            command = [
                sys.executable,
                "-m",
                "benchmarks.training",
                form,
                str(batch),
                str(steps),
                str(arguments.threads),
            ]
            # without these malloc returns every step's memory to the system, which slows the exact form down
            malloc = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
            process = subprocess.run(command, env=os.environ | malloc, check=True, capture_output=True, text=True)
            taken[form].append(json.loads(process.stdout))
    medians = {
        form: {key: statistics.median(one[key] for one in taken[form]) for key in taken[form][0]} for form in FORMS
    }
    ratios = {key: medians["exact"][key] / medians["bank"][key] for key in ("seconds", "peak_bytes")}
    table = Table("form", "seconds a batch", "peak MB above the weights", title=f"{batch} streams x {steps} steps")
    for form in FORMS:
        table.add_row(form, f"{medians[form]['seconds']:.3f}", f"{medians[form]['peak_bytes'] / 1e6:,.0f}")
    table.add_row("exact / bank", f"{ratios['seconds']:.1f}", f"{ratios['peak_bytes']:.1f}")
    Console().print(table)
    return {"batch": batch, "steps": steps, "threads": arguments.threads, "runs": taken, "ratios": ratios}


def _measure(form: str, batch: int, steps: int, threads: int) -> None:
    """Measure one side, in its own process: the time of a batch after a warm-up, and the added memory. Prints JSON."""
    import torch

    from hetsyn_model import DecisionSpec, Network, NetworkSpec

    torch.set_num_threads(threads)
    network = Network(NetworkSpec(channels=700, hidden=(128, 64), outputs=20, decision=DecisionSpec(skip_steps=11)))
    network.fit_banks(size=8, hold=True)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 20, (batch,), generator=generator)

    def train(count: int, length: int) -> float:
        spikes = (torch.rand(count, length, 700, generator=generator) < 0.045).float()
        started_s = time.perf_counter()
        rolled = network.rollout(spikes, "exact" if form == "exact" else "bank")
        torch.nn.functional.cross_entropy(rolled.scores, labels[:count]).backward()
        return time.perf_counter() - started_s

    train(2, 4)
    before = _peak_bytes()
    seconds = train(batch, steps)
    print(json.dumps({"seconds": seconds, "peak_bytes": _peak_bytes() - before}))


def _peak_bytes() -> int:
    """Most memory of this process so far. ``ru_maxrss`` would not do: a program inherits it from the one before it."""
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    _measure(sys.argv[1], *map(int, sys.argv[2:5]))
