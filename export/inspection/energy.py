"""Compares the operations of a model's step with those of other networks of its size, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from export.inspection.activity import Measured, measure
from export.inspection.graph_weights import read_tensors
from export.inspection.operations import (
    Numbers,
    Operations,
    Work,
    all_connected,
    count,
    lif_work,
    lstm_hidden,
    lstm_work,
    sizes,
    work_of_network,
)
from service.contract.artifact import Artifact
from service.errors import ArtifactError

COLUMNS = ("dense", "MACs", "ACs", "multiplies", "weight bytes", "state bytes", "nJ")


@dataclass(frozen=True)
class Energy:
    """Operations of a step.

    Attributes:
        rows: by name: the model's form, and networks of its size for comparison.
        works: the costs that the rows were counted from.
        sources: number of units of each spiking source, and how many of them spike in a step; None if not measured.
        streams: number of measured golden streams. 0: none; the rows then have a step without spikes.
        problem: the reason if none was measured, else None.
    """

    rows: dict[str, Operations]
    works: dict[str, Work]
    sources: dict[str, tuple[int, float | None]]
    streams: int
    steps: int
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values. ``formula`` has the constant part of a step, and what a spike of each source adds."""
        return {
            "streams": self.streams,
            "steps": self.steps,
            "problem": self.problem,
            "sources": {name: {"units": units, "spikes": spikes} for name, (units, spikes) in self.sources.items()},
            "step": {name: row.to_dict() for name, row in self.rows.items()},
            "formula": {name: _formula(work) for name, work in self.works.items()},
        }

    @property
    def conditions(self) -> str:
        """Write the conditions of the rows as a sentence."""
        if self.problem:
            return f"A step in which nothing spikes: {self.problem}."
        measured = ", ".join(f"{name} {spikes:.3g} of {units:,}" for name, (units, spikes) in self.sources.items())
        return f"Spikes a step, mean of {self.steps:,} golden steps: {measured}."


def energy_of(artifact: Artifact) -> Energy | None:
    """Count a model's operations; None if its layers are not HetSyn's, because their equations are unknown."""
    manifest = artifact.manifest
    channels, layers, is_binary = manifest.input.channels, sizes(manifest), manifest.input.kind == "spikes"
    works: dict[str, Work] = {}
    form = manifest.network.form
    recurrent, values = False, 0
    if not manifest.hidden:
        return None
    try:
        named = read_tensors(artifact.read(manifest.network.file))
        tensors = {name.rpartition("/")[2]: array for name, array in named.items()}
        works[form] = work_of_network(tensors, manifest.network.state, layers, channels, is_binary=is_binary)
        recurrent = "hidden1.weight_rec" in tensors
        if form == "exact":
            kinds = ("weight_in", "weight_rec", "decay_in", "decay_rec", "bias_in", "bias_rec")
            values = sum(tensors[f"{name}.{kind}"].size for name in layers for kind in kinds
                         if f"{name}.{kind}" in tensors)  # fmt: skip
    except (ArtifactError, ValueError):
        return None
    measured = measure(artifact)
    connected = works[form] if form == "exact" else all_connected(channels, layers, recurrent, is_binary=is_binary)
    works["LIF"] = lif_work(connected, layers, own_decays=False)
    works["HetNeu"] = lif_work(connected, layers, own_decays=True)
    hidden = manifest.hidden
    works[_named("LSTM", hidden)] = lstm_work(channels, hidden, manifest.outputs, is_binary=is_binary)
    if values:
        fewer = lstm_hidden(channels, hidden, manifest.outputs, values)
        works[_named("LSTM", fewer)] = lstm_work(channels, fewer, manifest.outputs, is_binary=is_binary)
    return _counted(works, connected, measured)


def _named(kind: str, hidden: Any) -> str:
    return f"{kind} {'-'.join(map(str, hidden))}"


def _counted(works: dict[str, Work], connected: Work, measured: Measured | str) -> Energy:
    units = {source.name: len(source.fanouts[0].of_unit) for source in connected.sources}
    if isinstance(measured, str):
        silent: Mapping[str, Numbers | float] = dict.fromkeys(units, 0.0)
        rows = {name: count(work, silent) for name, work in works.items()}
        return Energy(rows, works, {name: (number, None) for name, number in units.items()}, 0, 0, measured)
    rows = {name: count(work, measured.rates) for name, work in works.items()}
    sources: dict[str, tuple[int, float | None]] = {
        name: (number, float(measured.rates[name].sum())) for name, number in units.items()
    }
    return Energy(rows, works, sources, measured.streams, measured.steps, None)


def _formula(work: Work) -> dict[str, Any]:
    silent = dict.fromkeys((source.name for source in work.sources), 0.0)
    constant = count(work, silent).to_dict()
    spikes = {}
    for source in work.sources:
        one = count(work, silent | {source.name: 1 / len(source.fanouts[0].of_unit)}).to_dict()
        more = {name: round(value - constant[name], 6) for name, value in one.items()}
        spikes[source.name] = {name: value for name, value in more.items() if value}
    return {"step": constant, "spike": spikes}


def cells(row: Operations) -> list[str]:
    """Return the figures of a row as text, by ``COLUMNS``."""
    whole = (row.dense, row.effective_macs, row.effective_acs, row.multiplications)
    traffic = (row.weight_bytes_read, row.state_bytes_read + row.state_bytes_written)
    return [*(f"{value:,.0f}" for value in (*whole, *traffic)), f"{row.arithmetic_nj:,.1f}"]


def energy_table(energy: Energy) -> Table:
    """Make a table for a terminal."""
    conditions = f"{escape(energy.conditions)}\nState bytes are read and written: about twice a session's state."
    table = Table(
        title="operations of a step, and bytes that it reads and writes", title_justify="left",
        caption=conditions, caption_justify="left", box=SIMPLE_HEAD, padding=0,  # fits into 80 columns
    )  # fmt: skip
    table.add_column("network", no_wrap=True)
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for name, row in energy.rows.items():
        table.add_row(name, *cells(row))
    return table
