"""Verdicts from made-up results: each rule at each of its verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from research.claims.measures import (
    CUE_OVER_NOISE,
    LONG_SHARE,
    OUTPUT_IN_GAPS,
    Unit,
    form_figure,
    scored,
    updates_until,
)
from research.claims.relations import same_within
from research.claims.rules import (
    Better,
    Beyond,
    Claim,
    Group,
    MoreSuccesses,
    Rule,
    Same,
    Side,
    TrainedValues,
    Within,
    best,
    describe,
    groups_of,
    hetsyn,
    most_successes,
)
from research.claims.verdicts import Finding, findings
from research.runs.plan import BASE, PAPER
from research.runs.results import RunResult
from research.tests.made_up_results import ANALYSIS, made_up, runs_of

DM, PG = "delayed-match", "pattern-generation"


def judged(rule: Rule, *runs: list[RunResult]) -> Finding:
    (finding,) = findings([result for group in runs for result in group], [Claim("a claim", "2D", rule)])
    return finding


def four(hetsyn: Sequence[float], hetneu: Sequence[float], alif: Sequence[float], lif: Sequence[float]) -> Finding:
    names = ("hetsyn", "hetneu", "alif", "homneu")
    figures = zip(names, (hetsyn, hetneu, alif, lif), strict=True)
    return judged(best(DM, BASE), *(runs_of(Group(DM, BASE, name), values) for name, values in figures))  # type: ignore[arg-type]


def test_each_comparison_has_the_seeds_that_both_sides_have() -> None:
    found = four([0.8, 0.81, 0.82, 0.8, 0.99], [0.7, 0.71, 0.72], [0.7, 0.71, 0.72], [0.9, 0.91, 0.92, 0.9, 0.6])
    assert found.seeds == "3 of 5, 3 of 5, 5"
    assert "HetSyn 84.4 ± 8.2%" in found.figures  # all five, which the comparison with LIF has
    assert "HetNeu +10.0 (" in found.intervals
    assert "LIF -0.2 (" in found.intervals


def test_two_seeds_are_not_enough() -> None:
    found = judged(Beyond(hetsyn(DM, PAPER), 0.9), made_up("hetsyn", 0.997, seeds=2, condition=PAPER))
    assert found.verdict == "not yet run"
    assert "2 of 3 seeds" in found.figures


def test_seeds_are_paired_whatever_their_settings() -> None:
    """Seeds of one group may have other settings than those of another group, and still are the same seeds."""
    ours, other = runs_of(Group(DM, BASE, "hetsyn"), (0.6, 0.7, 0.8)), made_up("homneu", 0.9)
    ours[0] = replace(ours[0], run=ours[0].run | {"learning_rate": 1e-2})
    other = [replace(result, figure=figure) for result, figure in zip(other, (0.5, 0.61, 0.7), strict=True)]
    found = judged(Better(((hetsyn(DM, BASE), Side(Group(DM, BASE, "homneu"))),)), ours, other)
    assert found.verdict == "supported"
    assert "+9.7" in found.intervals


def test_a_seed_with_two_runs_is_not_judged() -> None:
    runs = runs_of(Group(DM, PAPER, "hetsyn"), (0.96, 0.97, 0.98))
    earlier = replace(runs[1], run=runs[1].run | {"learning_rate": 1e-2})
    found = judged(Beyond(hetsyn(DM, PAPER), 0.9), [*runs, earlier])
    assert found.verdict == "not yet run"
    assert "two runs of seed 1" in found.figures


@pytest.mark.parametrize(("unit", "worst"), [("factor", True), ("error", False)])
def test_nothing_at_all_has_a_logarithm(unit: Unit, worst: bool) -> None:
    """A silent network's distance is 0, and so is the share of time constants above 20 steps if none is."""
    assert math.isfinite(scored(0.0, unit))
    assert (scored(0.0, unit) < scored(1e-5, unit)) is worst


