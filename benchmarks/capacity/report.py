"""Tables and plot of the results."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.capacity.comparison import is_within
from benchmarks.plots import plain, pyplot, save

COLOURS = {"loop": "#5b7fa6", "proxy": "#b5651d", "store": "#c0392b"}


def show(results: dict[str, Any]) -> None:
    console = Console(width=140)
    table = Table(
        "served with", "load", "chunks/s", "simulated", "p50 ms", "simulated", title="simulation and measurement"
    )
    for row in results["comparison"]:
        seen, simulated = row["measured"], row["simulated"]
        table.add_row(
            row["arrangement"],
            name_of(row),
            f"{seen['answered_per_s']:,.0f}",
            f"{simulated['answered_per_s']:,.0f} ({row['throughput']:.2f})",
            f"{seen['p50_ms']:.2f}",
            f"{simulated['p50_ms']:.2f} ({row['median']:.2f})",
        )
    console.print(table)
    agreement = results["agreement"]
    console.print(f"within {agreement['limit']:.0%}: {agreement['within']} of {agreement['of']}", highlight=False)
    table = Table("replicas", "store", "most chunks/s", "by", "sessions", "busy", "p50 ms", "p99 ms", "503/s")
    for row in results["sizing"]:
        simulated = row["simulated"]
        busy = f"{row['needed']:.0%} of {row['smallest']}"
        cells = [f"{simulated[key]:,.1f}" for key in ("p50_ms", "p99_ms", "refused_per_s")] if simulated else ["-"] * 3
        most = row["capacities_per_s"][row["smallest"]]
        table.add_row(
            f"{row['replicas']}", row["store"], f"{most:,.0f}", row["smallest"], f"{row['sessions']:,}", busy, *cells
        )
    console.print(table)


def name_of(row: dict[str, Any]) -> str:
    """The load of a row in words."""
    if not row["period_s"]:
        return f"closed, {row['sessions']}"
    return f"{row['sessions']:,} streams, a chunk each {row['period_s']:g} s ({row['share']:.0%})"


def plot(results: dict[str, Any], path: Path) -> None:
    """Simulation against measurement, and the most chunks a second by replicas and store, as a PNG."""
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    seen = [row["measured"]["p50_ms"] for row in results["comparison"]]
    simulated = [row["simulated"]["p50_ms"] for row in results["comparison"]]
    ends = (0.8 * min(*seen, *simulated), 1.25 * max(*seen, *simulated))
    left.fill_between(ends, [0.8 * end for end in ends], [1.2 * end for end in ends], color="#0b6e4f", alpha=0.12, lw=0)
    left.plot(ends, ends, color="#0b6e4f", lw=1)
    names = list(dict.fromkeys(row["arrangement"] for row in results["comparison"]))
    for name, marker in zip(names, "os^Dv", strict=False):
        rows = [row for row in results["comparison"] if row["arrangement"] == name]
        left.scatter(
            [row["measured"]["p50_ms"] for row in rows],
            [row["simulated"]["p50_ms"] for row in rows],
            marker=marker, s=28, label=name, alpha=0.85,
        )  # fmt: skip
    left.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    left.set(xlabel="measured median latency, ms", ylabel="simulated, ms", title="band: within 20%")
    left.legend(frameon=False, fontsize=8)
    cells = {(row["store"], row["replicas"]): row for row in results["sizing"]}
    stores = list(dict.fromkeys(store for store, _ in cells))
    for store, style in zip(stores, ("-", "--", "-.", ":", (0, (1, 3))), strict=False):
        rows = [row for (name, _), row in cells.items() if name == store]
        most = [row["capacities_per_s"][row["smallest"]] for row in rows]
        replicas = [row["replicas"] for row in rows]
        right.plot(replicas, most, linestyle=style, color="#444444", lw=1, label=store)
        right.scatter(replicas, most, c=[COLOURS[row["smallest"]] for row in rows], s=32, zorder=3)
    for part, colour in COLOURS.items():
        right.scatter([], [], color=colour, s=32, label=f"{part} gives way first")
    right.set(xscale="log", yscale="log", xlabel="replicas", ylabel="most chunks a second")
    right.legend(frameon=False, fontsize=8)
    plain(left, right)
    save(figure, path)


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The parts of docs/operations.md that come from results: Markdown by name."""
    return {
        "sizing": _sizing(results["sizing"]),
        "overload": _overload(results["sizing"]),
        "comparison": _comparison(results["comparison"]),
        "agreement": _agreement(results),
    }


def _sizing(rows: list[dict[str, Any]]) -> str:
    cells = {(row["store"], row["replicas"]): row for row in rows}
    replicas = sorted({row["replicas"] for row in rows})
    head = ["most chunks a second, and what gives way first", *(f"{n} replica{'s' * (n > 1)}" for n in replicas)]
    lines = [head, ["---"] * len(head)]
    for store in dict.fromkeys(row["store"] for row in rows):
        found = [cells.get((store, n)) for n in replicas]
        lines.append([store, *(f"{_round(_most(row)):,}, {row['smallest']}" if row else "" for row in found)])
    return _markdown(lines)


def _overload(rows: list[dict[str, Any]]) -> str:
    head = ["replicas, store", "chunks/s sent", "of the most", "answered", "503", "p50, p99 ms"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        simulated = row["simulated"]
        if simulated is None:
            continue
        lines.append(
            [
                f"{row['replicas']}, {row['store']}",
                f"{row['offered_per_s']:,.0f}",
                f"{row['needed']:.0%} of {row['smallest']}",
                f"{_round(simulated['answered_per_s']):,}",
                f"{_round(simulated['refused_per_s']):,}",
                f"{simulated['p50_ms']:,.1f}, {simulated['p99_ms']:,.1f}",
            ]
        )
    return _markdown(lines)


def _comparison(rows: list[dict[str, Any]]) -> str:
    head = ["served with", "load", "chunks/s: measured, simulated", "median ms: measured, simulated"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        seen, simulated = row["measured"], row["simulated"]
        lines.append(
            [
                row["arrangement"],
                name_of(row),
                f"{seen['answered_per_s']:,.0f}, {simulated['answered_per_s']:,.0f} ({row['throughput']:.2f})",
                f"{seen['p50_ms']:.2f}, {simulated['p50_ms']:.2f} ({row['median']:.2f})",
            ]
        )
    return _markdown(lines)


def _agreement(results: dict[str, Any]) -> str:
    agreement, rows, setting = results["agreement"], results["comparison"], results["calibration"]
    rates = sum(abs(row["throughput"] - 1) <= agreement["limit"] for row in rows)
    medians = sum(abs(row["median"] - 1) <= agreement["limit"] for row in rows)
    tails = [row["simulated"]["p99_ms"] / row["measured"]["p99_ms"] for row in rows]
    return (
        f"Within {agreement['limit']:.0%}: the throughput of {rates} of {len(rows)} loads, the median of {medians}, "
        f"both of {agreement['within']}.\nOf the {len(setting)} loads that set costs, both of "
        f"{sum(map(is_within, setting))}. The simulated 99th percentile is too low: "
        f"{statistics.median(tails):.2f} of the measured\none in the middle, {min(tails):.2f} at worst."
    )


def _most(row: dict[str, Any]) -> float:
    most: float = row["capacities_per_s"][row["smallest"]]
    return most


def _round(number: float) -> int:
    """To three figures."""
    return int(float(f"{number:.3g}"))


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
