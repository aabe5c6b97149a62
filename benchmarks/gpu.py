"""The CUDA operator against the CPU operator: agreement, time a stream and step, and the cost of moving a state.

On the machine's first GPU: whether all spikes and states equal those of the CPU operator, and by how much probabilities
differ; the time a stream and step over batches and chunks, in the engine of the server and with states that stay on the
GPU, beside the CPU's time; the time to move a state to the GPU and back; and how many sessions fit into its memory.
Without a usable GPU nothing is measured or written.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from service.contract.graph_io import NEXT_STEP, PROBABILITIES, SCORES, STEP, STEPS
from service.contract.manifest import FormName
from service.engine.engine import Engine
from service.engine.stream import StreamState, initial_stream
from service.engine.work import Work
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime.cuda import RESERVE_BYTES, CudaDevice, problem
from service.runtime.device import Device
from service.runtime.state_memory import Row
from service.wire.chunk import SpikeChunk, spike_chunk

MODELS = Path(__file__).parents[1] / "models"
MODEL, DENSITY = "shd-size", 0.045
FORMS: tuple[FormName, ...] = ("bank", "exact")
TOLERANCE = 1e-6  # of a probability


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each cell")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    found = problem()
    if found is not None:
        raise SystemExit(f"no CUDA device: nothing measured ({found})")
    device = CudaDevice()
    seconds = 0.1 if arguments.quick else arguments.seconds
    batches = (1, 32, 256) if arguments.quick else (1, 8, 32, 128, 256, 512, 1024)
    lengths = (10, 25) if arguments.quick else (1, 10, 25, 100)
    free, everything = device.memory()
    results: dict[str, Any] = {"gpu": device.name, "memory_bytes": everything, "free_bytes": free}
    results |= measure(device, batches, lengths, seconds)
    for form, facts in results["forms"].items():
        facts["most_resident_sessions"] = (free - RESERVE_BYTES) // facts["state_bytes"]
        Console().print(f"{form}: {facts}")
    return results


def measure(device: Device, batches: tuple[int, ...], lengths: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """All measurements, on any device.

    Args:
        device: where states are kept.
        batches: streams in a batch.
        lengths: steps of a chunk.
        seconds: time for each cell.
    """
    resident = ModelCatalog(MODELS, device=device).get(MODEL)
    hosted = ModelCatalog(MODELS).get(MODEL)
    forms: dict[str, Any] = {}
    cells: list[dict[str, Any]] = []
    for form in FORMS:
        forms[form] = agreement(resident, hosted, form) | moving(resident, form)
        for batch in batches:
            for steps in lengths:
                if form == "exact" and batch * steps > 25_600:
                    continue  # the CPU would take minutes
                cell: dict[str, Any] = {"form": form, "batch": batch, "steps": steps}
                for where, model in (("gpu", resident), ("cpu", hosted)):
                    cell[f"{where}_microseconds"] = microseconds(model, form, batch, steps, seconds)
                cells.append(cell)
    table = Table("form", "batch", "steps", "GPU", "CPU", title=f"{MODEL}: µs a stream and step")
    for cell in cells:
        table.add_row(
            cell["form"],
            *(str(cell[name]) for name in ("batch", "steps")),
            *(f"{cell[name]:.3f}" for name in ("gpu_microseconds", "cpu_microseconds")),
        )
    Console().print(table)
    return {"model": MODEL, "density": DENSITY, "forms": forms, "cells": cells}


def agreement(resident: Model, hosted: Model, form: FormName) -> dict[str, Any]:
    """Run nine streams of different lengths, in chunks of 1 to 40 steps, through both models, and compare."""
    rng = np.random.default_rng(0)
    memory, other = resident.states(form), hosted.states(form)
    rows: Sequence[Row] = [resident.initial_row(form)] * 9
    hosted_rows: Sequence[Row] = [hosted.initial_row(form)] * 9
    next_step = np.zeros(9, np.int64)
    outputs = [NEXT_STEP, SCORES, PROBABILITIES]
    values_differ = words_seen = 0
    largest = 0.0
    for longest in (1, 7, 40, 13, 1, 40):
        steps = np.arange(longest, longest - 9, -1).clip(0)
        fires = rng.random((9, longest, resident.manifest.input.channels)) < DENSITY
        fires &= (np.arange(longest) < steps[:, None])[..., None]
        row, unit = np.nonzero(fires.reshape(9 * longest, -1))
        inputs = {"events.row": row, "events.unit": unit, STEPS: steps, STEP: next_step}
        rows, got, _ = memory.run(resident.network(form), rows, inputs, outputs)
        hosted_rows, expected, _ = other.run(hosted.network(form), hosted_rows, inputs, outputs)
        next_step = expected[NEXT_STEP]
        if not np.array_equal(got[NEXT_STEP], next_step):
            raise SystemExit(f"{form}: the GPU counts other steps than the CPU")
        # scores are sums of the softmax, whose last bits may differ; the other values are spikes and currents
        scores = resident.manifest.outputs
        for mine, its in zip(rows, hosted_rows, strict=True):
            a, b = memory.to_host(mine)[:-scores], other.to_host(its)[:-scores]
            values_differ += int((a.view(np.uint32) != b.view(np.uint32)).sum())
            words_seen += a.size
        largest = max(largest, float(np.abs(got[PROBABILITIES] - expected[PROBABILITIES]).max()))
    agrees = values_differ == 0 and largest <= TOLERANCE
    return {
        "agrees": agrees,
        "state_values_that_differ": values_differ,
        "state_values": words_seen,
        "largest_difference_of_a_probability": largest,
    }


def moving(model: Model, form: FormName) -> dict[str, Any]:
    """Size of a state, and microseconds to move it to the device and back."""
    states = model.states(form)
    values = model.initial_state(form)
    row = states.from_host(values)
    return {
        "state_bytes": values.nbytes,
        "import_microseconds": _median(lambda: states.from_host(values), 0.2),
        "export_microseconds": _median(lambda: states.to_host(row), 0.2),
    }


def microseconds(model: Model, form: FormName, batch: int, steps: int, seconds: float) -> float:
    """Time of the engine a stream and step. Each chunk continues the states of the last."""
    rng = np.random.default_rng(0)
    channels = model.manifest.input.channels
    chunks: list[SpikeChunk] = []
    for _ in range(min(batch, 32)):
        times, units = np.nonzero(rng.random((steps, channels)) < DENSITY)
        chunks.append(spike_chunk(steps, times, units))
    engine = Engine(steps, steps)
    streams: list[StreamState] = [initial_stream(model, form)] * batch

    def call() -> None:
        nonlocal streams
        work = [Work(stream, chunks[b % len(chunks)], False) for b, stream in enumerate(streams)]
        streams = [outcome.stream for outcome in engine.run(model, form, work)]

    call()
    return _median(call, seconds) / (batch * steps)


def _median(call: Callable[[], Any], seconds: float) -> float:
    """Median microseconds of a call, over at least three calls."""
    taken, total = list[float](), 0.0
    while total < seconds or len(taken) < 3:
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
        total += taken[-1]
    return statistics.median(taken) * 1e6
