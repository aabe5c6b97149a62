"""Claims that must not come out as supported, or contradicted, by accident; on made-up results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from research.claims.measures import EXACT_WHOLE, READOUT_TAIL, updates_until
from research.claims.our_claims import OUR_CLAIMS
from research.claims.paper_claims import PAPER_CLAIMS
from research.claims.rules import Better, Claim, Group, Same, Side, groups_of
from research.claims.stream_claims import STREAM_CLAIMS
from research.claims.verdicts import Finding, findings
from research.runs.plan import BASE, NEURONS, PAPER
from research.runs.results import RunResult
from research.tests.made_up_results import ANALYSIS, runs_of

DM, PG, SHD, MOTION = "delayed-match", "pattern-generation", "shd-recorded", "motion"


def claim_of(claims: tuple[Claim, ...], part: str) -> Claim:
    (found,) = (claim for claim in claims if part in claim.text)
    return found


def judged(claim: Claim, runs: list[RunResult]) -> Finding:
    (finding,) = findings(runs, [claim])
    return finding


def test_a_small_error_may_grow_by_a_larger_factor_and_yet_degrade_less() -> None:
    grows = {"hetsyn": (0.005, 0.010), "hetneu": (0.02, 0.03), "alif": (0.10, 0.12), "homneu": (0.14, 0.16)}
    runs = [
        run
        for index, model in enumerate(NEURONS)
        for hz, error in zip((1, 4), grows[model], strict=True)
        for run in runs_of(
            Group(PG, f"{PAPER}-noise-{hz}", model), [error * (1 + 0.002 * seed * hz * index) for seed in range(5)]
        )
    ]
    degrades = judged(claim_of(PAPER_CLAIMS, "recurrent: the others degrade more"), runs)
    assert degrades.verdict == "supported"
    assert degrades.figures.startswith("HetSyn +0.0050 ± 0.0000, HetNeu +0.0104 ± ")
    assert degrades.intervals.startswith("HetNeu +0.0054 (")
    assert judged(claim_of(OUR_CLAIMS, "by a larger factor"), runs).verdict == "contradicted"


@pytest.mark.parametrize(("accuracies", "verdict"), [((0.5, 0.5), "inconclusive"), ((0.5, 0.97), "supported")])
def test_two_that_never_get_there_are_not_equally_fast(accuracies: tuple[float, float], verdict: str) -> None:
    early, late = accuracies
    curve = [[update, 0.5, early if update < 1000 else late] for update in range(25, 1001, 25)]
    claim = claim_of(PAPER_CLAIMS, "takes as many updates")
    runs = [run for group in groups_of(claim.rule) for run in runs_of(group, [late] * 20, curve=curve)]
    assert judged(claim, runs).verdict == verdict


def test_updates_are_as_precise_as_the_evaluations_that_a_result_keeps() -> None:
    result = runs_of(Group(DM, PAPER, "hetsyn"), [0.9])[0]
    assert updates_until(0.95).resolution(replace(result, curve=[[25, 0.5, 0.5], [50, 0.5, 0.6]])) == 25
    assert updates_until(0.95).resolution(replace(result, curve=[[25, 0.5, 0.5], [100, 0.5, 0.6]])) == 75


@pytest.mark.parametrize(("above", "verdict"), [(0, "contradicted"), (2, "supported"), (10, "contradicted")])
def test_a_long_tail_of_the_readout_is_neither_none_nor_a_heavy_one(above: int, verdict: str) -> None:
    def change(long: int) -> dict[str, Any]:
        counts = [100 - long] + [0] * 20 + [long]  # the first half octave, and the last
        return {"after": {"counts": counts, "median": 1.0}, "before": {"median": 2.0}}

    groups = {"hidden1 input": change(50), "readout input": change(above)}
    group = Group(SHD, PAPER, "hetsyn")
    runs = [
        replace(run, analysis={"time_constants": groups | {"readout input": change(above + (seed == 0))}})
        for seed, run in enumerate(runs_of(group, [0.9] * 10))
    ]
    assert READOUT_TAIL.of(runs[1]) == above / 100
    assert judged(claim_of(PAPER_CLAIMS, "a mild long tail"), runs).verdict == verdict


def test_the_exact_form_is_compared_on_the_streams_of_the_lstm() -> None:
    claim = claim_of(STREAM_CLAIMS, f"{MOTION}: the same, judged in the exact form")
    figures = {"hetsyn": 0.9, "hetneu": 0.8, "alif": 0.7, "homneu": 0.6, "lstm": 0.7}

    def runs(**changes: Any) -> list[RunResult]:
        return [
            run
            for group in groups_of(claim.rule)
            for run in runs_of(
                group,
                [figures[group.model] + 0.01 * (seed % 3) for seed in range(10)],
                analysis=ANALYSIS,
                **({} if group.model == "lstm" else changes),
            )
        ]

    earlier = judged(claim, runs())  # whose exact form has the first 150 windows, without the last exercise
    assert earlier.verdict == "not yet run"
    assert earlier.figures == (
        "base, HetSyn: seed 0 is older than the exact form on the whole test; "
        "delete it from the results to run it again"
    )
    later = judged(claim, runs(exact={"figure": 0.5, "loss": 1.0, "streams": 180}))
    assert later.verdict == "contradicted"
    assert "HetSyn 50.0 ± 0.0%" in later.figures


def test_figures_of_the_whole_test_are_compared_with_no_part_of_it() -> None:
    """But with the exact form on the whole test, or on the same part of it."""
    of_the_whole, of_a_part = {"figure", EXACT_WHOLE.name}, {"exact form", "exact"}
    for claim in OUR_CLAIMS:
        rule = claim.rule
        pairs: list[tuple[Side, Side]] = []
        if isinstance(rule, Better):
            pairs = list(rule.comparisons)
        elif isinstance(rule, Same):
            pairs = [rule.sides]
        for pair in pairs:
            names = {side.measure.name for side in pair}
            assert not (names & of_the_whole and names & of_a_part), claim.text


def test_every_figure_of_pattern_generation_is_of_the_architecture_that_ran() -> None:
    feedforward, recurrent = {"2B", "2D", "2E", "A1", "A2"}, {"2C", "2F", "section 4.1"}
    for claim in PAPER_CLAIMS:
        groups = groups_of(claim.rule)
        if not groups or groups[0].experiment != PG or claim.source in ("2A", "2B, C"):
            continue
        cited = set(claim.source.replace("2D, E", "2D, 2E").split(", "))
        (ran,) = {group.recurrent for group in groups}
        assert cited <= (recurrent if ran else feedforward) or "figure is of feedforward" in claim.differs, claim.text
    assert BASE not in {group.condition for claim in PAPER_CLAIMS for group in groups_of(claim.rule)}


@pytest.mark.parametrize(("kept", "verdict"), [((0.06, 0.05), "contradicted"), ((0.6, 0.55), "supported")])
def test_a_model_at_chance_is_not_stable(kept: tuple[float, float], verdict: str) -> None:
    models = {"hetsyn": kept, "hetneu": (0.5, 0.2), "alif": (0.5, 0.2), "homneu": (0.5, 0.2)}
    runs = [
        replace(run, analysis={"deletion": [[0.32, before + 0.01 * seed], [0.64, after + 0.005 * seed]]})
        for model, (before, after) in models.items()
        for seed, run in enumerate(runs_of(Group(SHD, PAPER, model), [0.9] * 5))  # type: ignore[arg-type]
    ]
    found = judged(claim_of(PAPER_CLAIMS, "SHD: HetSyn is stable"), runs)
    assert found.verdict == verdict
    assert found.intervals.startswith("HetSyn loss over HetNeu loss ")
