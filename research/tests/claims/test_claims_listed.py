"""The list of claims: every one is in the plan, has a rule in words and a source, and is there once."""

from __future__ import annotations

from research.claims.measures import plan_of
from research.claims.our_claims import OUR_CLAIMS
from research.claims.paper_claims import PAPER_CLAIMS
from research.claims.rules import Group, WithoutData, describe, groups_of
from research.claims.verdicts import findings
from research.runs.plan import BASE, PAPER, Cell
from research.runs.results import RunResult
from research.tests.made_up_results import ANALYSIS, runs_of

CLAIMS = (*PAPER_CLAIMS, *OUR_CLAIMS)


def test_nothing_has_run_yet() -> None:
    verdicts = {finding.claim.text: finding.verdict for finding in findings([], CLAIMS)}
    assert set(verdicts.values()) == {"not yet run", "not testable here"}
    assert verdicts["TiDigits: 98.99%"] == "not testable here"


def test_every_claim_is_in_the_plan_and_has_a_rule_in_words() -> None:
    for claim in CLAIMS:
        rule = claim.rule
        groups = groups_of(rule)
        for group in groups:
            condition = plan_of(group.experiment).condition(group.condition)
            assert condition.has(Cell(group.model, group.recurrent)), claim.text
        assert groups or isinstance(rule, WithoutData), claim.text
        assert describe(rule) or isinstance(rule, WithoutData), claim.text
        assert (claim in PAPER_CLAIMS) == bool(claim.source), claim.text


def test_no_claim_is_there_twice() -> None:
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)


def test_the_synthesised_digits_are_never_taken_for_shd() -> None:
    models = ("hetsyn", "hetneu", "alif", "homneu")
    figures = (0.90, 0.90, 0.91), (0.80, 0.80, 0.80), (0.70, 0.70, 0.70), (0.60, 0.60, 0.60)
    changes = {
        group: {"before": {"median": 8.0}, "after": {"median": 4.0, "counts": [1] * 22}}
        for group in ("hidden1 input", "readout input")
    }
    made, recorded = (
        [
            run
            for model, values in zip(models, figures, strict=True)
            for run in runs_of(Group(name, condition, model), values, analysis=ANALYSIS | {"time_constants": changes})  # type: ignore[arg-type]
        ]
        for name, condition in (("shd", BASE), ("shd-recorded", PAPER))
    )

    def verdicts(results: list[RunResult], start: str) -> dict[str, str]:
        return {f.claim.text: f.verdict for f in findings(results, CLAIMS) if f.claim.text.startswith(start)}

    assert set(verdicts(made, "SHD").values()) == {"not testable here"}
    best_of = (
        "HetSyn is the best of the four: shd (synthesised voices, not SHD; trained at K = 4), recurrent, equal search"
    )
    assert verdicts(made, best_of) == {best_of: "supported"}
    assert verdicts(recorded, best_of) == {best_of: "not yet run"}
    order = "SHD: HetSyn > HetNeu > ALIF > LIF"
    assert verdicts(recorded, order) == {order: "supported"}
    assert {r.run["task_spec"]["data_set"] for r in made} == {"synthesised"}
