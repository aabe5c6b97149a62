"""Verdicts on made-up results, against published numbers and scipy's own tests."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from research.worth.judge import Comparison, Judged, Sentence, Side, compare, interval, judge
from research.worth.measures import Groups

DIFFERENCES = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=3, max_size=12)
# Student's own data of 1908: hours of sleep gained with one drug over the other, by patient
SLEEP = (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4)
TASK, CONDITION, CHANGED = "task", "condition", "changed"


def runs(
    model: str, figures: Sequence[float], condition: str = CONDITION, metric: str = "accuracy", **more: Any
) -> Groups:
    """One run a figure, with seeds from 0."""
    training = {"updates": 1000, "evaluate_every": 25}
    like = {"metric": metric, "exact": {}, "task_spec": {"test_trials": 1000}, "training": training, "curve": []}
    made = {seed: like | {"figure": figure} | more for seed, figure in enumerate(figures)}
    return {(TASK, condition, model, True): made}


def better(*models: str, **side: Any) -> Sentence:
    own = Side(TASK, CONDITION, "hetsyn", **side)
    return Sentence("s", "HetSyn is best", tuple(Comparison(m, own, own._replace(model=m)) for m in models))


def judged(sentence: Sentence, groups: Groups) -> Judged:
    (found,) = judge([sentence], groups)
    return found


def test_students_sleep_data_have_students_interval_and_p() -> None:
    assert interval(SLEEP) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    groups = runs("hetsyn", [hours / 100 for hours in SLEEP]) | runs("alif", [0.0] * 10)
    found = judged(better("alif"), groups)
    assert found.p == pytest.approx(0.002832890)
    assert found.verdict == "supported"


@given(DIFFERENCES, st.randoms())
def test_the_order_of_the_seeds_changes_no_bit(values: list[float], shuffler: random.Random) -> None:
    shuffled = list(values)
    shuffler.shuffle(shuffled)
    assert interval(values, 0.1) == interval(shuffled, 0.1)


def test_runs_that_do_not_differ_are_as_precise_as_their_test() -> None:
    assert interval((0.25,) * 3) == (-math.inf, math.inf)
    found = judged(better("alif"), runs("hetsyn", [0.9] * 3) | runs("alif", [0.899] * 3)).found[0]
    half = 4.302653 * 0.1 / math.sqrt(3)  # t of two degrees of freedom; one stream of 1,000 is 0.1 points
    assert (found.low, found.high) == pytest.approx((0.1 - half, 0.1 + half), rel=1e-6)


def test_two_seeds_are_not_enough_and_give_no_row() -> None:
    groups = runs("hetsyn", [0.9] * 3) | runs("alif", [0.8] * 2)
    assert compare(better("alif").comparisons[0], groups) is None
    assert judge([better("alif")], groups) == []


def test_only_seeds_that_both_have_are_compared() -> None:
    groups = runs("hetsyn", [0.9, 0.91, 0.92, 0.1]) | runs("alif", [0.8, 0.81, 0.82])
    found = judged(better("alif"), groups).found[0]
    assert found.seeds == 3
    assert found.difference == pytest.approx(10.0)


def test_a_sentence_has_the_largest_p_of_its_comparisons() -> None:
    groups = runs("hetsyn", [0.90, 0.91, 0.93]) | runs("alif", [0.5, 0.5, 0.52]) | runs("homneu", [0.88, 0.9, 0.89])
    found = judged(better("alif", "homneu"), groups)
    assert found.p == max(one.p for one in found.found)
    assert found.weakest.comparison.label == "homneu"
    assert found.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        ([0.93, 0.94, 0.951, 0.96], "contradicted"),
        ([0.9, 0.91, 0.921, 0.93], "contradicted"),
        ([0.8, 0.99, 0.9, 0.97], "inconclusive"),
    ],
    ids=["worse", "the same within a point", "scattered"],
)
def test_one_comparison_without_advantage_contradicts(others: list[float], verdict: str) -> None:
    groups = runs("hetsyn", [0.9, 0.91, 0.92, 0.93]) | runs("alif", [0.5] * 4) | runs("homneu", others)
    found = judged(better("alif", "homneu"), groups)
    assert found.verdict == verdict
    assert found.p == min(1.0, 2 * found.weakest.p), "of two comparisons"


def test_holm_counts_the_sentences_of_the_page() -> None:
    groups = runs("hetsyn", [0.9, 0.91, 0.92]) | runs("alif", [0.88, 0.883, 0.895])
    alone = judge([better("alif")], groups)[0]
    among = judge([better("alif")] * 10, groups)[0]
    assert alone.verdict == "supported"
    assert among.p == pytest.approx(10 * alone.p)
    assert among.verdict == "inconclusive"


def test_errors_are_compared_as_factors_seed_by_seed() -> None:
    errors = [0.1, 0.01, 0.003, 0.0005]
    groups = runs("hetsyn", errors, metric="mse") | runs("alif", [2.0 * e for e in errors], metric="mse")
    groups[(TASK, CONDITION, "alif", True)][0]["figure"] = 0.21
    found = judged(better("alif"), groups)
    assert found.verdict == "supported"
    assert math.exp(found.found[0].difference) == pytest.approx(2.0, rel=0.02)


def test_two_at_the_top_are_a_ceiling() -> None:
    groups = runs("hetsyn", [1.0, 0.999, 1.0]) | runs("alif", [0.999, 1.0, 1.0]) | runs("homneu", [0.5] * 3)
    assert judged(better("alif", "homneu"), groups).verdict == "ceiling"


@pytest.mark.parametrize(
    ("won", "lost", "count", "verdict"),
    [(35, 0, 35, "supported"), (35, 35, 35, "ceiling"), (34, 34, 34, "inconclusive"), (0, 20, 35, "contradicted")],
)
def test_success_rates_have_fishers_test(won: int, lost: int, count: int, verdict: str) -> None:
    groups = runs("hetsyn", [0.9] * won + [0.8] * (count - won)) | runs("alif", [0.9] * lost + [0.8] * (count - lost))
    own = Side(TASK, CONDITION, "hetsyn")
    sentence = Sentence("s", "s", (Comparison("", own, own._replace(model="alif"), by_successes=True),))
    found = judged(sentence, groups)
    assert found.verdict == verdict
    if verdict in ("supported", "contradicted"):
        table = [[won, count - won], [lost, count - lost]]
        way = "greater" if won > lost else "less"
        assert found.found[0].p == pytest.approx(2 * stats.fisher_exact(table, way).pvalue)


@given(DIFFERENCES, st.floats(0.01, 50))
def test_sameness_is_two_one_sided_tests(values: list[float], margin: float) -> None:
    if max(values) - min(values) < 1 or abs(sum(values)) >= margin * len(values):
        return
    groups = runs("hetsyn", [value / 100 for value in values]) | runs("alif", [0.0] * len(values))
    own = Side(TASK, CONDITION, "hetsyn")
    found = compare(Comparison("", own, own._replace(model="alif"), -margin, margin), groups)
    expected = max(
        float(stats.ttest_1samp(values, -margin, alternative="greater").pvalue),
        float(stats.ttest_1samp(values, margin, alternative="less").pvalue),
    )
    assert found is not None
    assert found.holds is True
    assert found.p == pytest.approx(expected, rel=1e-6)


def test_two_that_never_get_there_are_not_equally_fast() -> None:
    never, soon = [[25, 0.5, 0.5], [50, 0.5, 0.6]], [[25, 0.5, 0.96], [50, 0.5, 0.97]]
    own = Side(TASK, CONDITION, "hetsyn", measure="updates to 95%")
    same = Sentence("s", "s", (Comparison("", own, own._replace(model="alif"), -50, 50),))
    for curve, verdict in ((never, "inconclusive"), (soon, "supported")):
        assert (
            judged(same, runs("hetsyn", [0.9] * 5, curve=curve) | runs("alif", [0.9] * 5, curve=curve)).verdict
            == verdict
        )


@pytest.mark.parametrize(
    ("figures", "may_exceed", "verdict"),
    [
        ([0.8, 0.81, 0.79], True, "supported"),
        ([0.999, 0.998, 1.0], True, "better than the paper"),
        ([0.999, 0.998, 1.0], False, "contradicted"),
        ([0.5, 0.52, 0.51], True, "contradicted"),
        ([0.7, 0.9, 0.6], True, "inconclusive"),
    ],
)
def test_a_mean_within_a_range(figures: list[float], may_exceed: bool, verdict: str) -> None:
    within = Comparison("", Side(TASK, CONDITION, "hetsyn"), low=0.7, high=0.9)
    sentence = Sentence("s", "near 80%", (within,), may_exceed=may_exceed)
    assert judged(sentence, runs("hetsyn", figures)).verdict == verdict


@pytest.mark.parametrize(("output", "verdict"), [(0.1, "floor"), (0.9, "contradicted")])
def test_who_is_silent_has_nothing_left_to_lose(output: float, verdict: str) -> None:
    analysis = {"analysis": {"gaps": {"output": output, "target": 1.0}}}
    groups: Groups = {}
    for model, before, after in (("hetsyn", 0.01, 0.03), ("homneu", 0.15, 0.15)):
        for condition, figure in ((CHANGED, before), (CONDITION, after)):
            figures = [figure * (1 + 0.01 * seed) for seed in range(5)]
            groups |= runs(model, figures, condition, "mse", **analysis)
    own = Side(TASK, CONDITION, "hetsyn", measure="error itself", since=CHANGED)
    sentence = Sentence("s", "s", (Comparison("", own, own._replace(model="homneu")),), has_floor=True)
    found = judged(sentence, groups)
    assert found.verdict == verdict
    assert found.found[0].difference == pytest.approx(-0.0204), "not as a factor"


@pytest.mark.parametrize(("after", "verdict"), [((30.0, 40.0), "supported"), ((30.0, 4.0), "undefined in the paper")])
def test_what_turns_with_the_definition_is_undefined(after: tuple[float, float], verdict: str) -> None:
    def analysis(seed: int) -> dict[str, Any]:
        means = {"log_mean": after[0] + seed, "median": after[1] + seed / 10}
        change = {"before": {"log_mean": 20.0, "median": 20.0}, "after": means}
        return {"time_constants": {"cue": change}}

    groups = runs("hetsyn", [1.0] * 6)
    for seed, run in groups[(TASK, CONDITION, "hetsyn", True)].items():
        run["analysis"] = analysis(seed)
    comparisons = tuple(
        Comparison("cue", Side(TASK, CONDITION, "hetsyn", measure=f"cue, {mean}"), low=1.0)
        for mean in ("geometric", "median")
    )
    assert judged(Sentence("s", "s", comparisons), groups).verdict == verdict


def test_what_so_many_seeds_find() -> None:
    found = judged(better("alif"), runs("hetsyn", [0.9, 0.92, 0.94]) | runs("alif", [0.9] * 3)).found[0]
    spread = 2.0
    critical = stats.t.ppf(0.975, 2)
    power = stats.nct.sf(critical, 2, found.detectable / spread * math.sqrt(3))
    assert power == pytest.approx(0.8, abs=1e-3)