def test_seeds_needed_may_show_sameness() -> None:
    """Two groups that hardly differ are the same, and the claim contradicted, long before a difference is found."""
    lower = (0.700, 0.710, 0.705, 0.700, 0.710)
    other = [lower[i] - delta for i, delta in enumerate((0.014, -0.014, 0.009, -0.009, 0.0005))]
    found = judged(
        Better(((hetsyn(DM, BASE), Side(Group(DM, BASE, "homneu"))),)),
        runs_of(Group(DM, BASE, "hetsyn"), lower),
        runs_of(Group(DM, BASE, "homneu"), other),
    )
    assert found.verdict == "inconclusive"
    assert 5 < int(found.needed) < 20


def test_better_than_each_is_supported_by_three_intervals_above_zero() -> None:
    found = four((0.95, 0.94, 0.96), (0.80, 0.80, 0.80), (0.70, 0.70, 0.71), (0.60, 0.60, 0.60))
    assert found.verdict == "supported"
    assert found.seeds == "3 of 5"
    assert found.needed == ""
    # 15 points with a deviation of 1 point: +- 4.302653 / sqrt(3) at 95%, the step of the largest p
    assert "HetNeu +15.0 (+12.5 to +17.5)" in found.intervals


def test_one_worse_comparison_contradicts() -> None:
    found = four((0.80, 0.80, 0.81), (0.95, 0.94, 0.96), (0.70, 0.70, 0.71), (0.60, 0.60, 0.60))
    assert found.verdict == "contradicted"


def test_one_that_is_the_same_contradicts() -> None:
    found = four((0.800, 0.801, 0.802), (0.800, 0.802, 0.801), (0.70, 0.70, 0.71), (0.60, 0.60, 0.60))
    assert found.verdict == "contradicted"
    assert "HetNeu +0.0 (-0.2 to +0.2), same" in found.intervals


def test_what_scatters_is_inconclusive_and_says_how_many_seeds_it_needs() -> None:
    found = four((0.90, 0.94, 0.86), (0.85, 0.80, 0.90), (0.70, 0.70, 0.71), (0.60, 0.60, 0.60))
    assert found.verdict == "inconclusive"
    # effect 5 of deviation 9 points, at 5% / 3
    assert 30 <= int(found.needed) <= 45
    # two models, of which three runs each are there
    assert found.hours == pytest.approx((int(found.needed) - 3) * 2 * 60 / 3600)


def test_one_comparison_that_falls_is_enough_and_says_how_many_seeds_it_needs() -> None:
    """A model that seems better needs many seeds, one that seems worse a few: the few decide the claim."""
    found = four((0.80, 0.84, 0.76), (0.79, 0.84, 0.755), (0.86, 0.88, 0.84), (0.60, 0.60, 0.60))
    assert found.verdict == "inconclusive"
    alone = judged(
        Better(((hetsyn(DM, BASE), Side(Group(DM, BASE, "alif"))),)),
        runs_of(Group(DM, BASE, "hetsyn"), (0.80, 0.84, 0.76)),
        runs_of(Group(DM, BASE, "alif"), (0.86, 0.88, 0.84)),
    )
    assert int(alone.needed or 0) <= int(found.needed) <= 10  # at a third of the error


def test_motion_has_no_more_people() -> None:
    groups = [Group("motion", BASE, model) for model in ("hetsyn", "hetneu", "alif", "homneu")]
    figures = (0.8, 0.6, 0.9), (0.7, 0.62, 0.75), (0.7, 0.5, 0.8), (0.7, 0.5, 0.8)
    found = judged(best("motion", BASE), *(runs_of(g, values) for g, values in zip(groups, figures, strict=True)))
    assert found.verdict == "inconclusive"
    assert found.needed.endswith(", and there are 10")
    assert found.hours == 0


def test_two_at_the_top_are_a_ceiling() -> None:
    found = four((1.0, 1.0, 1.0), (1.0, 0.995, 1.0), (0.70, 0.70, 0.71), (0.60, 0.60, 0.60))
    assert found.verdict == "ceiling"
    assert "HetNeu +0.2 (" in found.intervals
    assert found.needed == ""


