"""The alerts: Prometheus takes the rules, and each fires when it should and not in a case near to it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.repository.prometheus import ALERTS
from tests.support.tools import NO_PROMETHEUS, PROMTOOL

CASES = Path(__file__).with_name("alerts.yml")
NAMES = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.process
@pytest.mark.parametrize("arguments", [("check", "rules", ALERTS), ("test", "rules", CASES)], ids=["check", "test"])
def test_promtool(arguments: tuple[str, str, Path]) -> None:
    if PROMTOOL is None:
        pytest.skip(NO_PROMETHEUS)
    run = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    cases = yaml.safe_load(CASES.read_text())["tests"]
    expected = [rule["exp_alerts"] for case in cases for rule in case["alert_rule_test"] if rule["alertname"] == name]
    assert any(expected)
    assert not all(expected)
