"""The report's tables of banks against the exact form."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean

from research.catalog.banks import DECAY_FACTORS, TRAINED_SIZES, condition_name
from research.claims.measures import bank_row
from research.claims.tables import table
from research.claims.wording import spread
from research.page import figures
from research.page.pictures import Pictures
from research.runs.results import RunResult

SCALED = (
    "Not in the paper: HetSyn alone, on `vision-rows` with 64 and 32 neurons and 800 updates of 64 images. A network "
    "is trained through a bank of K decays, or in the exact form. Then it is judged with banks of every size and in "
    "the exact form, on all 10,000 test images. Five seeds are planned, three in the exact form. All networks have the "
    "learning rate 5e-3 and time constants around 4 steps at first. The decays have one of two learning rates. "
    "The rules of its claims stood before its runs."
)
JUDGED_SIZES = (2, 4, 6, 8, 12, None)  # None: the exact form


def size_section(finished: Sequence[RunResult], pictures: Pictures) -> str:
    """K trained by K judged, with the worst kernel error of the judged bank, and the same as a picture."""
    text = ""
    lines: dict[float, dict[int, list[RunResult]]] = {}
    for factor in DECAY_FACTORS:
        trained = {size: _of(finished, condition_name(size, factor)) for size in TRAINED_SIZES}
        present = {size: results for size, results in trained.items() if results}
        if not present:
            continue
        lines[factor] = trained
        rows = [
            (_size_name(size or None), str(len(results)), *(_judged(results, judged) for judged in JUDGED_SIZES))
            for size, results in present.items()
        ]
        text += f"The decays learn at {factor:g} times the learning rate. In parentheses: the worst kernel error.\n\n"
        head = ("trained", "seeds", *(f"judged: {_size_name(judged)}" for judged in JUDGED_SIZES))
        text += table(head, rows) + "\n"
    caption = "Accuracy by the size of the bank that judges, for each size in training. Each dot is a seed"
    return text + pictures.add("bank-size-judged", caption, partial(figures.trained_and_judged, lines, JUDGED_SIZES))


def _of(finished: Sequence[RunResult], condition: str) -> list[RunResult]:
    return [result for result in finished if result.run["condition"] == condition and result.analysis]


def _size_name(size: int | None) -> str:
    return "exact" if size is None else f"K = {size}"


def _judged(results: Sequence[RunResult], size: int | None) -> str:
    rows = [bank_row(result, size) for result in results]
    text = spread(results[0].metric, [row["figure"] for row in rows])
    return text if size is None else f"{text} ({max(row['kernel_error'] for row in rows):.1e})"


def bank_table(results: Sequence[RunResult]) -> str:
    """HetSyn refitted with banks of several sizes."""
    rows = []
    for index, row in enumerate(results[0].analysis["bank"]):
        same = [r.analysis["bank"][index] for r in results]
        rows.append(
            (
                "exact" if row["form"] == "exact" else f"bank, K = {row['size']}",
                spread(results[0].metric, [s["figure"] for s in same]),
                _percent(fmean(s["spike_mismatch"] for s in same)),
                f"{max(s['kernel_error'] for s in same):.1e}",
                f"{row['state_bytes']:,}",
            )
        )
    return table(("form", "HetSyn", "spikes that differ", "worst kernel error", "state bytes"), rows) + "\n"


def weights_table(results: Sequence[RunResult]) -> str:
    """HetSyn with weights of fewer bits, in both forms."""
    rows = []
    for index, row in enumerate(results[0].analysis["weights"]):
        same = [r.analysis["weights"][index] for r in results]
        rows.append(
            (
                *(row["form"], row["weights"], spread(results[0].metric, [s["figure"] for s in same])),
                _percent(fmean(s["spike_mismatch"] for s in same)),
                f"{row['weight_bytes']:,}",
            )
        )
    return table(("form", "weights", "HetSyn", "spikes that differ", "bytes of synapses"), rows) + "\n"


def _percent(share: float) -> str:
    """Two digits, without an exponent: the spikes that differ can be more than the spikes."""
    return f"{float(f'{100 * share:.2g}'):g}%"
