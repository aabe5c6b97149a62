"""Figures, table and plot of a run with faults."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.long.faults.clients import Acknowledgements
from tests.long.faults.script import Occurred
from tests.long.faults.tally import Tally

BIN_S = 0.5  # of the timeline
# the least numbers of a whole run, and the limit of a recovery
LEAST_CHUNKS = 10_000
LEAST_FAULTS = 50
RECOVERY_S = 2.0


def summary(
    settings: dict[str, Any],
    tally: Tally,
    acknowledgements: Acknowledgements,
    occurred: Sequence[Occurred],
    *,
    quick: bool,
    may_lose: bool = False,
    recovery_s: float = RECOVERY_S,
) -> dict[str, Any]:
    """The results as JSON values. Times count from the first acknowledged chunk.

    Args:
        tally: counts of all answers.
        acknowledgements: the acknowledged chunks.
        occurred: the faults.
        quick: the run may be too short, and recoveries too slow.
        may_lose: whether the store may lose acknowledged chunks, if clients are told.
        recovery_s: limit of a recovery in a whole run.
    """
    times_s = acknowledgements.times_s
    start_s = times_s[0] if times_s else 0.0
    duration_s = times_s[-1] - start_s if times_s else 0.0
    bins = [0] * (int(duration_s / BIN_S) + 1)
    for time_s in times_s:
        bins[int((time_s - start_s) / BIN_S)] += 1
    waits_s = sorted(acknowledgements.waits_s) or [0.0]
    recoveries = [one.recovery_s for one in occurred if one.recovery_s is not None]
    by_kind: dict[str, list[Occurred]] = {}
    for one in occurred:
        by_kind.setdefault(one.kind.value, []).append(one)
    counts = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(tally).items()}
    violations = counts.pop("violations")
    counts["faults"] = len(occurred)
    is_well = tally.is_honest if may_lose else tally.is_clean
    missing = [] if is_well else ["chunks lost, applied twice or answered wrongly, or sessions given up"]
    if len(recoveries) < len(occurred):
        missing.append(f"{len(occurred) - len(recoveries)} of {len(occurred)} faults without a recovery")
    if not quick:
        missing += _too_little(tally.acknowledged, len(occurred))
        if max(recoveries, default=0.0) >= recovery_s:
            missing.append(f"a recovery took {max(recoveries):.2f} s, not less than {recovery_s:g}")
    return {
        "settings": settings,
        "counts": counts,
        "violations": violations,
        "passed": not missing,
        "missing": missing,
        "ratios": {
            "lost / acknowledged": tally.lost / max(1, tally.acknowledged),
            "applied twice / acknowledged": tally.twice / max(1, tally.acknowledged),
            "other answers / acknowledged": tally.wrong / max(1, tally.acknowledged),
        },
        "recovery_s": {"median": statistics.median(recoveries or [0.0]), "max": max(recoveries, default=0.0)},
        "recovery_by_kind": {
            kind: {
                "faults": len(those),
                "errors": sum(one.errors for one in those),
                "median_s": statistics.median([one.recovery_s for one in those if one.recovery_s is not None] or [0]),
                "max_s": max((one.recovery_s for one in those if one.recovery_s is not None), default=None),
            }
            for kind, those in sorted(by_kind.items())
        },
        "wait_of_a_chunk_s": {
            "p50": waits_s[len(waits_s) // 2], "p99": waits_s[len(waits_s) * 99 // 100], "max": waits_s[-1],
        },
        "duration_s": duration_s,
        "timeline": {"bin_s": BIN_S, "acknowledged": bins},
        "occurred": [
            {
                "kind": one.kind.value,
                "replica": one.replica,
                "began_s": one.began_s - start_s,
                "back_s": one.back_s - start_s,
                "recovered_s": None if one.recovered_s is None else one.recovered_s - start_s,
                "errors": one.errors,
                "remark": one.remark,
            }
            for one in occurred
        ],
    }  # fmt: skip


def _too_little(acknowledged: int, faults: int) -> list[str]:
    """The requirements of a whole run that were missed."""
    missing = []
    if acknowledged < LEAST_CHUNKS:
        missing.append(f"{acknowledged:,} chunks acknowledged, fewer than {LEAST_CHUNKS:,}")
    if faults < LEAST_FAULTS:
        missing.append(f"{faults} faults, fewer than {LEAST_FAULTS}")
    return missing


def print_results(results: dict[str, Any]) -> None:
    counts, settings = results["counts"], results["settings"]
    console = Console(width=120)
    table = Table(
        "fault", "times", "errors that clients met", "recovery, median s", "longest s", title=settings["store"]
    )
    for kind, those in results["recovery_by_kind"].items():
        longest = "none" if those["max_s"] is None else f"{those['max_s']:.2f}"
        table.add_row(kind, str(those["faults"]), str(those["errors"]), f"{those['median_s']:.2f}", longest)
    console.print(table)
    lines = [
        f"{counts['acknowledged']:,} chunks acknowledged in {counts['sessions']:,} sessions and "
        f"{results['duration_s']:.0f} s, {counts['faults']} faults",
        f"lost {counts['lost']}, applied twice {counts['twice']}, other answers {counts['wrong']}, "
        f"sessions given up {counts['broken']}",
        f"losses, as clients were told: {_listed(counts['noticed'])}",
        f"wait for a chunk's acknowledgement: p50 {1e3 * results['wait_of_a_chunk_s']['p50']:.1f} ms, "
        f"p99 {1e3 * results['wait_of_a_chunk_s']['p99']:.0f} ms, longest {results['wait_of_a_chunk_s']['max']:.2f} s",
        f"answered as they must be: {_listed(counts['probes'])}",
        f"sent: {_listed(counts['manners'])}",
        f"errors, all sent again: {_listed(counts['errors'])}",
        *(f"VIOLATION: {violation}" for violation in results["violations"][:5]),
        *(f"NOT PASSED: {what}" for what in results["missing"]),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"


COLOURS = {
    "kill a replica": "#c0392b", "pause a replica": "#e59866", "kill the store": "#6c3483",
    "pause the store": "#a569bd", "kill all at once": "#17202a", "cut connections": "#2e86c1",
    "lose the store's answers": "#117a65", "full store": "#b7950b", "damaged file": "#641e16",
    "kill a primary": "#6c3483", "kill a primary whose replica lags": "#e67e22", "restart a primary": "#af7ac5",
    "pause a primary": "#a569bd", "kill the replica of a primary": "#7f8c8d", "planned failover": "#117a65",
    "move slots": "#b7950b",
}  # fmt: skip


def plot(results: dict[str, Any], path: Path) -> None:
    """Acknowledged chunks a second with the faults over time, and the recovery from each, as a PNG."""
    import matplotlib as mpl  # late: only a plot needs it

    mpl.use("agg")
    from matplotlib import pyplot

    figure, (rate, recovery) = pyplot.subplots(
        2, 1, figsize=(12, 6), layout="constrained", sharex=True, height_ratios=[1.5, 1]
    )
    bin_s, counts = results["timeline"]["bin_s"], results["counts"]
    bins = results["timeline"]["acknowledged"][:-1]  # the last bin is incomplete
    rate.step(
        [bin_s * index for index in range(len(bins))], [n / bin_s for n in bins], where="post", color="#0b6e4f", lw=1
    )
    shown: set[str] = set()
    for one in results["occurred"]:
        color, label = COLOURS[one["kind"]], one["kind"] if one["kind"] not in shown else None
        shown.add(one["kind"])
        rate.axvspan(one["began_s"], max(one["back_s"], one["began_s"] + 0.15), color=color, alpha=0.45, lw=0)
        if one["recovered_s"] is not None:
            took_s = one["recovered_s"] - one["back_s"]
            recovery.vlines(one["back_s"], 0, took_s, color=color, lw=1.5)
            recovery.plot(one["back_s"], took_s, "o", color=color, ms=5, label=label)
    rate.set_ylabel("chunks acknowledged a second")
    rate.set_ylim(bottom=0)
    rate.set_title(
        f"{results['settings']['store']}: {counts['acknowledged']:,} chunks, {counts['faults']} faults, "
        f"{counts['lost']} lost, {counts['twice']} applied twice, {counts['wrong']} other answers",
        fontsize=11,
    )
    recovery.axhline(RECOVERY_S, color="#c0392b", lw=1, linestyle="--")
    recovery.set_ylim(0, max(2.2, 1.1 * results["recovery_s"]["max"]))
    recovery.set_ylabel("recovery, s")
    recovery.set_xlabel("time, s (shaded above: while the fault lasts)")
    recovery.legend(
        frameon=False, fontsize=8, ncols=6, columnspacing=1.2, loc="upper center", bbox_to_anchor=(0.5, 1.16)
    )
    for axes in (rate, recovery):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
