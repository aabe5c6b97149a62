"""Microseconds a stream and step on one thread: the per-synapse loop, TorchScript, exact graphs, the bank.

Every implementation runs the same spikes, in turns, over batches and chunk lengths; the state of a chunk is the input
of the next. ``ratios`` has the eager per-synapse loop divided by the others. The limit is the time that the machine's
memory and arithmetic, measured in the same run, need for the least bytes and operations of an implementation.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from benchmarks.revisions import FIXTURES, models_of
from benchmarks.steps.cost import (
    BANK,
    BANK_8,
    BANK_OTHER,
    BANK_PLAIN,
    EAGER,
    EXACT_PLAIN,
    IN_PLACE,
    SCRIPT,
    STEP,
    CostWorkload,
    costs,
)  # fmt: skip
from benchmarks.steps.report import print_results, ratios, speed_of_the_other_build
from service.contract.graph_io import Float32Array
from service.runtime.onnx import operator_status

if TYPE_CHECKING:
    from hetsyn_model.compiled import Compiled

RECORDINGS = Path(__file__).parents[1] / "docs" / "recordings"
LOOP_STEPS = 640  # steps times streams of a loop that are enough for one timing
Size = Literal["full", "quick", "smoke"]
CELLS: dict[Size, tuple[tuple[int, ...], tuple[int, ...], float]] = {
    "full": ((1, 8, 32, 256), (1, 10, 25, 100), math.inf),
    "quick": ((1, 32), (10, 25), 0.12),
    "smoke": ((1,), (2,), 0.0),
}
"""Batches, chunk lengths, and the most seconds of a cell."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each cell")
    parser.add_argument(
        "--operators",
        type=Path,
        help="measure only the installed operators and this other build of them (python -m build_support OUTPUT)",
    )
    parser.add_argument(
        "--families", action="store_true", help="measure only state and step of each related system, beside HetSyn's"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.families:
        from benchmarks.steps import families

        return families.measure(rounds=2 if arguments.smoke else 20 if arguments.quick else 200)
    # a process of its own, with one thread, and with a malloc that keeps freed memory, without which torch is slow
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "4294967296",
        "MALLOC_TRIM_THRESHOLD_": "4294967296",
    }
    size: Size = "smoke" if arguments.smoke else "quick" if arguments.quick else "full"
    command = [sys.executable, "-m", "benchmarks.engine", size, str(arguments.seconds)]
    with models_of(FIXTURES) as models:
        command.append(str(models))
        if arguments.operators is not None:
            command.append(str(arguments.operators))
        process = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    results: dict[str, Any] = json.loads(process.stdout)
    print_results(results)
    return results


def _measure(size: Size, seconds: float, models: Path, other: Path | None) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # also for ONNX Runtime, which runs on this thread
    batches, lengths, longest_s = CELLS[size]
    seconds = min(seconds, longest_s)
    machine = {"bandwidth_bytes_per_s": _bandwidth(), "peak_flop_per_s": _peak()}
    cells: list[dict[str, Any]] = []
    for workload in _workloads(size, models):
        sides, rates = _implementations(workload, other)
        limits = costs(workload, rates)
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
                            "limit_microseconds": limits[name].limit_microseconds(machine),
                            "state_bytes": limits[name].state_bytes,
                            "moved_bytes": limits[name].moved_bytes,
                        }
                    )
    results = {"threads": 1, "limits_of_the_machine": machine, "cells": cells}
    if other is None:
        return results | {"ratios": ratios(cells)}
    return results | {"kernel": operator_status().kernel, "speed_of_the_other_build": speed_of_the_other_build(cells)}


def _workloads(size: Size, models: Path) -> Iterator[CostWorkload]:
    for density in (0.045,) if size == "smoke" else (0.045, 0.01):
        rng = np.random.default_rng(0)
        spikes = (rng.random((32, 200, 700)) < density).astype(np.float32)
        yield CostWorkload(f"SHD size, {density:.1%} of channels a step", models / "shd-size/1", spikes)
    if size != "quick":
        speech = max((models / "speech-digits").iterdir())
        yield CostWorkload("speech-digits, recordings", speech, _recorded(speech))


