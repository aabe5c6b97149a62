"""Microseconds a stream and step on one thread: the per-synapse loop, TorchScript, exact graphs, the bank.

Every implementation runs the same spikes, in turns, over batches and chunk lengths; the state of a chunk is the input
of the next. ``ratios`` has the eager per-synapse loop divided by the others. The limit is what the machine's own memory
and arithmetic allow for the bytes and operations that an implementation cannot avoid, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

RECORDINGS = Path(__file__).parents[1] / "docs" / "recordings"
MODELS = Path(__file__).parents[1] / "models"
EAGER = "eager PyTorch, a current a synapse"
IN_PLACE = "the same, in place"
SCRIPT = "TorchScript, step by step"
STEP = "exact step graph, a call a step"
EXACT_PLAIN = "exact, plain ONNX, chunk"
EXACT = "exact, operator"
BANK_PLAIN = "bank, plain ONNX, chunk"
BANK = "bank, operator"
BANK_8 = "bank of 8 decays, operator"
COLOURS = dict(
    zip((EAGER, IN_PLACE, SCRIPT, STEP, EXACT_PLAIN, EXACT, BANK_PLAIN, BANK, BANK_8), range(9), strict=True)
)
LOOP_STEPS = 640  # stream-steps of a loop that are enough for one timing

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Workload:
    """spikes: float32 [streams, steps, channels], repeated for longer runs."""

    name: str
    model: str
    spikes: Floats

    @property
    def density(self) -> float:
        return float(self.spikes.mean())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each cell")
    parser.add_argument("--plot", type=Path, help="where the plot goes, PNG")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    # a process of its own: one thread, and malloc that keeps what it has, which torch needs to be fast
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "4294967296",
        "MALLOC_TRIM_THRESHOLD_": "4294967296",
    }
    command = [sys.executable, "-m", "benchmarks.engine", str(int(arguments.quick)), str(arguments.seconds)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    results: dict[str, Any] = json.loads(done.stdout)
    _print(results)
    if arguments.plot is not None:
        _plot(results, arguments.plot)
    return results


def _measure(quick: bool, seconds: float) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # also for ONNX Runtime, which runs on this thread
    batches = (1, 32) if quick else (1, 8, 32, 256)
    lengths = (10, 25) if quick else (1, 10, 25, 100)
    seconds = min(seconds, 0.12) if quick else seconds
    machine = {"bandwidth_bytes_per_s": _bandwidth(), "peak_flop_per_s": _peak()}
    cells: list[dict[str, Any]] = []
    for workload in _workloads(quick):
        sides, rates = _implementations(workload)
        costs = _costs(workload, rates)
        for batch in batches:
            for length in lengths:
                runs = {name: side(batch, length) for name, side in sides.items()}
                taken = _interleaved(runs, seconds)
                for name, microseconds in taken.items():
                    cells.append(
                        {
                            "workload": workload.name,
                            "implementation": name,
                            "batch": batch,
                            "steps": length,
                            "microseconds": microseconds,
                            "limit_microseconds": costs[name].limit_microseconds(machine),
                            "state_bytes": costs[name].state_bytes,
                            "moved_bytes": costs[name].moved_bytes,
                        }
                    )
    return {"threads": 1, "limits_of_the_machine": machine, "cells": cells, "ratios": _ratios(cells)}


def _workloads(quick: bool) -> Iterator[Workload]:
    for density in (0.045, 0.01):
        rng = np.random.default_rng(0)
        spikes = (rng.random((32, 200, 700)) < density).astype(np.float32)
        yield Workload(f"SHD size, {density:.1%} of channels a step", "shd-size", spikes)
    if not quick:
        yield Workload("speech-digits, recordings", "speech-digits", _recorded())


def _recorded() -> Floats:
    """The shipped recordings as the model's encoder hears them, float32 [10, steps of the shortest, channels]."""
    import torch

    from hetsyn_model.encoder import Encoder
    from hetsyn_model.training.checkpoint import Checkpoint
    from service.wire.pcm import decode_wav

    spec = Checkpoint.load(MODELS / "speech-digits" / "1" / "network.pt").encoder
    assert spec is not None
    heard = [decode_wav(path.read_bytes())[0] for path in sorted(RECORDINGS.glob("*.wav"))]
    steps = min(len(samples) for samples in heard) // spec.step_samples
    audio = torch.from_numpy(np.stack([samples[: steps * spec.step_samples] for samples in heard])).float()
    encoder = Encoder(spec)
    spikes: Floats = encoder.step(audio, encoder.initial_state(len(heard)))[0].float().numpy()
    return spikes


