"""The picture of docs/explanation/timescale-bank.md: errors of four ways and a bound, spikes that differ, accuracy."""

from __future__ import annotations

import runpy
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from research.worth.measures import Groups, read_results
from research.worth.pictures import save

NOTE = Path(__file__).resolve().parents[2] / "docs/explanation"
PICTURE = NOTE / "timescale-bank.png"
TAUS = np.geomspace(3.0, 200.0, 400)  # steps
SIZES = range(1, 17)
JUDGED = (2, 3, 4, 6, 8, 12, 16)
CONDITIONS = {"trained-4-decays-0.4": "trained at K = 4", "trained-8-decays-0.4": "trained at K = 8"}


def worst_errors() -> dict[str, list[float]]:
    """Compute the relative L2 error of the worst kernel against K, for time constants from 3 to 200 steps."""
    note: dict[str, Any] = runpy.run_path(str(NOTE / "timescale_bank.py"))
    r = np.exp(-1 / TAUS)
    half_width = (np.arctanh(r[-1]) - np.arctanh(r[0])) / 2

    def worst(decays: np.ndarray) -> float:
        return float(np.abs(note["blaschke"](r, decays)).max())

    span = np.log(4 * np.tanh(0.5 / TAUS[0]) / np.tanh(0.5 / TAUS[-1]))
    return {
        "decays rounded to K values": [float(np.tanh(half_width / size)) for size in SIZES],
        "balanced truncation": [balanced(r, size) for size in SIZES],
        "log-spaced time constants": [worst(np.exp(-1 / log_spaced(size))) for size in SIZES],
        "the bank": [worst(note["best_decays"](TAUS[0], TAUS[-1], size)) for size in SIZES],
        "Zolotarev's asymptote": [float(2 * np.exp(-(np.pi**2) * size / (2 * span))) for size in SIZES],
    }


def log_spaced(size: int) -> np.ndarray:
    """Choose K time constants in the middle of K equal parts of the range, by logarithms."""
    edges = np.geomspace(TAUS[0], TAUS[-1], size + 1)
    return np.asarray(np.sqrt(edges[:-1] * edges[1:]))


def balanced(r: np.ndarray, size: int) -> float:
    """Compute the worst kernel's error after balanced truncation of all kernels, each of norm 1, to K states."""
    norms = np.sqrt(1 - r**2)
    grammian = 1 / (1 - np.outer(r, r))  # the other one is the identity
    values, vectors = np.linalg.eigh(grammian)
    kept = vectors[:, np.argsort(values)[::-1][:size]]
    step, state, outputs = kept.T @ (r[:, None] * kept), kept.T @ np.ones(len(r)), norms[:, None] * kept
    squares, exact = np.zeros(len(r)), norms.copy()
    for _ in range(int(10 * TAUS[-1])):
        squares += (outputs @ state - exact) ** 2
        state, exact = step @ state, exact * r
    return float(np.sqrt(squares.max()))


def draw(groups: Groups, path: Path) -> None:
    """Draw the three panels."""
    figure = Figure((11, 3.4), layout="constrained")
    errors, spikes, accuracy = figure.subplots(1, 3)
    for (label, values), style in zip(worst_errors().items(), ("s-", "v-", "^-", "o-", "k:"), strict=True):
        errors.plot(SIZES, values, style, markersize=4, linewidth=1, label=label)
    errors.set(
        title="worst kernel, 3 to 200 steps", xlabel="K", ylabel="relative L2 error", yscale="log", ylim=(1e-6, 2)
    )
    errors.legend(framealpha=0.9, fontsize=8, loc="lower left")
    for condition, label in CONDITIONS.items():
        runs = [run for run in groups[("bank-size", condition, "hetsyn", True)].values() if run["analysis"]]
        rows = [{row.get("size"): row for row in run["analysis"]["bank"]} for run in runs]
        spikes.plot(JUDGED, [100 * fmean(row[k]["spike_mismatch"] for row in rows) for k in JUDGED], "o-", label=label)
        accuracy.plot(JUDGED, [100 * fmean(row[k]["figure"] for row in rows) for k in JUDGED], "o-", label=label)
        accuracy.axhline(100 * fmean(row[None]["figure"] for row in rows), color="black", linewidth=0.8, linestyle=":")
    spikes.set(title="spikes that differ from the exact form", xlabel="K", ylabel="% of its spikes", ylim=(0, None))
    accuracy.set(title="accuracy (dotted: exact form)", xlabel="K", ylabel="%")
    accuracy.legend(frameon=False, fontsize=8)
    for panel in figure.axes:
        panel.set_xticks(range(2, 17, 2))
    save(figure, path)


if __name__ == "__main__":
    draw(read_results(), PICTURE)
