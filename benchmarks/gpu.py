"""What needs a GPU: the CUDA operator against the CPU's, its time a stream and step, what moving a state costs.

Answers, on the machine's first GPU: do all spikes and states equal the CPU operator's, and by how much do
probabilities differ? Microseconds a stream and step over batches and chunks, with states that stay on the GPU, through
the same engine that serves, and the CPU's for comparison. What a state costs that goes there or comes back, and how
many sessions the GPU holds. Where there is no usable GPU it says so, measures nothing and writes nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from service.contract.graph_io import NEXT_STEP, PROBABILITIES, SCORES, STEP, STEPS
from service.contract.manifest import FormName
from service.engine.engine import Engine, Work
from service.engine.stream import StreamState, initial_stream
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime.cuda import RESERVE_BYTES, CudaDevice, problem
from service.runtime.device import Device
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
    """Everything but the device's own facts; any device will do."""
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
    """Streams of different lengths in chunks of 1 to 40 steps through both, and how far they are apart."""
    rng = np.random.default_rng(0)
    memory, other = resident.states(form), hosted.states(form)
    rows = [resident.initial_row(form)] * 9
    there, here = memory.batch(rows), other.batch([hosted.initial_row(form)] * 9)
    done = np.zeros(9, np.int64)
    asked = [NEXT_STEP, SCORES, PROBABILITIES]
    values_differ = words_seen = 0
    largest = 0.0
    for longest in (1, 7, 40, 13, 1, 40):
        steps = np.arange(longest, longest - 9, -1).clip(0)
        fires = rng.random((9, longest, resident.manifest.input.channels)) < DENSITY
        fires &= (np.arange(longest) < steps[:, None])[..., None]
        row, unit = np.nonzero(fires.reshape(9 * longest, -1))
        given = {"events.row": row, "events.unit": unit, STEPS: steps, STEP: done}
        got = there.run(resident.network(form), dict(given), asked, 9)
        expected = here.run(hosted.network(form), dict(given), asked, 9)
        done = expected[NEXT_STEP]
        if not np.array_equal(got[NEXT_STEP], done):
            raise SystemExit(f"{form}: the GPU counts other steps than the CPU")
        # scores add up the softmax, so the last bits of those words may differ; the rest are spikes and currents
        outputs = resident.manifest.outputs
        for mine, its in zip(there.rows(), here.rows(), strict=True):
            a, b = memory.to_host(mine)[:-outputs], other.to_host(its)[:-outputs]
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
    """Microseconds that a state takes to the device, and back."""
    states = model.states(form)
    values = model.initial_state(form)
    row = states.from_host(values)
    return {
        "state_bytes": values.nbytes,
        "import_microseconds": _median(lambda: states.from_host(values), 0.2),
        "export_microseconds": _median(lambda: states.to_host(row), 0.2),
    }


def microseconds(model: Model, form: FormName, batch: int, steps: int, seconds: float) -> float:
    """Of the engine, a stream and step; each chunk's states are the next one's."""
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
    """Microseconds of a call, over at least three."""
    taken: list[float] = []
    while sum(taken) < seconds or len(taken) < 3:
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e6
