"""``benchmarks engine --families``: state and step of each related system, beside HetSyn's.

All networks have their initial weights, get random spikes in 4.5% of the channels a step, and run in the forms that
take at most 100 kB of state a session. They are 700-128-64-20, but the cells of ``examples/``, which have 8 or 16
channels. Streams have 200 steps. The networks take turns in one process of one thread; a time is the lower quartile of
its CPU time. Networks with few spikes have less to do: the table has their hidden spikes. Nobody counts those of cells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from examples.autaptic_gate import AutapticGate
from examples.elm_neuron import ElmNeuron
from examples.kernels.dynap_se import dynap_se
from examples.kernels.f_lif import f_lif
from examples.latent_decoder import NEURONS as POPULATION
from examples.latent_decoder import LatentDecoder
from examples.temporal_filter import TemporalFilter
from examples.training import CHANNELS
from export import export_step
from export.graphs.network_graph import network_graph
from export.parity import TOLERANCE, chunk_feed, initial_row
from hetsyn_model import Network, NetworkSpec
from hetsyn_model.state import FORMS, Form, state_bytes
from service.contract.artifact import Artifact
from service.contract.graph_io import NEXT_STATE, NEXT_STEP, PROBABILITIES, SCORES, STATE, STEP
from service.runtime.onnx import load_graph
from tests.support.networks.families import families

SIZES = (700, (128, 64), 20)
HETSYN = "HetSyn"
CELLS = ((32, 25), (32, 1), (1, 10), (1, 1))  # streams and steps of a chunk
DENSITY = 0.045
STREAM_STEPS = 200
MOST_STATE_BYTES = 100_000  # of a form that is worth a session: HetSyn's exact form has five times as many


def measure(rounds: int) -> dict[str, Any]:
    """Measure all networks with this number of calls each, and print the table."""
    torch.set_num_threads(1)
    described: dict[str, dict[str, Any]] = {}
    calls: dict[tuple[str, Form, tuple[int, int]], Callable[[], None]] = {}
    for name, spec in {HETSYN: NetworkSpec(*SIZES), **families(*SIZES)}.items():
        network = Network(spec, seed=1).eval()
        network.fit_banks()
        forms: dict[Form, int] = {}
        for form in FORMS:
            layout = network.compile(form).layout
            if state_bytes(layout) <= MOST_STATE_BYTES:
                forms[form] = state_bytes(layout)
                calls |= {(name, form, cell): _call(network, form, *cell) for cell in CELLS}
        described[name] = {"state_bytes": forms, "hidden_spikes": _hidden_spikes(network)}
    torch.manual_seed(1)
    cells: dict[str, tuple[Any, int, Form]] = {
        "f_lif": (f_lif(*SIZES).served(), SIZES[0], "bank"),
        "dynap_se": (dynap_se(*SIZES).served(), SIZES[0], "bank"),
        "temporal_filter": (TemporalFilter(), CHANNELS, "exact"),
        "elm_neuron": (ElmNeuron(), CHANNELS, "exact"),
        "autaptic_gate": (AutapticGate(), CHANNELS, "exact"),
        "latent_decoder": (LatentDecoder(), POPULATION, "exact"),
    }
    for name, (module, channels, form) in cells.items():
        content, words = _exported(module, channels, has_bits=form == "bank")
        row: dict[str, np.ndarray] = {STATE: np.zeros(words, np.float32), STEP: np.zeros((), np.int64)}
        calls |= {(name, form, cell): _caller(content, row, *cell, channels) for cell in CELLS}
        described[name] = {"channels": channels, "state_bytes": {form: 4 * words + 8}, "hidden_spikes": []}
    taken: dict[tuple[str, Form, tuple[int, int]], list[float]] = {key: [] for key in calls}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for index in rng.permutation(len(calls)):
            key = list(calls)[index]
            start = time.process_time()
            calls[key]()
            taken[key].append((time.process_time() - start) / (key[2][0] * key[2][1]) * 1e6)
    timed = [
        {
            "family": name,
            "form": form,
            "batch": batch,
            "steps": steps,
            "microseconds": quantiles(times, method="inclusive")[0],
        }
        for (name, form, (batch, steps)), times in taken.items()
    ]
    results = {"threads": 1, "families": described, "cells": timed}
    _print(results)
    return results


def ratios(results: dict[str, Any]) -> dict[tuple[str, str], list[float]]:
    """Time of each family and form over that of HetSyn's bank, for each kind of chunk."""
    taken = {(c["family"], c["form"], c["batch"], c["steps"]): c["microseconds"] for c in results["cells"]}
    return {
        (name, form): [taken[name, form, *cell] / taken[HETSYN, "bank", *cell] for cell in CELLS]
        for name, form in dict.fromkeys((key[0], key[1]) for key in taken)
    }