def _recorded(artifact: Path) -> Float32Array:
    """Spikes of a model's encoder for the shipped recordings, float32 [10, steps of the shortest, channels]."""
    import torch

    from hetsyn_model.encoders.encoder import Encoder, EncoderSpec
    from hetsyn_model.training.checkpoint import Checkpoint
    from service.wire.sound import decode_wav

    spec = Checkpoint.load(artifact / "network.pt").encoder
    assert isinstance(spec, EncoderSpec)
    sounds = [decode_wav(path.read_bytes())[0] for path in sorted(RECORDINGS.glob("*.wav"))]
    steps = min(len(samples) for samples in sounds) // spec.step_samples
    audio = torch.from_numpy(np.stack([samples[: steps * spec.step_samples] for samples in sounds])).float()
    encoder = Encoder(spec)
    spikes: Float32Array = encoder.step(audio, encoder.initial_state(len(sounds)))[0].float().numpy()
    return spikes


Call = Callable[[], None]
Side = Callable[[int, int], tuple[Call, int]]  # (batch, steps) -> a call, and its steps times streams


def _implementations(workload: CostWorkload, other: Path | None) -> tuple[dict[str, Side], dict[str, float]]:
    """Make each implementation. Also returns the spikes a step of each hidden layer of the exact form.

    Args:
        workload: the network and its input.
        other: another build of the operators. If given, only the operators are measured.
    """
    import torch

    from benchmarks.steps.eager import EagerLoop
    from benchmarks.steps.step_graph import step_graph
    from export.graphs.network_graph import network_graph
    from export.graphs.torchscript import load_torchscript, torchscript
    from export.parity import Streams, initial_row, run_graph
    from export.sources import decide_by
    from hetsyn_model.state import DECISION_SCORE_LOW, initial_state
    from hetsyn_model.training.checkpoint import Checkpoint
    from service.contract.artifact import Artifact
    from service.runtime.onnx import load_graph

    network = Checkpoint.load(workload.artifact / "network.pt").network.float().eval()
    if network.spec.decision.rule == "late_softmax":
        decide_by(network, "sum_softmax")  # as the eager loop does; the layers are the same
    sizes = Artifact.open(workload.artifact).manifest.network.bank_sizes
    if {name: bank.size for name, bank in network.banks.items()} != sizes:  # older files have the banks of the training
        network.fit_banks()
    assert {name: bank.size for name, bank in network.banks.items()} == sizes
    spikes = workload.spikes

    def dense(batch: int, steps: int) -> Iterator[Float32Array]:
        """Chunks [batch, steps, channels] of the workload's streams, endless."""
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
            state, steps_run = make(batch), 0

            def call() -> None:
                nonlocal state, steps_run
                state = advance(state, next(chunks), steps_run)
                steps_run += steps

            return call, batch * steps

        return side

    eager, script = EagerLoop(network), load_torchscript(torchscript(network.compile("exact")))
    layout = network.compile("exact").layout
    kept = 1 + len(network.spec.hidden)  # outputs of a script before its states

    def advance_script(state: Any, x: torch.Tensor, _: int) -> Any:
        with torch.no_grad():
            for t in range(x.shape[1]):
                state = script(x[:, t], *state)[kept:]
        return state

    step_session = load_graph(step_graph(network))
    stepped = [tensor for tensor in layout if tensor.name != DECISION_SCORE_LOW]  # see benchmarks/steps/step_graph.py

    def advance_step(state: Any, x: torch.Tensor, _: int) -> Any:
        dense_steps = x.numpy()
        for t in range(x.shape[1]):
            got = step_session.run(
                {"spikes": dense_steps[:, t], **state}, ["probabilities", *(f"next.{t.name}" for t in stepped)]
            )
            state = {f"state.{t.name}": got[f"next.{t.name}"] for t in stepped}
        return state

    def zeros(batch: int) -> dict[str, Any]:
        return {f"state.{t.name}": np.zeros((batch, *t.shape), t.dtype) for t in stepped}

    def graph(compiled: Compiled, use_operators: bool = True, operators: Path | None = None) -> Side:
        loaded = load_graph(network_graph(compiled), use_operators=use_operators, operators=operators)
        outputs = ["next.state", "next.step", "scores", "probabilities"]

        def side(batch: int, steps: int) -> tuple[Call, int]:
            feeds = cycle([_feed(x) for _, x in zip(range(32), dense(batch, steps), strict=False)])
            state = initial_row(compiled.layout, batch)

            def call() -> None:
                nonlocal state
                got = loaded.run({**next(feeds), **state}, outputs)
                state = {"state": got["next.state"], "step": got["next.step"]}

            return call, batch * steps

        return side

    exact, bank = network.compile("exact"), network.compile("bank")
    traces = run_graph(
        load_graph(network_graph(exact)),
        layout,
        Streams(torch.from_numpy(spikes), torch.full((len(spikes),), spikes.shape[1])),
        2,
        [64],
    )
    rates = {f"hidden{index + 1}": float(z.mean() * z.shape[2]) for index, z in enumerate(traces.hidden)}
    if other is not None:
        pairs = {
            BANK: graph(bank),
            BANK_OTHER: graph(bank, operators=other),
        }
        return pairs, rates | {"bank": float(sizes["hidden1"])}
    banks = {BANK_PLAIN: graph(bank, use_operators=False), BANK: graph(bank)}
    if workload.artifact.parent.name == "shd-size":
        of_8 = deepcopy(network)  # the others keep the banks that they were compiled with
        of_8.fit_banks(size=8)
        banks[BANK_8] = graph(of_8.compile("bank"))
    readout = eager.run(torch.from_numpy(spikes[:, :50]), eager.initial(len(spikes)), 0)[1].numpy()
    apart = float(np.abs(readout - traces.readout[:, :50]).mean() / np.abs(readout).mean())
    assert apart < 0.05, f"the eager loop's readout differs from the graph's by {apart:.1%}"
    sides: dict[str, Side] = {
        EAGER: loop(eager.initial, lambda state, x, step: eager.run(x, state, step)[0]),
        IN_PLACE: loop(eager.initial, lambda state, x, step: eager.run(x, state, step, in_place=True)[0]),
        SCRIPT: loop(lambda batch: list(initial_state(layout, batch).values()), advance_script),
        STEP: loop(zeros, advance_step),
        EXACT_PLAIN: graph(exact, use_operators=False),
        **banks,
    }
    return sides, rates | {"bank": float(sizes["hidden1"])}


