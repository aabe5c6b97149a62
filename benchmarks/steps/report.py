"""Ratios and table of the engine benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import geometric_mean
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.steps.cost import (
    BANK,
    BANK_OTHER,
    EAGER,
)


def ratios(cells: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Eager loop over each, at the same batch and chunk length."""
    eager = {_key(cell): cell["microseconds"] for cell in cells if cell["implementation"] == EAGER}
    return {
        f"{cell['workload']}; batch {cell['batch']}, {cell['steps']} steps; eager / {cell['implementation']}": round(
            eager[_key(cell)] / cell["microseconds"], 2
        )
        for cell in cells
        if cell["implementation"] != EAGER
    }


def speed_of_the_other_build(cells: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Divide the other build's speed by the installed one's, at each batch and chunk length, and average."""
    taken = {(*_key(cell), cell["implementation"]): cell["microseconds"] for cell in cells}
    shares = {key[:3]: value / taken[(*key[:3], BANK_OTHER)] for key, value in taken.items() if key[3] == BANK}
    found = {f"{load}; batch {batch}, {steps} steps": round(share, 3) for (load, batch, steps), share in shares.items()}
    return found | {"geometric mean": round(geometric_mean(shares.values()), 3)}


def _key(cell: dict[str, Any]) -> tuple[str, int, int]:
    return cell["workload"], cell["batch"], cell["steps"]


def print_results(results: dict[str, Any]) -> None:
    console = Console(width=190)
    cells = results["cells"]
    for workload in dict.fromkeys(cell["workload"] for cell in cells):
        mine = [cell for cell in cells if cell["workload"] == workload]
        shapes = list(dict.fromkeys((cell["batch"], cell["steps"]) for cell in mine))
        table = Table(
            "µs a stream and step",
            *(f"batch {batch}\n{steps} steps" for batch, steps in shapes),
            "limit",
            "state\nbytes",
            "bytes moved\na step",
            title=f"{workload}, one thread",
        )
        for name in dict.fromkeys(cell["implementation"] for cell in mine):
            row = {(c["batch"], c["steps"]): c for c in mine if c["implementation"] == name}
            first = row[shapes[0]]
            costs = f"{first['limit_microseconds']:.2f}", f"{first['state_bytes']:,}", f"{first['moved_bytes']:,.0f}"
            table.add_row(name, *(f"{row[shape]['microseconds']:.1f}" for shape in shapes), *costs)
        console.print(table)