def test_errors_are_compared_as_factors() -> None:
    ours, theirs = Group(PG, BASE, "hetsyn"), Group(PG, BASE, "alif")
    # twice, four and eight times the error: log2 is 1, 2, 3, mean 2, deviation 1
    runs = runs_of(ours, (0.01, 0.02, 0.01)), runs_of(theirs, (0.02, 0.08, 0.08))
    found = judged(Better(((Side(ours), Side(theirs)),)), *runs)
    low, high = (2 ** (2 + sign * 4.302653 / math.sqrt(3)) for sign in (-1, 1))
    assert found.intervals == f"ALIF x 4 ({low:.3g} to {high:.3g})"
    assert found.verdict == "inconclusive"
    assert "HetSyn 0.0133 ± 0.0058" in found.figures


def test_a_model_is_better_seed_by_seed_however_seeds_differ() -> None:
    found = four((0.9, 0.5, 0.99), (0.8, 0.4, 0.88), (0.7, 0.3, 0.78), (0.6, 0.2, 0.69))
    assert found.verdict == "supported"


def test_models_are_compared_on_the_seeds_that_all_have() -> None:
    groups = [Group(DM, f"{PAPER}-hidden-5", model) for model in ("hetsyn", "hetneu", "alif", "homneu")]
    figures = (0.9, 0.9, 0.91), (0.5,) * 5, (0.4, 0.4, 0.4, 1.0, 1.0), (0.4,) * 5
    runs = [runs_of(group, values) for group, values in zip(groups, figures, strict=True)]
    found = judged(best(DM, f"{PAPER}-hidden-5"), *runs)
    assert found.verdict == "supported"
    assert "ALIF 40.0 ± 0.0%" in found.figures


def successes(ours: int, theirs: int, runs: int) -> Finding:
    rule = MoreSuccesses(((Group(DM, f"{PAPER}-hidden-5", "hetsyn"), Group(DM, f"{PAPER}-hidden-5", "alif")),))
    results = [
        runs_of(group, [0.9] * won + [0.89] * (runs - won))
        for group, won in zip(groups_of(rule), (ours, theirs), strict=True)
    ]
    return judged(rule, *results)


def test_success_rates_are_judged_by_fisher() -> None:
    assert successes(5, 0, 5).verdict == "supported"
    assert successes(0, 5, 5).verdict == "contradicted"
    assert successes(35, 35, 35).verdict == "ceiling"
    few = successes(3, 3, 3)  # 44 to 100%
    assert (few.verdict, few.needed) == ("inconclusive", "35")
    found = successes(3, 0, 3)  # p = 0.1
    assert found.verdict == "inconclusive"
    assert found.needed == "4"
    assert found.figures == "HetSyn 3 of 3 (44 to 100%), ALIF 0 of 3 (0 to 56%)"
    assert successes(0, 0, 3).needed == "above 200"


def test_three_success_rates_share_their_error() -> None:
    # each has p = 2 / 70 = 0.029: enough alone, and not among three
    groups = [Group(DM, f"{PAPER}-hidden-5", model) for model in ("hetsyn", "hetneu", "alif", "homneu")]
    runs = [runs_of(group, [0.95 if group.model == "hetsyn" else 0.5] * 4) for group in groups]
    together = judged(most_successes(f"{PAPER}-hidden-5", True), *runs)
    assert together.verdict == "inconclusive"
    assert together.needed == "5"  # p = 2 / 252
    assert judged(MoreSuccesses(((groups[0], groups[1]),)), *runs).verdict == "supported"


def test_a_goal_is_above_or_below_the_interval() -> None:
    group = Group(DM, PAPER, "hetsyn")
    rule = Beyond(Side(group), 0.9)
    assert judged(rule, runs_of(group, (0.95, 0.96, 0.97))).verdict == "supported"
    assert judged(rule, runs_of(group, (0.85, 0.84, 0.83))).verdict == "contradicted"
    assert judged(rule, runs_of(group, (0.85, 0.92, 0.99))).verdict == "inconclusive"
    # three times 100% of 1,000 trials: 100 +- 4.3 * 0.1 / sqrt(3)
    found = judged(Beyond(Side(group), 0.99), runs_of(group, (1.0, 1.0, 1.0)))
    assert found.verdict == "supported"
    assert found.intervals == "100.0% (99.8% to 100.0%)"


