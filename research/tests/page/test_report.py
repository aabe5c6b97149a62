"""The report from made-up results: missing runs named, the same bytes again; and the page of the kept results."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from research.catalog import EXPERIMENTS
from research.claims.rules import Group
from research.page import report
from research.page.pictures import Pictures
from research.runs.plan import PAPER
from research.runs.results import RESULTS, add_to_file, read_folder, rounded
from research.tests.made_up_results import ANALYSIS, made_up, runs_of

ALL = [
    *made_up("hetsyn", 0.997),
    *made_up("hetsyn", 0.997, condition=PAPER),
    *made_up("hetneu", 0.8),
    *made_up("alif", 0.7),
    *made_up("homneu", 0.6),
]


def test_the_page_is_the_same_again_and_says_what_is_missing(tmp_path: Path) -> None:
    five = made_up("hetsyn", 0.9, condition=f"{PAPER}-hidden-5")
    results = [*ALL, *five, *made_up("hetsyn", 0.98, condition=f"{PAPER}-delay-2500")]
    for name, order in (("a", results), ("b", list(reversed(results)))):
        add_to_file(order, tmp_path / name / "kept" / "delayed-match.json.gz")
        report.build(read_folder(tmp_path / name / "kept"), tmp_path / name / "experiments.md")
    page = (tmp_path / "a/experiments.md").read_text()
    assert page == (tmp_path / "b/experiments.md").read_text()
    pictures = sorted(path.name for path in (tmp_path / "a/experiments").iterdir())
    for name in pictures:
        assert (tmp_path / "a/experiments" / name).read_bytes() == (tmp_path / "b/experiments" / name).read_bytes()
        assert f"experiments/{name}" in page
    assert "Not yet run: `python -m research vision-rows`" in page
    assert "| base | HetSyn | recurrent | 20 | 3 of 5 | **99.8 ± 0.1%** |" in page
    assert {f"delayed-match-paper-{what}.png" for what in ("learning-recurrent", "success-recurrent", "delay")} <= set(
        pictures
    )
    assert "| 40 ms | 3 | +275% | +275% | -50% | -50% | 10.0 ± 0.0% | 99.8 ± 0.1% | 70.0 ± 0.0% |" in page


def test_the_papers_figures_of_pattern_generation(tmp_path: Path) -> None:
    trace = {"target": [0.0, 0.5], "outputs": [[0.0, 0.4], [0.1, 0.5]]}
    analysis = ANALYSIS | {"distance": 0.8, "gaps": {"output": 0.1, "target": 0.4}}
    both, feedforward = (PAPER, f"{PAPER}-noise-4"), (f"{PAPER}-rate-1e-4", f"{PAPER}-targets-3")
    groups = [(name, True) for name in both] + [(name, False) for name in (*both, *feedforward)]
    results = [
        replace(run, curve=[[50, 0.1, 0.2], [100, 0.1, 0.1]])
        for condition, recurrent in groups
        for model in ("hetsyn", "homneu")
        for run in runs_of(
            Group("pattern-generation", condition, model, recurrent),
            (0.1, 0.2, 0.1),
            analysis=analysis | {"traces": [trace] * (3 if condition.endswith("targets-3") else 1)},
        )
    ]
    report.build(results, tmp_path / "experiments.md")
    page = (tmp_path / "experiments.md").read_text()
    assert "| HetSyn | recurrent | 3 | 0.80 ± 0.00 | 0.25 ± 0.00 |" in page
    for what in ("learning-recurrent", "traces-recurrent", "noise-feedforward", "noise", "rates", "targets"):
        assert (tmp_path / f"experiments/pattern-generation-paper-{what}.png").stat().st_size > 1000


def test_the_page_in_the_repository_is_that_of_the_kept_results() -> None:
    pictures = Pictures(report.PAGE.stem)
    page = report.compose(read_folder(RESULTS), pictures)
    assert page == report.PAGE.read_text()
    kept = {path.name for path in report.PAGE.with_suffix("").iterdir()}
    assert set(pictures.drawings) == kept
    assert re.search(r"\b\d+ of [\d,]+ runs of the plan are finished", page) is not None
    assert "Finished: 0 of 0" not in page
    shd = page[page.index("## shd\n") : page.index("## shd-recorded\n")]
    assert "lesions are tested on the first 64 test streams, banks and weights on the first 32" in shd


def test_an_experiment_without_changed_inputs_has_no_table_of_banks(tmp_path: Path) -> None:
    results = runs_of(Group("resonance-rows", "base", "alif"), [0.84, 0.85, 0.86])
    report.build(results, tmp_path / "experiments.md")
    assert not (tmp_path / "experiments").exists()  # no pictures
    page = (tmp_path / "experiments.md").read_text()
    assert "| base | ALIF | recurrent | 128-64 | 3 of 8 | **85.0" in page


def test_pictures_of_results_that_are_gone_go_too(tmp_path: Path) -> None:
    report.build(ALL, tmp_path / "experiments.md")
    report.build([], tmp_path / "experiments.md")
    assert not (tmp_path / "experiments").exists()


def test_numbers_are_kept_with_six_digits() -> None:
    assert rounded({"a": [0.123456789, 3, "x"]}) == {"a": [0.123457, 3, "x"]}


def test_a_part_that_is_run_later_takes_nothing_from_the_kept_file(tmp_path: Path) -> None:
    path = tmp_path / "delayed-match.json.gz"
    add_to_file(made_up("hetsyn", 0.9), path)
    add_to_file(made_up("alif", 0.8), path)
    add_to_file([], path)
    assert [result.run["model"] for result in read_folder(tmp_path)] == ["alif"] * 3 + ["hetsyn"] * 3
    assert [path.name] == [each.name for each in tmp_path.iterdir()]


def test_a_run_of_another_plan_takes_no_place_of_one_of_this_plan(tmp_path: Path) -> None:
    new = made_up("hetsyn", 0.9)
    old = [replace(r, run=r.run | {"training": r.run["training"] | {"updates": 7}}) for r in new]
    for results in (new, old, new):
        add_to_file(results, tmp_path / "delayed-match.json.gz")
    assert [r.run["training"]["updates"] for r in read_folder(tmp_path)] == [1000, 7] * 3


def test_processes_that_keep_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "delayed-match.json.gz"
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
    add_to_file(ALL, tmp_path / "delayed-match.json.gz")
    back = read_folder(tmp_path)
    assert len(back) == len(ALL)
    assert {result.run["model"] for result in back} == {"hetsyn", "hetneu", "alif", "homneu"}
    assert back[0] == replace(back[0])


def test_every_experiment_says_what_was_scaled_down() -> None:
    assert set(EXPERIMENTS) <= set(report.SCALED)
