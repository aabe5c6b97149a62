"""Bounds, verdicts, and what an error of an attack comes to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.long.hostile.__main__ import chosen
from tests.long.hostile.case import Bound, Case, Figure, Skipped, Verdict, at_least, at_most, exactly, judge, measure
from tests.long.hostile.cases import CASES
from tests.long.hostile.stage import Checkout, Stage
from tests.support.paths import ROOT
from tests.support.server_process import ServerError

CHECKOUT = Checkout(ROOT, Path(sys.executable))


def case(attack: Callable[[Stage], Mapping[str, Figure]]) -> Case:
    return Case("a-case", "It breaks.", attack, {"peak_mib": at_most(10), "status": exactly("200")})


@pytest.mark.parametrize(
    ("bound", "kept", "broken"),
    [
        (at_most(10), (10, 9.9, 0, -1), (10.1, 11, "", "9")),
        (at_least(10), (10, 11.5), (9.9, 0, "11")),
        (exactly(0), (0, 0.0), (1, -1, "0")),
        (exactly("200"), ("200",), ("", "503", 200)),
    ],
)
def test_a_bound(bound: Bound, kept: tuple[Figure, ...], broken: tuple[Figure, ...]) -> None:
    assert all(bound.holds(figure) for figure in kept)
    assert not any(bound.holds(figure) for figure in broken)


def test_a_case_is_held_if_every_bound_is_kept() -> None:
    one = case(lambda stage: {})  # noqa: ARG005
    assert judge(one, {"peak_mib": 10, "status": "200", "more": 5}, 1.0).verdict is Verdict.held
    measured = judge(one, {"peak_mib": 11.0, "status": "503"}, 1.0)
    assert measured.verdict is Verdict.broken
    assert measured.reason == "peak_mib is 11.0, not <= 10; status is 503, not = 200"
    assert "status is missing" in judge(one, {"peak_mib": 1}, 1.0).reason


def test_what_an_attack_starts_ends_with_it_whatever_it_meets(tmp_path: Path) -> None:
    ended = []

    def fails(stage: Stage) -> Mapping[str, Figure]:
        stage.finally_call(lambda: ended.append("first"))
        stage.finally_call(lambda: ended.append("second"))
        raise ServerError("the server ended with -9\nand more")

    measured = measure(case(fails), CHECKOUT, tmp_path, is_quick=True)
    assert (measured.verdict, measured.reason) == (Verdict.broken, "ServerError: the server ended with -9")
    assert ended == ["second", "first"]


def test_a_case_that_cannot_run_here_is_skipped_with_the_reason(tmp_path: Path) -> None:
    def cannot(stage: Stage) -> Mapping[str, Figure]:  # noqa: ARG001
        raise Skipped("no haproxy")

    measured = measure(case(cannot), CHECKOUT, tmp_path, is_quick=True)
    assert (measured.verdict, measured.reason) == (Verdict.skipped, "no haproxy")


def test_names_choose_cases() -> None:
    assert chosen(CASES, ()) == list(CASES)
    assert [one.name for one in chosen(CASES, ("proxy-", "drift"))] == [
        *(one.name for one in CASES if one.name.startswith("proxy-")),
        "sessions-drift",
    ]
    with pytest.raises(SystemExit, match="no case is called nothing"):
        chosen(CASES, ("nothing",))


def test_names_are_unique() -> None:
    assert len({one.name for one in CASES}) == len(CASES)


@pytest.mark.parametrize("one", [one for one in CASES if set(one.first) & set(one.bounds)], ids=lambda one: one.name)
def test_bounds_find_the_defect_that_was_first_measured(one: Case) -> None:
    found = {name: figure for name, figure in one.first.items() if name in one.bounds}
    assert not all(one.bounds[name].holds(figure) for name, figure in found.items())


def test_options_of_a_checkout_are_known(tmp_path: Path) -> None:
    stage = Stage(CHECKOUT, tmp_path, is_quick=True)
    assert stage.has_option("--max-sessions")
    assert not stage.has_option("--max-session")


def test_a_checkout_without_an_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run make install there"):
        Checkout.at(tmp_path)
    with pytest.raises(SystemExit, match=r"there is no folder .*nowhere: name"):
        Checkout.at(tmp_path / "nowhere")
    assert Checkout(tmp_path, Path(sys.executable)).commit == "unknown"