Call = Callable[[], None]
Side = Callable[[int, int], tuple[Call, int]]  # (batch, steps) to a call and the stream-steps that it makes


def _implementations(workload: Workload) -> tuple[dict[str, Side], dict[str, float]]:
    """Each implementation; and the spikes a step of each hidden layer, of the exact form."""
    import torch

    from benchmarks.eager import EagerLoop
    from benchmarks.step_graph import step_graph
    from export.network_graph import network_graph
    from export.parity import Streams, initial_row, run_graph
    from export.torchscript import load_torchscript, torchscript
    from hetsyn_model.state import initial_state
    from hetsyn_model.training.checkpoint import Checkpoint
    from service.contract.artifact import Artifact
    from service.runtime.onnx import load_graph

    folder = MODELS / workload.model / "1"
    network = Checkpoint.load(folder / "network.pt").network.float().eval()
    sizes = Artifact.open(folder).manifest.forms["bank"].bank_sizes
    network.fit_banks()
    assert {name: bank.size for name, bank in network.banks.items()} == sizes
    spikes = workload.spikes

    def dense(batch: int, steps: int) -> Iterator[Floats]:
        """Chunks [batch, steps, channels] without end, out of the workload's streams."""
        long = np.concatenate([spikes] * -(-steps // spikes.shape[1]), 1)
        pieces = []
        for start in range(0, long.shape[1] - steps + 1, steps):
            order = (np.arange(batch) + start) % len(long)
            pieces.append(np.ascontiguousarray(long[order, start : start + steps]))
        return cycle(pieces)

    def loop(make: Callable[[int], Any], advance: Callable[[Any, torch.Tensor, int], Any]) -> Side:
        def side(batch: int, steps: int) -> tuple[Call, int]:
            steps = max(1, min(steps, LOOP_STEPS // batch))
            chunks = cycle([torch.from_numpy(x) for _, x in zip(range(32), dense(batch, steps), strict=False)])
            state, done = make(batch), 0

            def call() -> None:
                nonlocal state, done
                state = advance(state, next(chunks), done)
                done += steps

            return call, batch * steps

        return side

    eager, script = EagerLoop(network), load_torchscript(torchscript(network, "exact"))
    layout = network.state_layout("exact")
    kept = 1 + len(network.spec.hidden)  # outputs of a script before its states

    def advance_script(state: Any, x: torch.Tensor, _: int) -> Any:
        with torch.no_grad():
            for t in range(x.shape[1]):
                state = script(x[:, t], *state)[kept:]
        return state

    step_session = load_graph(step_graph(network))
    stepped = [tensor.name for tensor in layout]

    def advance_step(state: Any, x: torch.Tensor, _: int) -> Any:
        dense_steps = x.numpy()
        for t in range(x.shape[1]):
            got = step_session.run(
                {"spikes": dense_steps[:, t], **state}, ["probabilities", *(f"next.{name}" for name in stepped)]
            )
            state = {f"state.{name}": got[f"next.{name}"] for name in stepped}
        return state

    def zeros(batch: int) -> dict[str, Any]:
        return {f"state.{t.name}": np.zeros((batch, *t.shape), t.dtype) for t in layout}

    def graph(content: bytes, form: Any, use_operators: bool) -> Side:
        loaded = load_graph(content, use_operators=use_operators)
        asked = ["next.state", "next.step", "scores", "probabilities"]
        row = network.state_layout(form)

        def side(batch: int, steps: int) -> tuple[Call, int]:
            feeds = cycle([_feed(x) for _, x in zip(range(32), dense(batch, steps), strict=False)])
            state = initial_row(row, batch)

            def call() -> None:
                nonlocal state
                got = loaded.run({**next(feeds), **state}, asked)
                state = {"state": got["next.state"], "step": got["next.step"]}

            return call, batch * steps

        return side

    exact, bank = network_graph(network, "exact"), network_graph(network, "bank")
    traces = run_graph(
        load_graph(exact),
        layout,
        Streams(torch.from_numpy(spikes), torch.full((len(spikes),), spikes.shape[1])),
        2,
        [64],
    )
    rates = {f"hidden{index + 1}": float(z.mean() * z.shape[2]) for index, z in enumerate(traces.hidden)}
    readout = eager.run(torch.from_numpy(spikes[:, :50]), eager.initial(len(spikes)), 0)[1].numpy()
    apart = float(np.abs(readout - traces.readout[:, :50]).mean() / np.abs(readout).mean())
    assert apart < 0.05, f"the eager loop's readout differs from the graph's by {apart:.1%}"
    sides: dict[str, Side] = {
        EAGER: loop(eager.initial, lambda state, x, done: eager.run(x, state, done)[0]),
        IN_PLACE: loop(eager.initial, lambda state, x, done: eager.run(x, state, done, in_place=True)[0]),
        SCRIPT: loop(lambda batch: list(initial_state(layout, batch).values()), advance_script),
        STEP: loop(zeros, advance_step),
        EXACT_PLAIN: graph(exact, "exact", use_operators=False),
        EXACT: graph(exact, "exact", use_operators=True),
        BANK_PLAIN: graph(bank, "bank", use_operators=False),
        BANK: graph(bank, "bank", use_operators=True),
    }
    if workload.model == "shd-size":  # what the sketch in docs/explanation/timescale-bank.md ran
        network.fit_banks(size=8)
        sides[BANK_8] = graph(network_graph(network, "bank"), "bank", use_operators=True)
    return sides, rates | {"bank": float(sizes["hidden1"])}


def _feed(spikes: Floats) -> dict[str, Any]:
    from export.parity import chunk_feed

    return chunk_feed(spikes, np.full(len(spikes), spikes.shape[1], np.int64))


def _interleaved(runs: dict[str, tuple[Call, int]], seconds: float) -> dict[str, float]:
    """Median microseconds a stream and step of each, in turns until each had its time and three turns."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    spent = dict.fromkeys(runs, 0.0)
    for call, _ in runs.values():
        call()  # warm-up
    while any(spent[name] < seconds or len(taken[name]) < 3 for name in runs):
        for name, (call, stream_steps) in runs.items():
            if spent[name] >= seconds and len(taken[name]) >= 3:
                continue
            started = time.perf_counter()
            call()
            elapsed = time.perf_counter() - started
            spent[name] += elapsed
            taken[name].append(elapsed / stream_steps * 1e6)
    return {name: statistics.median(values) for name, values in taken.items()}


def _bandwidth() -> float:
    """Bytes a second that one core reads and writes in a working set of 1 MB, in its second cache, the best of many."""
    a, b = np.zeros(1 << 17, np.float32), np.ones(1 << 17, np.float32)
    return max(3 * a.nbytes / _timed(lambda: np.add(a, b, out=a)) for _ in range(200))


def _peak() -> float:
    """Floating-point operations a second of one core, in a matrix product, the best of many."""
    a = np.ones((512, 512), np.float32)
    return max(2 * 512**3 / _timed(lambda: a @ a) for _ in range(20))


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@dataclass(frozen=True)
class Cost:
    """What a form cannot avoid. state_bytes: of a stream. moved_bytes, operations: of a stream and step."""

    state_bytes: int
    moved_bytes: float
    operations: float

    def limit_microseconds(self, machine: dict[str, float]) -> float:
        """Of a stream and step; below it this machine cannot go."""
        moving_s = self.moved_bytes / machine["bandwidth_bytes_per_s"]
        return 1e6 * max(moving_s, self.operations / machine["peak_flop_per_s"])


def _costs(workload: Workload, rates: dict[str, float]) -> dict[str, Cost]:
    """Of each implementation. rates: spikes a step of the hidden layers, and decays of a bank."""
    from service.contract.artifact import Artifact

    manifest = Artifact.open(MODELS / workload.model / "1").manifest
    fan_in = (manifest.input.channels, *manifest.hidden)
    neurons = (*manifest.hidden, manifest.outputs)
    arriving = (
        workload.density * manifest.input.channels,
        *(rates[f"hidden{i + 1}"] for i in range(len(manifest.hidden))),
    )
    synapses = sum(i * n for i, n in zip(fan_in, neurons, strict=True)) + sum(n * n for n in manifest.hidden)

    def bank(decays: float) -> Cost:
        rows = sum(
            (count + (arriving[layer + 1] if layer < len(manifest.hidden) else 0.0)) * n
            for layer, (count, n) in enumerate(zip(arriving, neurons, strict=True))
        )
        values, state = rows * decays, sum(neurons) * decays + 2 * sum(manifest.hidden)
        return Cost(int(4 * state), 2 * values + 8 * state, values + 3 * state)  # 16-bit weights

    # decays and currents read, currents written
    exact = Cost(4 * (synapses + 2 * sum(manifest.hidden)), 12 * synapses, 3 * synapses)
    costs = dict.fromkeys((EAGER, IN_PLACE, SCRIPT, STEP, EXACT_PLAIN, EXACT), exact)
    return costs | {BANK: bank(rates["bank"]), BANK_PLAIN: bank(rates["bank"]), BANK_8: bank(8.0)}


def _ratios(cells: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Eager loop over each, at the same batch and chunk length."""
    eager = {_key(cell): cell["microseconds"] for cell in cells if cell["implementation"] == EAGER}
    return {
        f"{cell['workload']}; batch {cell['batch']}, {cell['steps']} steps; eager / {cell['implementation']}": round(
            eager[_key(cell)] / cell["microseconds"], 2
        )
        for cell in cells
        if cell["implementation"] != EAGER
    }


def _key(cell: dict[str, Any]) -> tuple[str, int, int]:
    return cell["workload"], cell["batch"], cell["steps"]


def _print(results: dict[str, Any]) -> None:
    console = Console(width=190)
    cells = results["cells"]
    for workload in dict.fromkeys(cell["workload"] for cell in cells):
        mine = [cell for cell in cells if cell["workload"] == workload]
        places = list(dict.fromkeys((cell["batch"], cell["steps"]) for cell in mine))
        table = Table(
            "µs a stream and step",
            *(f"batch {batch}\n{steps} steps" for batch, steps in places),
            "limit",
            "state\nbytes",
            "bytes moved\na step",
            title=f"{workload}, one thread",
        )
        for name in dict.fromkeys(cell["implementation"] for cell in mine):
            row = {(c["batch"], c["steps"]): c for c in mine if c["implementation"] == name}
            first = row[places[0]]
            costs = f"{first['limit_microseconds']:.2f}", f"{first['state_bytes']:,}", f"{first['moved_bytes']:,.0f}"
            table.add_row(name, *(f"{row[place]['microseconds']:.1f}" for place in places), *costs)
        console.print(table)


def _plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    cells = results["cells"]
    workloads = list(dict.fromkeys(cell["workload"] for cell in cells))
    figure, axes = plt.subplots(1, len(workloads), figsize=(5 * len(workloads), 4.6), sharey=True, squeeze=False)
    for axis, workload in zip(axes[0], workloads, strict=True):
        for name, colour in COLOURS.items():
            line = [
                (cell["batch"], cell["microseconds"])
                for cell in cells
                if (cell["workload"], cell["implementation"], cell["steps"]) == (workload, name, 25)
            ]
            if line:
                style = "-o" if "operator" in name else "--s"
                axis.plot(*zip(*line, strict=True), style, label=name, color=f"C{colour}", markersize=4)
        limit = next(c for c in cells if c["workload"] == workload and c["implementation"] == BANK)[
            "limit_microseconds"
        ]
        axis.axhline(limit, color="grey", linewidth=1, linestyle=":", label="limit of memory and arithmetic, bank")
        axis.set(xscale="log", yscale="log", title=workload, xlabel="streams in a batch")
        axis.set_xticks([1, 8, 32, 256], ["1", "8", "32", "256"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("µs a stream and step\none thread, chunks of 25 steps")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1] == "1", float(sys.argv[2]))))