def test_cue_and_noise_channels_are_compared_as_a_ratio() -> None:
    group = Group(DM, PAPER, "hetsyn")
    runs = runs_of(group, (1.0, 1.0, 1.0), analysis=ANALYSIS)
    assert judged(Beyond(Side(group, CUE_OVER_NOISE), 1.0), runs).intervals == "no spread between seeds"
    changed = [
        {
            "cue": {"before": {"log_mean": 8.0}, "after": {"log_mean": after}},
            "noise": ANALYSIS["time_constants"]["noise"],
        }
        for after in (28.0, 30.0, 32.0)
    ]
    runs = [replace(run, analysis={"time_constants": change}) for run, change in zip(runs, changed, strict=True)]
    found = judged(Beyond(Side(group, CUE_OVER_NOISE), 1.0), runs)
    assert found.verdict == "supported"
    assert found.figures == "HetSyn 7.50 ± 0.50"


def test_the_same_within_a_margin() -> None:
    def same(bank: Sequence[float], exact: Sequence[float]) -> Finding:
        a, b = Group(DM, BASE, "hetsyn"), Group(DM, BASE, "alif")
        return judged(Same((Side(a), Side(b)), 1), runs_of(a, bank), runs_of(b, exact))

    assert same((0.900, 0.901, 0.902), (0.900, 0.902, 0.901)).verdict == "supported"
    assert same((0.90, 0.90, 0.91), (0.95, 0.95, 0.96)).verdict == "contradicted"
    assert same((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)).verdict == "ceiling"
    found = same((0.90, 0.92, 0.91), (0.92, 0.90, 0.91))
    assert found.verdict == "inconclusive"
    assert int(found.needed) > 3


def test_sameness_is_judged_by_an_interval_of_90_percent() -> None:
    # t of two degrees of freedom is 2.92 at 90% and 4.30 at 95%: +- 0.84 and +- 1.24 for a deviation of 0.5
    assert same_within([-0.5, 0.0, 0.5], 1.0) == "supported"
    assert same_within([-0.65, 0.0, 0.65], 1.0) == "inconclusive"
    near, far = (0.805, 0.800, 0.795), (0.60, 0.60, 0.60)
    alone = Better(((Side(Group(DM, BASE, "hetsyn")), Side(Group(DM, BASE, "hetneu"))),))
    runs = runs_of(Group(DM, BASE, "hetsyn"), near), runs_of(Group(DM, BASE, "hetneu"), (0.8, 0.8, 0.8))
    assert judged(alone, *runs).verdict == "contradicted"
    assert four(near, (0.8, 0.8, 0.8), far, far).verdict == "inconclusive"  # a third of the error each


def test_a_run_that_never_gets_there_counts_as_a_little_longer() -> None:
    group = Group(DM, PAPER, "hetsyn")
    (fast, slow, *_) = runs_of(group, (1.0, 0.5, 0.5))
    measure = updates_until(0.95)
    fast = replace(fast, curve=[[25, 0.7, 0.5], [50, 0.1, 0.95], [75, 0.1, 0.4]])
    assert measure.of(fast) == 50
    assert measure.of(replace(slow, curve=[[25, 0.7, 0.5]])) == 1025
    assert measure.score(fast) > measure.score(slow)
    assert measure.resolution(fast) == 25


def test_trained_values_follow_table_3() -> None:
    right = {"hetsyn": 2 * (13000 + 200), "hetneu": 13200 + 102, "homneu": 13200}
    groups = tuple(Group(DM, PAPER, model) for model in ("hetsyn", "hetneu", "homneu"))
    runs = [runs_of(group, (0.5,) * 3, parameters=right[group.model]) for group in groups]
    assert judged(TrainedValues(groups), *runs).verdict == "supported"
    wrong = [replace(run, parameters=run.parameters + 1) for run in runs[0]]
    assert judged(TrainedValues(groups), wrong, *runs[1:]).verdict == "contradicted"


def test_what_has_not_run_says_what_is_planned() -> None:
    found = judged(best(DM, PAPER), runs_of(Group(DM, PAPER, "hetsyn"), (0.5,) * 3, seconds=30.0))
    assert found.verdict == "not yet run"
    assert found.needed == "50"
    assert found.hours == pytest.approx(47 * 30 / 3600)  # of the others no cost is known


