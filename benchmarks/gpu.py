"""A GPU, which runs plain ONNX, beside the CPU, which runs the operator: the time a stream and step, in the engine.

First the golden streams have to give the CPU's answers on the GPU, and the share of hidden spikes that differ is
counted. Without a usable GPU nothing is measured or written.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from service.contract.manifest import FormName
from service.engine.engine import Engine
from service.engine.work import StreamState, Work, initial_stream
from service.errors import RuntimeUnavailable
from service.models.catalog import ModelCatalog
from service.models.golden import golden_streams
from service.models.model import Model
from service.reload.golden_test import golden_test
from service.runtime.device import Device, open_device
from service.wire.chunk import SpikeChunk, spike_chunk

MODELS = Path(__file__).parents[1] / "models"
MODEL, DENSITY = "shd-size", 0.045


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each cell")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    try:
        device = open_device("cuda")
    except RuntimeUnavailable as error:
        raise SystemExit(f"nothing measured: {error}") from error
    assert device is not None
    batches = (1, 32, 256) if arguments.quick else (1, 8, 32, 128, 256, 512, 1024)
    lengths = (10, 25) if arguments.quick else (1, 10, 25, 100)
    from benchmarks.steps.step_graph import write_exact  # imports torch

    with tempfile.TemporaryDirectory() as exact:
        write_exact(MODELS / MODEL / "1", Path(exact) / MODEL / "1")
        folders: dict[FormName, Path] = {"bank": MODELS, "exact": Path(exact)}
        return measure(device, folders, batches, lengths, 0.1 if arguments.quick else arguments.seconds)


def measure(
    device: Device,
    folders: Mapping[FormName, Path],
    batches: tuple[int, ...],
    lengths: tuple[int, ...],
    seconds: float,
) -> dict[str, Any]:
    """Make all measurements on a device.

    Args:
        device: beside the CPU.
        batches: streams in a batch.
        lengths: steps of a chunk.
        seconds: time for each cell.

    Raises:
        ArtifactError: the device does not give the CPU's answers.
    """
    console, cells, differing = Console(), list[dict[str, Any]](), dict[str, float]()
    table = Table("form", "batch", "steps", "GPU", "CPU", title=f"{MODEL}: µs a stream and step")
    for form, folder in folders.items():
        on_device, on_cpu = ModelCatalog(folder, device=device).get(MODEL), ModelCatalog(folder).get(MODEL)
        golden_test(on_device, Engine(10_000))
        differing[form], labels = differences(on_device, on_cpu)
        console.print(f"{form}: {differing[form]:.2%} of the hidden spikes differ, and {labels} labels")
        for batch in batches:
            for steps in lengths:
                if form == "exact" and batch * steps > 25_600:
                    continue  # the CPU would take minutes
                gpu_us, cpu_us = (microseconds(model, batch, steps, seconds) for model in (on_device, on_cpu))
                cells.append({"form": form, "batch": batch, "steps": steps, "gpu_us": gpu_us, "cpu_us": cpu_us})
                table.add_row(form, str(batch), str(steps), f"{gpu_us:.3f}", f"{cpu_us:.3f}")
    console.print(table)
    return {"model": MODEL, "density": DENSITY, "share_of_spikes_that_differ": differing, "cells": cells}


def differences(on_device: Model, on_cpu: Model) -> tuple[float, int]:
    """Compare two devices on the golden streams.

    Returns:
        The hidden spikes that one of them has alone, as a share of the CPU's; and the number of labels that differ.
    """
    inputs, lengths, _ = golden_streams(on_cpu)
    outcomes = []
    for model in (on_device, on_cpu):
        streams = zip(inputs, lengths, strict=True)
        chunks = [spike_chunk(int(length), *spikes[:length].nonzero()) for spikes, length in streams]
        work = [Work(initial_stream(model), chunk, end=False, spikes=True) for chunk in chunks]
        outcomes.append([outcome.result for outcome in Engine(10_000).run(model, work)])
    different = fired = labels = 0
    for got, expected in zip(*outcomes, strict=True):
        labels += int(got.probabilities.argmax() != expected.probabilities.argmax())
        for name in on_cpu.hidden_layers:
            one, other = (np.concatenate([part.bits[name] for part in result.raster]) for result in (got, expected))
            different += int(np.unpackbits(one ^ other).sum())
            fired += int(np.unpackbits(other).sum())
    return different / max(1, fired), labels


def microseconds(model: Model, batch: int, steps: int, seconds: float) -> float:
    """Median time of the engine a stream and step, of three calls at least. Each chunk continues the last states."""
    rng = np.random.default_rng(0)
    channels = model.manifest.input.channels
    chunks: list[SpikeChunk] = []
    for _ in range(min(batch, 32)):
        times, units = np.nonzero(rng.random((steps, channels)) < DENSITY)
        chunks.append(spike_chunk(steps, times, units))
    engine = Engine(steps, steps)
    streams: list[StreamState] = [initial_stream(model)] * batch
    taken = list[float]()
    while sum(taken) < seconds or len(taken) < 4:  # the first call only warms up
        work = [Work(stream, chunks[b % len(chunks)], False) for b, stream in enumerate(streams)]
        begun = time.perf_counter()
        streams = [outcome.stream for outcome in engine.run(model, work)]
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:]) * 1e6 / (batch * steps)
