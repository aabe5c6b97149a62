"""K trained by K judged, and what is kept of the exact form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.catalog.banks import condition_name
from research.claims.bank_claims import SIZES, bank_claims
from research.claims.measures import EXACT, FIGURE, analysis_streams
from research.claims.rules import Group
from research.claims.verdicts import findings
from research.page.bank_tables import JUDGED_SIZES, size_section
from research.page.pictures import Pictures
from research.runs.plan import BASE
from research.runs.results import RunResult
from research.tasks.delayed_match import DelayedMatch, DelayedMatchSpec
from research.tasks.task import in_batches
from research.tests.made_up_results import made_up, runs_of

ROWS = "vision-rows"


def judged_at(figures: dict[int | None, float]) -> dict[str, Any]:
    """The analysis of a network with these figures by the size of its bank."""
    return {
        "bank": [
            {"form": "exact", "figure": figure, "kernel_error": 0.0}
            if size is None
            else {"form": "bank", "size": size, "figure": figure, "kernel_error": 0.5**size}
            for size, figure in figures.items()
        ]
    }


def sized(size: int, figures: list[float], exact: float) -> list[RunResult]:
    group = Group(SIZES, condition_name(size, 2.0), "hetsyn")
    analysis = judged_at({judged: 0.01 * (judged or 20) + 0.7 for judged in JUDGED_SIZES})
    return runs_of(group, figures, analysis=analysis, exact={"figure": exact, "loss": 1.0, "streams": 10_000})


def test_the_table_has_a_row_for_each_size_in_training(tmp_path: Path) -> None:
    pictures = Pictures("experiments")
    text = size_section([*sized(4, [0.8, 0.81, 0.82], 0.7), *sized(0, [0.85] * 3, 0.85)], pictures)
    lines = text.splitlines()
    assert "decays learn at 2 times the learning rate" in lines[0]
    assert lines[4].startswith("| K = 4 | 3 | 72.0 ± 0.0% (2.5e-01) | 74.0 ± 0.0% (6.2e-02) | 76.0 ± 0.0% (1.6e-02) |")
    assert lines[5].startswith("| exact | 3 | ")
    assert lines[5].endswith("| 90.0 ± 0.0% |")
    assert "0.4 times" not in text  # nothing has run
    for name in ("a.png", "b.png"):
        pictures.drawings["bank-size-judged.png"](tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_bank_that_hides_what_the_exact_form_is_shows_in_the_verdicts() -> None:
    bank_of_8 = sized(8, [0.85, 0.851, 0.852, 0.849, 0.85], 0.849)
    hiding, honest = sized(4, [0.86, 0.862, 0.861], 0.82), sized(4, [0.86, 0.862, 0.861], 0.861)
    for bank_of_4, verdict in ((hiding, "supported"), (honest, "contradicted")):
        found = findings([*bank_of_8, *bank_of_4], bank_claims((), (), ()))
        verdicts = {finding.claim.text: finding.verdict for finding in found}
        ending = f"in the exact form, with the decays' learning rate x 2: {SIZES}"
        assert verdicts[f"A network trained through a bank of 8 is as good {ending}"] == "supported"
        worse = f"A network trained through a bank of 4 is worse {ending}"
        assert verdicts[worse] == verdict
        assert verdicts[worse.replace("x 2", "x 0.4")] == "not yet run"


def test_the_exact_figure_is_that_of_all_test_streams_where_it_was_measured() -> None:
    old = replace(runs_of(Group(ROWS, BASE, "hetsyn"), [0.9])[0], analysis=judged_at({None: 0.7, 8: 0.8}))
    new = replace(old, exact={"figure": 0.75, "loss": 1.0, "streams": 10_000})
    assert (EXACT.of(old), EXACT.of(new)) == (0.7, 0.75)
    assert (EXACT.streams(old), EXACT.streams(new)) == (analysis_streams(old), 10_000)
    assert FIGURE.streams(new) == 10_000
    assert FIGURE.streams(made_up("hetsyn", 0.9)[0]) == 1000


@pytest.mark.parametrize("size", [1, 3, 50])
def test_streams_are_the_same_in_smaller_batches(size: int) -> None:
    whole = DelayedMatch(DelayedMatchSpec(delay_ms=100, test_trials=10)).test()
    parts = list(in_batches(whole, size))
    assert max(len(part.steps) for part in parts) == min(size, 10)
    assert np.array_equal(np.concatenate([part.dense() for part in parts]), whole[0].dense())
    assert np.concatenate([part.target for part in parts]).tolist() == whole[0].target.tolist()
    assert sum(len(part.steps) for part in parts) == 10
