"""The report from made-up results: verdicts by their rules, missing runs named, the same bytes again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments import report
from experiments.catalog import EXPERIMENTS
from experiments.plan import BASE, PAPER, Cell, ChosenSettings, final_runs
from experiments.results import RunResult, add_to_file, read_folder, rounded
from experiments.verdicts import Finding, clearly_above, findings

ANALYSIS: dict[str, Any] = {
    "deletion": [[0.0, 0.9], [0.5, 0.7]],
    "warp": [[-0.5, 0.6], [0.0, 0.9], [0.5, 0.7]],
    "noise": [[0.0, 0.9], [10.0, 0.95], [40.0, 0.6]],
    "bank": [
        {"form": "exact", "figure": 0.9, "spike_mismatch": 0.0, "kernel_error": 0.0, "state_bytes": 5000},
        {"form": "bank", "size": 8, "largest": 8, "figure": 0.895, "spike_mismatch": 0.1, "kernel_error": 0.01}
        | {"state_bytes": 500},
    ],
    "weights": [
        {"form": "bank", "weights": weights, "figure": figure, "spike_mismatch": 0.0, "weight_bytes": 100}
        for weights, figure in (("float32", 0.9), ("int8", 0.8))
    ],
    "time_constants": {
        group: {
            when: {"counts": [1] * 22, "median": tau, "log_mean": tau}
            for when, tau in (("before", 8.0), ("after", after))
        }
        for group, after in (("cue", 30.0), ("noise", 4.0))
    },
    "lesion": [
        {"share": 0.1, "which": which, "figure": figure}
        for which, figure in (("longest", 0.6), ("shortest", 0.9), ("random", 0.85))
    ],
}


def made_up(model: str, mean: float, seeds: int = 3, condition: str = BASE) -> list[RunResult]:
    experiment = EXPERIMENTS["delayed-match"]()
    chosen = dict.fromkeys((BASE, "hidden-5"), ChosenSettings(5e-3, 8.0))
    runs = final_runs(experiment, Cell(model, True), chosen)  # type: ignore[arg-type]
    return [
        RunResult(
            *(run.to_dict(), "accuracy", mean + 0.001 * run.seed, 0.1, mean, 0.1, 900, 4.0, 8000),
            bank_sizes={"hidden1": 8, "readout": 8},
            kernel_error=1e-2,
            state_bytes={"exact": 5000, "bank": 500},
            seconds=60.0,
            machine="a test",
            curve=[[50, 0.7, 0.5], [100, 0.1, mean]],
            analysis=ANALYSIS if condition in (BASE, PAPER) else {},
        )
        for run in runs
        if run.condition == condition and run.seed < seeds
    ]


BEST = "HetSyn is the best of the four: delayed-match, recurrent, equal search"


def verdict(results: list[RunResult], claim: str) -> Finding:
    return next(finding for finding in findings(results) if finding.claim.startswith(claim))


ALL = [
    *made_up("hetsyn", 0.997),
    *made_up("hetsyn", 0.997, condition=PAPER),
    *made_up("hetneu", 0.8),
    *made_up("alif", 0.7),
    *made_up("homneu", 0.6),
]


def test_nothing_has_run_yet() -> None:
    assert {finding.verdict for finding in findings([])} == {"not yet run", "not testable here"}


def test_two_seeds_are_not_enough() -> None:
    found = verdict(made_up("hetsyn", 0.997, seeds=2, condition=PAPER), "HetSyn solves delayed match")
    assert found.verdict == "not yet run"
    assert "2 of 3 seeds" in found.numbers


def test_verdicts_follow_from_the_numbers() -> None:
    assert verdict(ALL, "HetSyn solves delayed match").verdict == "reproduced"
    assert verdict(ALL, BEST).verdict == "reproduced"
    assert verdict(ALL, "Time constants of cue channels grow").verdict == "reproduced"
    assert verdict(ALL, "The long time constants carry the memory").verdict == "reproduced"
    assert verdict(ALL, "A bank of 8 decays is as good").verdict == "reproduced"
    assert verdict(ALL, "The bank's weights fit in 8 bits: delayed-match").verdict == "not reproduced"
    assert verdict(ALL, "HetSyn is the most robust to louder").numbers.startswith("HetSyn 75.0")  # 10 Hz is no change
    # all four have the same curve
    assert verdict(ALL, "HetSyn is the most robust to deleted spikes").verdict == "not reproduced"


def test_a_model_that_is_as_good_spoils_being_the_best() -> None:
    results = [
        *made_up("hetsyn", 0.9),
        *made_up("hetsyn", 0.9, condition=PAPER),
        *made_up("hetneu", 0.9),
        *made_up("alif", 0.7),
        *made_up("homneu", 0.6),
    ]
    assert verdict(results, BEST).verdict == "not reproduced"
    assert verdict(results, "HetSyn solves delayed match").verdict == "not reproduced"


def test_clearly_above_is_judged_seed_by_seed() -> None:
    assert clearly_above([0.9, 0.5, 1.0], [0.8, 0.4, 0.88])  # always a tenth, however seeds differ
    assert not clearly_above([0.9, 0.5, 1.0], [0.8, 0.6, 0.88])
    assert not clearly_above([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])


def test_models_are_compared_on_the_seeds_that_all_have() -> None:
    lucky = [replace(r, figure=1.0) if r.run["seed"] > 2 else r for r in made_up("alif", 0.4, 5, "hidden-5")]
    results = [*made_up("hetsyn", 0.9, 3, "hidden-5"), *made_up("hetneu", 0.5, 5, "hidden-5"), *lucky]
    results += made_up("homneu", 0.4, 5, "hidden-5")
    found = verdict(results, "HetSyn is the best of the four: delayed-match, recurrent, hidden-5")
    assert found.verdict == "reproduced"
    assert "ALIF 40.1 ± 0.1%" in found.numbers


def test_the_page_is_the_same_again_and_says_what_is_missing(tmp_path: Path) -> None:
    results = [*ALL, *made_up("hetsyn", 0.9, condition="hidden-5"), *made_up("hetsyn", 0.98, condition="delay-2000")]
    for name, order in (("a", results), ("b", list(reversed(results)))):
        add_to_file(order, tmp_path / name / "kept" / "delayed-match.json")
        report.build(read_folder(tmp_path / name / "kept"), tmp_path / name / "experiments.md")
    page = (tmp_path / "a/experiments.md").read_text()
    assert page == (tmp_path / "b/experiments.md").read_text()
    pictures = sorted(path.name for path in (tmp_path / "a/experiments").iterdir())
    assert "delayed-match-base-tau.png" in pictures
    for name in pictures:
        assert (tmp_path / "a/experiments" / name).read_bytes() == (tmp_path / "b/experiments" / name).read_bytes()
        assert f"experiments/{name}" in page
    assert "Not yet run: `hetsyn experiment vision-pixels`" in page
    assert "| base | HetSyn | recurrent | 100 | 3 of 3 | **99.8 ± 0.1%** |" in page


def test_pictures_of_results_that_are_gone_go_too(tmp_path: Path) -> None:
    report.build(ALL, tmp_path / "experiments.md")
    report.build([], tmp_path / "experiments.md")
    assert not (tmp_path / "experiments").exists()


def test_numbers_are_kept_with_six_digits() -> None:
    assert rounded({"a": [0.123456789, 3, "x"]}) == {"a": [0.123457, 3, "x"]}


def test_a_part_that_is_run_later_takes_nothing_from_the_kept_file(tmp_path: Path) -> None:
    path = tmp_path / "delayed-match.json"
    add_to_file(made_up("hetsyn", 0.9), path)
    add_to_file(made_up("alif", 0.8), path)
    add_to_file([], path)
    assert [result.run["model"] for result in read_folder(tmp_path)] == ["alif"] * 3 + ["hetsyn"] * 3
    assert [path.name] == [each.name for each in tmp_path.iterdir()]


def test_a_run_of_the_same_place_in_a_new_plan_replaces_the_old_one(tmp_path: Path) -> None:
    new = made_up("hetsyn", 0.9)
    old = [replace(r, run=r.run | {"training": r.run["training"] | {"updates": 7}}) for r in new]
    add_to_file(old, tmp_path / "delayed-match.json")
    add_to_file(new[:1], tmp_path / "delayed-match.json")
    assert [r.run["training"]["updates"] for r in read_folder(tmp_path)] == [500, 7, 7]


def test_processes_that_keep_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "delayed-match.json"
    every = [result for model in ("hetsyn", "hetneu", "alif", "homneu") for result in made_up(model, 0.9, seeds=5)]
    with ThreadPoolExecutor(8) as pool:  # flock holds between open files, so threads are as good as processes
        list(pool.map(lambda result: add_to_file([result], path), every))
    assert read_folder(tmp_path) == sorted(every, key=lambda result: result.key)


def test_results_of_another_plan_are_left_out_and_counted(tmp_path: Path) -> None:
    old = [replace(r, run=r.run | {"training": r.run["training"] | {"updates": 7}}) for r in made_up("hetsyn", 0.5)]
    foreign = [replace(r, run=r.run | {"task_spec": {"gone": 1}}) for r in made_up("alif", 0.5)]
    report.build([*old, *foreign], tmp_path / "experiments.md")
    page = (tmp_path / "experiments.md").read_text()
    assert "Left out: 6 results" in page
    assert "50.0" not in page


def test_results_of_one_file_come_back(tmp_path: Path) -> None:
    add_to_file(ALL, tmp_path / "delayed-match.json")
    back = read_folder(tmp_path)
    assert len(back) == len(ALL)
    assert {result.run["model"] for result in back} == {"hetsyn", "hetneu", "alif", "homneu"}
    assert back[0] == replace(back[0])


def in_spikes(name: str, mean: float, model: str) -> list[RunResult]:
    experiment = EXPERIMENTS[name]()
    (run, *_) = final_runs(experiment, Cell(model, True), {BASE: ChosenSettings(5e-3, 12.5)})  # type: ignore[arg-type]
    like = made_up(model, mean)[0]
    return [replace(like, run=replace(run, seed=seed).to_dict(), figure=mean + 0.001 * seed) for seed in range(3)]


def test_the_synthesised_digits_are_never_taken_for_shd() -> None:
    means = {"hetsyn": 0.9, "hetneu": 0.8, "alif": 0.7, "homneu": 0.6}
    made, recorded = (
        [r for model, mean in means.items() for r in in_spikes(name, mean, model)] for name in ("shd", "shd-recorded")
    )

    def verdicts(results: list[RunResult], start: str) -> dict[str, str]:
        return {row.claim: row.verdict for row in findings(results) if row.claim.startswith(start)}

    assert verdicts(made, "SHD") == {"SHD: HetSyn 92.4%, ordering of the four": "not testable here"}
    best = "HetSyn is the best of the four: shd"
    assert verdicts(made, best) == {f"{best} (synthesised voices, not SHD), recurrent, equal search": "reproduced"}
    assert set(verdicts(recorded, best).values()) == {"not yet run"}
    assert verdicts(recorded, "SHD") == {}
    assert verdicts(recorded, "shd-recorded") == {"shd-recorded: HetSyn > HetNeu > ALIF > LIF": "reproduced"}
    assert {r.run["task_spec"]["data_set"] for r in made} == {"synthesised"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_what_was_scaled_down(name: str) -> None:
    assert name in report.SCALED