def test_a_mean_within_a_range() -> None:
    group = Group(DM, PAPER, "hetsyn")
    rule = Within(Side(group), 0.7, 0.9)
    assert judged(rule, runs_of(group, (0.79, 0.80, 0.81))).verdict == "supported"
    assert judged(rule, runs_of(group, (0.95, 0.96, 0.97))).verdict == "contradicted"
    assert judged(rule, runs_of(group, (0.55, 0.56, 0.57))).verdict == "contradicted"
    found = judged(rule, runs_of(group, (0.70, 0.80, 0.96)))
    assert found.verdict == "inconclusive"
    assert int(found.needed) > 3
    assert describe(rule) == "mean within 70 to 90%"
    # a deviation of 1 point: +- 2.92 / sqrt(3) at 90%
    assert judged(rule, runs_of(group, (0.79, 0.80, 0.81))).intervals == "80.0% (78.3% to 81.7%)"


def test_a_share_is_no_accuracy() -> None:
    group = Group(DM, PAPER, "hetsyn")
    runs = runs_of(group, (1.0,) * 3)
    shares = [
        replace(run, analysis={"long": {"share": share, "reset": 0.7}})
        for run, share in zip(runs, (0.050, 0.055, 0.060), strict=True)
    ]
    rule = Within(Side(group, LONG_SHARE), 0.04, 0.07)
    found = judged(rule, shares)
    assert found.verdict == "supported"
    assert found.figures == "HetSyn 5.5 ± 0.5%"
    assert describe(rule) == "mean within 4 to 7%; share of time constants above 700 ms"


def test_a_change_is_compared_seed_by_seed() -> None:
    early, late = f"{PAPER}-noise-1", f"{PAPER}-noise-4"
    sides = [Side(Group(PG, late, model), since=Group(PG, early, model)) for model in ("hetsyn", "homneu")]
    runs = [
        runs_of(Group(PG, condition, model), figures)  # type: ignore[arg-type]
        for condition, model, figures in (
            (early, "hetsyn", (0.010, 0.020, 0.030)),
            (late, "hetsyn", (0.011, 0.023, 0.033)),
            (early, "homneu", (0.100, 0.200, 0.300)),
            (late, "homneu", (0.201, 0.390, 0.600)),
        )
    ]
    rule = Better(((sides[0], sides[1]),))
    found = judged(rule, *runs)
    assert found.verdict == "supported"
    assert found.figures == "HetSyn x 1.12 ± 0.03, LIF x 1.99 ± 0.03"
    assert set(groups_of(rule)) == {Group(PG, c, m) for c in (early, late) for m in ("hetsyn", "homneu")}
    assert describe(rule) == "better; change"
    backwards = Better(((sides[1], sides[0]),))
    assert judged(backwards, *runs).verdict == "contradicted"


def test_the_output_in_the_gaps_is_judged_as_an_error() -> None:
    group = Group(PG, PAPER, "homneu")
    runs = [
        replace(run, analysis={"gaps": {"output": output, "target": 0.4}})
        for run, output in zip(runs_of(group, (0.2,) * 3), (0.04, 0.05, 0.06), strict=True)
    ]
    assert judged(Beyond(Side(group, OUTPUT_IN_GAPS), 0.5), runs).verdict == "supported"
    assert judged(Beyond(Side(group, OUTPUT_IN_GAPS), 0.05), runs).verdict == "contradicted"


def test_errors_of_two_forms_are_the_same_within_a_factor() -> None:
    group = Group(PG, PAPER, "hetsyn")
    sides = (Side(group, form_figure("exact", "error"), "exact"), Side(group, form_figure("bank", "error"), "bank"))
    rule = Same(sides, math.log(1.1))
    for exact, verdict in (((0.0102, 0.0199, 0.0301), "supported"), ((0.014, 0.029, 0.042), "contradicted")):
        runs = [
            replace(run, analysis={"forms": {"bank": bank, "exact": value}})
            for run, bank, value in zip(runs_of(group, (0.01,) * 3), (0.01, 0.02, 0.03), exact, strict=True)
        ]
        assert judged(rule, runs).verdict == verdict
    assert describe(rule) == "same within a factor of 1.1"
