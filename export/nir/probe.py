"""Measures how faithful an import is: its spikes in float32 against those of the cell in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
import torch

from export.nir import NirError
from export.nir.cell import NirCell, run_cell
from export.nir.dynamics import Program
from export.nir.graph import INPUT, OUTPUT, Float64Array

STREAMS, STEPS = 16, 100
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.4)  # share of spikes, one stream after the other
GAINS = (1.0, 4.0, 16.0, 64.0)  # tried one after the other until a neuron fires
MOST_OUTPUT_ERROR = 1e-4  # limit for a faithful import
MAX_NUMBERS = 2**24  # limit of a probe's size

Verdict = Literal["faithful", "approximate"]
Run = Callable[[Float64Array], Mapping[str, Float64Array]]


@dataclass(frozen=True)
class Fidelity:
    """The result of a probe.

    Attributes:
        verdict: ``faithful`` if no spike differs, the Output is within MOST_OUTPUT_ERROR and nothing of the file was
            rounded, else ``approximate``.
        spikes: spikes of all neurons in float64.
        different: spikes that only the import or only float64 has.
        output_error: largest difference of the Output, relative to values above 1.
        gain: factor on the probe's spikes; above 1 if spikes of 1 made no neuron fire.
        notes: deviations of the import from the file.
    """

    verdict: Verdict
    spikes: int
    different: int
    output_error: float
    streams: int
    steps: int
    gain: float
    notes: tuple[str, ...]

    def sentence(self) -> str:
        """Write the verdict for people."""
        probe = f"a probe of {self.streams} streams of {self.steps} steps"
        if self.spikes or self.different:
            found = f"{self.different:,} of {self.spikes:,} spikes differ from float64 on {probe}"
            if self.output_error >= MOST_OUTPUT_ERROR:
                found += f", outputs by up to {self.output_error:.1e}"
        else:
            found = f"no neuron fired on {probe}; outputs differ by {self.output_error:.1e}"
        if self.gain != 1:
            found += f" (inputs times {self.gain:g}, since ones made no neuron fire)"
        return f"{self.verdict}: {'; '.join([found, *self.notes])}"

    def provenance(self) -> dict[str, str | int | float | bool | None]:
        """Write the verdict as entries of a manifest's provenance."""
        return {
            "nir.verdict": self.verdict,
            "nir.probe_spikes": self.spikes,
            "nir.spikes_that_differ": self.different,
            "nir.output_error": self.output_error,
            "nir.notes": "; ".join(self.notes),
        }


def measure(program: Program, run: Run, values: Float64Array | None = None) -> Fidelity:
    """Run a probe through an import and through the cell in float64.

    Args:
        program: the graph in steps.
        run: runs the import; as :func:`run_cell`.
        values: [stream, steps, channels], the probe; None: seeded spikes.

    Raises:
        NirError: numbers grow beyond float32, or the probe is not finite or does not fit the Input.
    """
    channels = prod(program.shapes[program.graph.of_kind(INPUT)[0].name])
    if values is not None and (values.ndim != 3 or values.shape[2] != channels):
        raise NirError(f"the probe has shape {list(values.shape)}: give [stream, steps, {channels}]")
    if values is not None and not (values.size and np.isfinite(values).all()):
        raise NirError("the probe is empty, or has values that are not finite: give some streams of numbers")
    gains = (1.0,) if values is not None or not program.spiking else GAINS
    spikes = seeded_spikes(channels) if values is None else values
    reference = NirCell(program, torch.float64).eval()
    gain, truth = 1.0, {}
    for gain in gains:
        truth = run_cell(reference, spikes * gain)
        if any(truth[name].any() for name in program.spiking):
            break
    else:
        gain, truth = gains[0], run_cell(reference, spikes * gains[0])
    sink = program.graph.of_kind(OUTPUT)[0].name
    largest = max(float(np.abs(trace).max(initial=0.0)) for trace in truth.values())
    if not largest < float(np.finfo(np.float32).max):
        raise NirError(f"the network's numbers grow to {largest:.1g} in {spikes.shape[1]} steps: look at its loops")
    found = run(spikes * gain)
    different = sum(float(np.abs(found[name] - truth[name]).sum()) for name in program.spiking)
    error = np.abs(found[sink] - truth[sink]) / np.maximum(np.abs(truth[sink]), 1.0)
    fired = sum(float(np.abs(truth[name]).sum()) for name in program.spiking)
    output_error = float(error.max(initial=0.0))
    is_exact = not different and not program.notes and output_error < MOST_OUTPUT_ERROR
    return Fidelity(
        "faithful" if is_exact else "approximate",
        int(fired),
        int(different),
        output_error,
        spikes.shape[0],
        spikes.shape[1],
        gain,
        program.notes,
    )


def seeded_spikes(channels: int, seed: int = 0) -> Float64Array:
    """Draw spikes of several densities, [stream, steps, channels]; fewer steps for very many channels."""
    steps = int(np.clip(MAX_NUMBERS // (STREAMS * channels), 10, STEPS))
    density = np.resize(DENSITIES, STREAMS)[:, None, None]
    return (np.random.default_rng(seed).random((STREAMS, steps, channels)) < density).astype(np.float64)
