"""Kept results: a table an experiment, to which every process adds its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from research.runs.results import add_to_file, read_file, rounded
from research.tests.made_up_results import made_up

EVERY = [run for model in ("hetsyn", "hetneu", "alif", "homneu") for run in made_up(model, 0.9, seeds=5)]


def test_numbers_are_kept_with_six_digits() -> None:
    assert rounded({"a": [0.123456789, 3, "x"]}) == {"a": [0.123457, 3, "x"]}


def test_the_order_in_which_results_come_changes_no_byte(tmp_path: Path) -> None:
    for name, order in (("a", EVERY), ("b", EVERY[::-1])):
        add_to_file(order, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_part_that_is_run_later_takes_nothing_from_the_kept_file(tmp_path: Path) -> None:
    path = tmp_path / "delayed-match.json.gz"
    add_to_file(made_up("hetsyn", 0.9), path)
    add_to_file(made_up("alif", 0.8), path)
    add_to_file([], path)
    assert [result.run["model"] for result in read_file(path)] == ["alif"] * 3 + ["hetsyn"] * 3
    assert [path.name] == [each.name for each in tmp_path.iterdir()]


def test_a_run_of_another_plan_takes_no_place_of_one_of_this_plan(tmp_path: Path) -> None:
    new = made_up("hetsyn", 0.9)
    old = [replace(r, run=r.run | {"training": r.run["training"] | {"updates": 7}}) for r in new]
    for results in (new, old, new):
        add_to_file(results, tmp_path / "delayed-match.json.gz")
    assert [r.run["training"]["updates"] for r in read_file(tmp_path / "delayed-match.json.gz")] == [1000, 7] * 3


def test_processes_that_keep_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "delayed-match.json.gz"
    with ThreadPoolExecutor(8) as pool:  # flock holds between open files, so threads are as good as processes
        list(pool.map(lambda result: add_to_file([result], path), EVERY))
    assert read_file(path) == sorted(EVERY, key=lambda result: result.key)