def _call(network: Network, form: Form, batch: int, steps: int) -> Callable[[], None]:
    """Make a function that advances ``batch`` streams by a chunk of ``steps``."""
    compiled = network.compile(form)
    row = {name: values[0] for name, values in initial_row(compiled.layout, 1).items()}
    return _caller(network_graph(compiled), row, batch, steps)


def _exported(cell: Any, channels: int, *, has_bits: bool) -> tuple[bytes, int]:
    """Export a cell, as its example does; its graph, and the numbers of its state.

    Args:
        has_bits: the graph has the cell's own bits.
    """
    initial = cell.initial_state()
    with torch.no_grad():
        outputs = cell.step(initial, torch.zeros(1, channels))[1].shape[-1]
    with TemporaryDirectory() as folder:
        out = Path(folder) / "cell" / "1"
        export_step(
            cell,
            out=out,
            example_input=torch.zeros(1, channels),
            initial_state=initial,
            labels=[str(label) for label in range(outputs)],
            decision="sum_softmax" if has_bits else "last",
            input_kind="spikes",
            tolerance=0.0 if has_bits else TOLERANCE,
            examples=[torch.from_numpy(_spikes(1, 5, channels)[0])],
        )
        artifact = Artifact.open(out)
        network_of = artifact.manifest.network
        return artifact.read(network_of.file), network_of.words


def _caller(
    content: bytes, row: Mapping[str, np.ndarray], batch: int, steps: int, channels: int = SIZES[0]
) -> Callable[[], None]:
    graph = load_graph(content)
    feed = chunk_feed(_spikes(batch, steps, channels), np.full(batch, steps, np.int64))
    first = {name: np.repeat(values[None], batch, 0) for name, values in row.items()}
    state = dict(first)

    def call() -> None:
        if state[STEP][0] >= STREAM_STEPS:  # a power law remembers, and random weights let it grow
            state.update(first)
        out = graph.run(feed | state, [NEXT_STATE, NEXT_STEP, SCORES, PROBABILITIES])
        state[STATE], state[STEP] = out[NEXT_STATE], out[NEXT_STEP]

    call()
    return call


def _spikes(batch: int, steps: int, channels: int = SIZES[0]) -> np.ndarray:
    return (np.random.default_rng(0).random((batch, steps, channels)) < DENSITY).astype(np.float32)


@torch.no_grad()
def _hidden_spikes(network: Network) -> list[float]:
    """Share of the neurons of each hidden layer that fire in a step."""
    rolled = network.rollout(torch.from_numpy(_spikes(4, STREAM_STEPS)), "bank")
    return [float(spikes.mean()) for spikes in rolled.hidden_spikes]


def _print(results: dict[str, Any]) -> None:
    table = Table(
        "family", "form", "bytes of state", "hidden spikes", *(f"{b} streams, {s} steps" for b, s in CELLS),
        title="time of a step / time of HetSyn's, bank",
    )  # fmt: skip
    for (name, form), shares in ratios(results).items():
        family = results["families"][name]
        table.add_row(
            name,
            form,
            f"{family['state_bytes'][form]:,}",
            ", ".join(f"{share:.1%}" for share in family["hidden_spikes"]),
            *(f"{share:.2f}" for share in shares),
        )
    Console(width=150).print(table)