def _feed(spikes: Float32Array) -> dict[str, Any]:
    from export.parity import chunk_feed

    return chunk_feed(spikes, np.full(len(spikes), spikes.shape[1], np.int64))


def _interleaved(runs: dict[str, tuple[Call, int]], seconds: float) -> dict[str, float]:
    """Median microseconds a stream and step of each. They take turns until each had its time and three turns.

    The order is another one in each round: what runs after a large network finds less of its memory in the caches.
    """
    order, shuffle = list(runs.items()), random.Random(0).shuffle
    taken: dict[str, list[float]] = {name: [] for name in runs}
    spent = dict.fromkeys(runs, 0.0)
    for call, _ in runs.values():
        call()  # warm-up
    while any(spent[name] < seconds or len(taken[name]) < 3 for name in runs):
        shuffle(order)
        for name, (call, stream_steps) in order:
            if spent[name] >= seconds and len(taken[name]) >= 3:
                continue
            started = time.perf_counter()
            call()
            elapsed = time.perf_counter() - started
            spent[name] += elapsed
            taken[name].append(elapsed / stream_steps * 1e6)
    return {name: statistics.median(values) for name, values in taken.items()}


def _bandwidth() -> float:
    """Bytes a second that one core reads and writes in 1 MB, which fits its second-level cache; the best of many."""
    a, b = np.zeros(1 << 17, np.float32), np.ones(1 << 17, np.float32)
    return max(3 * a.nbytes / _timed(lambda: np.add(a, b, out=a)) for _ in range(200))


def _peak() -> float:
    """Floating-point operations a second of one core in a matrix product; the best of many."""
    a = np.ones((512, 512), np.float32)
    return max(2 * 512**3 / _timed(lambda: a @ a) for _ in range(20))


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    other_build = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    print(json.dumps(_measure(cast("Size", sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), other_build)))
