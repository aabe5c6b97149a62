"""How two groups relate, and what that says of a claim: properties of the rules, whatever the numbers."""

from __future__ import annotations

import math
import random
from statistics import fmean

from hypothesis import given
from hypothesis import strategies as st

from research.claims.relations import ClaimVerdict, all_better, relation, same_within

DIFFERENCES = st.lists(st.floats(-20, 20).map(lambda x: round(x, 2)), min_size=3, max_size=8)


@given(DIFFERENCES, st.sampled_from((0.05, 0.05 / 3)), st.floats(0, 5), st.floats(0, 2), st.booleans(), st.randoms())
def test_a_verdict_never_depends_on_the_order_of_seeds(
    values: list[float], alpha: float, margin: float, resolution: float, at_ceiling: bool, shuffler: random.Random
) -> None:
    shuffled = list(values)
    shuffler.shuffle(shuffled)
    settings = {"margin": margin, "resolution": resolution, "at_ceiling": at_ceiling}
    assert relation(values, alpha, **settings) == relation(shuffled, alpha, **settings)  # type: ignore[arg-type]
    assert same_within(values, margin, resolution) == same_within(shuffled, margin, resolution)


@given(DIFFERENCES, st.floats(0.01, 5), st.floats(0.01, 2))
def test_equivalence_and_difference_exclude_each_other(values: list[float], margin: float, resolution: float) -> None:
    beyond = [value - math.copysign(margin, fmean(values)) for value in values]
    verdict = same_within(values, margin, resolution)
    if verdict == "supported":  # no difference of more than the margin, in either direction
        for shifted in ([v - margin for v in values], [v + margin for v in values]):
            assert relation(shifted, 0.1, resolution=resolution) == ("worse" if shifted[0] < values[0] else "better")
    if verdict == "contradicted":
        assert relation(beyond, 0.1, resolution=resolution) == ("better" if fmean(values) > 0 else "worse")
    said = relation(values, 0.05, margin=margin, resolution=resolution)
    mirrored = relation([-value for value in values], 0.05, margin=margin, resolution=resolution)
    assert mirrored == {"better": "worse", "worse": "better"}.get(said, said)


@given(st.lists(st.sampled_from(("better", "worse", "same", "ceiling", "undecided")), min_size=1, max_size=4))
def test_better_in_every_comparison(relations: list[str]) -> None:
    verdict: ClaimVerdict = all_better(relations)  # type: ignore[arg-type]
    assert (verdict == "supported") == (set(relations) == {"better"})
    assert (verdict == "contradicted") == bool({"worse", "same"} & set(relations))
    assert verdict == all_better(sorted(relations))  # type: ignore[arg-type]


def test_a_ceiling_hides_no_difference_beyond_the_margin() -> None:
    assert same_within([0.80, 0.82, 0.81], 0.5, at_ceiling=True) == "contradicted"
    assert same_within([0.10, 0.12, 0.11], 0.5, at_ceiling=True) == "ceiling"
